"""What a run folder is made of."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.store import BEGUN, INPUTS, JOURNAL, LOCK, MANIFEST, PROGRESS, file_digest, remove_durably
from ptycho_torch.durable import is_unfinished_write, sync_folder

__all__ = [
    "leftovers",
    "recorded_files",
    "remove_leftovers",
    "saved_states",
    "strangers",
    "sync_files",
    "unfinished_writes",
]

_STATES = "checkpoints/resume-"
_HIDDEN, _UNFINISHED = ".", ".tmp"
_LOGS = "logs/"
_NOT_PART_OF_THE_RECORD = {BEGUN, INPUTS, JOURNAL, LOCK, MANIFEST, PROGRESS}


def recorded_files(run_dir: Path, beginnings: tuple[str, ...] = ("",)) -> dict[str, dict[str, Any]]:
    """List the files that a run is made of, by relative path, with sha256 and size.

    What is still written after the manifest, describes this machine only, or is there to be continued from is
    left out.

    Parameters
    ----------
    run_dir
        The run folder.
    beginnings
        Beginnings of the paths to list.
    """
    files = {}
    for relative, path in _entries(run_dir):
        if relative.startswith(beginnings) and not _is_left_over(relative) and _is_plain(path):
            files[relative] = {"sha256": file_digest(path), "size": path.stat().st_size}
    return files


def leftovers(run_dir: Path) -> tuple[str, ...]:
    """Name what a run that has come to its end has no use for.

    These are states to continue from, and files that a death left unfinished.
    """
    return tuple(relative for relative, _ in _entries(run_dir) if _is_left_over(relative))


def saved_states(run_dir: Path) -> dict[int, Path]:
    """Return the states that a training can be continued from, by the optimizer steps done then."""
    found = run_dir.glob(f"{_STATES}*.ckpt")
    return {int(path.stem.rpartition("-")[2]): path for path in found}


def unfinished_writes(run_dir: Path) -> tuple[str, ...]:
    """Name what deaths left of files that were being written durably."""
    return tuple(
        relative for relative, path in _entries(run_dir) if _is_plain(path) and is_unfinished_write(path.name)
    )


def remove_leftovers(run_dir: Path) -> None:
    """Remove what a run that has come to its end has no use for."""
    for name in leftovers(run_dir):
        remove_durably(run_dir / name)


def strangers(run_dir: Path) -> tuple[str, ...]:
    """Name links and other entries that no run writes; loggers may put links beside their files."""
    return tuple(
        relative
        for relative, path in _entries(run_dir)
        if not _is_plain(path) and not relative.startswith(_LOGS)
    )


def _entries(run_dir: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(run_dir.rglob("*")):
        relative = path.relative_to(run_dir).as_posix()
        is_folder = path.is_dir() and not path.is_symlink()
        if not is_folder and relative not in _NOT_PART_OF_THE_RECORD:
            yield relative, path


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _is_left_over(relative: str) -> bool:
    name = relative.rpartition("/")[2]
    return relative.startswith(_STATES) or (name.startswith(_HIDDEN) and name.endswith(_UNFINISHED))


def sync_files(run_dir: Path, names: Iterable[str]) -> None:
    """Make files of a run folder durable, whoever wrote them, and every folder that holds one."""
    folders = {run_dir}
    for name in names:
        with (run_dir / name).open("rb") as file:
            os.fsync(file.fileno())
        folders.update((run_dir / name).parents[: len(Path(name).parts)])
    for folder in sorted(folders):
        sync_folder(folder)
