"""A checkpoint's archive that could be read in two ways is refused, by the harness and before torch reads."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from harness.checkpoint_file import UnreadableError, read_checkpoint
from ptycho_torch.checkpoint_parts import foreign_part
from ptycho_torch.errors import CheckpointError
from ptycho_torch.exact.checkpoint_io import DurableCheckpointIO

Parts = list[tuple[str, bytes]]


def parts_of(path: Path) -> Parts:
    with zipfile.ZipFile(path) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def moved(parts: Parts, folder: str) -> Parts:
    return [(f"{folder}/{name.partition('/')[2]}", content) for name, content in parts]


def zeros(parts: Parts) -> Parts:
    return [(name, bytes(len(content)) if "/data/" in name else content) for name, content in parts]


def with_twins_in_capitals(parts: Parts) -> Parts:
    twins = [
        (name.replace("/data/", "/DATA/"), content) for name, content in zeros(parts) if "/data/" in name
    ]
    return [*parts, *twins]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "a.ckpt"
    DurableCheckpointIO().save_checkpoint({"state_dict": {"w": torch.ones(40)}}, path)
    return path


def test_what_torch_writes_is_taken(saved: Path) -> None:
    torch.save({"state_dict": {}}, saved.parent / "by name.ckpt")
    for path in (saved, saved.parent / "by name.ckpt"):
        with zipfile.ZipFile(path) as archive:
            assert foreign_part(archive) is None


def refused(path: Path, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason):
        read_checkpoint(path)
    with pytest.raises(CheckpointError, match=rf"cannot be read \(.*{reason}"):
        DurableCheckpointIO().load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda parts: [*moved(parts, "b/a"), *moved(zeros(parts), "b")], "no part of a checkpoint"),
        (lambda parts: [*moved(zeros(parts), "b"), *moved(parts, "a")], "2 folders, not one"),
        (with_twins_in_capitals, "/DATA/0', which is no part"),
        (lambda parts: [*parts, ("archive/evil.py", b"")], "evil.py"),
        (lambda parts: [*parts, ("archive/data/", b"")], "no part of a checkpoint"),
        (lambda parts: [part for part in parts if not part[0].endswith("data.pkl")], "no data.pkl"),
    ],
    ids=["nested twin", "two folders", "twin in capitals", "a part more", "a folder", "no pickle"],
)
def test_other_parts_are_refused(saved: Path, change: Callable[[Parts], Parts], reason: str) -> None:
    changed = change(parts_of(saved))
    with zipfile.ZipFile(saved, "w") as archive:
        for name, content in changed:
            archive.writestr(name, content)
    refused(saved, reason)


def test_a_comment_is_refused(saved: Path) -> None:
    with zipfile.ZipFile(saved, "a") as archive:
        archive.comment = b"hello"
    refused(saved, "before the archive, or after it")


@pytest.mark.parametrize(("before", "after"), [(b"more", b""), (b"", b"more")])
def test_bytes_around_the_archive_are_refused(saved: Path, before: bytes, after: bytes) -> None:
    saved.write_bytes(before + saved.read_bytes() + after)
    refused(saved, "before the archive, or after it")
