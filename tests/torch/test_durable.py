from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ptycho_torch.durable import is_unfinished_write, open_durably


def test_a_file_takes_its_name_once_it_is_on_the_disk_and_then_its_folder_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    synced: list[tuple[str, int, bytes]] = []
    sync = os.fsync

    def watch(descriptor: int) -> None:
        found = os.fstat(descriptor)
        kind = "folder" if stat.S_ISDIR(found.st_mode) else "file"
        synced.append((kind, found.st_size if kind == "file" else 0, target.read_bytes()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    with open_durably(target) as stream:
        stream.write(b"first ")
        stream.write(b"second")
    assert synced == [("file", 12, b"old"), ("folder", 0, b"first second")]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_write_that_fails_keeps_the_old_file_and_no_other(
    tmp_path: Path, error: type[BaseException]
) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def write() -> None:
        with open_durably(target) as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_is_as_readable_as_any_new_file(tmp_path: Path) -> None:
    with open_durably(tmp_path / "file") as stream:
        stream.write(b"x")
    (tmp_path / "plain").touch()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("file", "plain")}
    assert len(modes) == 1


def test_the_name_of_an_unfinished_write_is_known_and_no_name_beside_it(tmp_path: Path) -> None:
    with open_durably(tmp_path / "file.npz"):
        (unfinished,) = tmp_path.iterdir()
        assert is_unfinished_write(unfinished.name)
    others = ("file.npz", ".file.npz.tmp", ".file.npz.0123abc.tmp", "file.0123abcd.tmp", ".0123abcd.tmp")
    assert not any(is_unfinished_write(name) for name in others)
