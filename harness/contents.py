"""What a run folder is made of."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.store import BEGUN, INPUTS, JOURNAL, LOCK, MANIFEST, PROGRESS, file_digest
from ptycho_torch.durable import sync_folder

__all__ = ["recorded_files", "sync_files"]

_STATES = "checkpoints/resume-"
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
    for path in sorted(run_dir.rglob("*")):
        relative = path.relative_to(run_dir).as_posix()
        hidden = any(part.startswith(".") for part in path.relative_to(run_dir).parts)
        if not relative.startswith(beginnings) or relative.startswith(_STATES):
            continue
        if not path.is_file() or path.is_symlink() or hidden or relative in _NOT_PART_OF_THE_RECORD:
            continue
        files[relative] = {"sha256": file_digest(path), "size": path.stat().st_size}
    return files


def sync_files(run_dir: Path, names: Iterable[str]) -> None:
    """Make files of a run folder durable, whoever wrote them, and every folder that holds one."""
    folders = {run_dir}
    for name in names:
        with (run_dir / name).open("rb") as file:
            os.fsync(file.fileno())
        folders.update((run_dir / name).parents[: len(Path(name).parts)])
    for folder in sorted(folders):
        sync_folder(folder)
