"""What is made durable in which order, noted at the calls into the operating system."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class DiskCall:
    """One call: ``sync file``, ``sync folder`` or ``rename``; the inode it concerns, and its size then."""

    what: str
    inode: int
    size: int = 0


def file_sync(path: Path) -> DiskCall:
    """Make the call that syncs a file as it now is."""
    return DiskCall("sync file", path.stat().st_ino, path.stat().st_size)


def folder_sync(path: Path) -> DiskCall:
    """Make the call that syncs a folder."""
    return DiskCall("sync folder", path.stat().st_ino)


def rename_to(path: Path) -> DiskCall:
    """Make the call that gave a file its name."""
    return DiskCall("rename", path.stat().st_ino, path.stat().st_size)


def note_disk_calls(monkeypatch: pytest.MonkeyPatch) -> list[DiskCall]:
    """Note every sync and rename of this process from now on."""
    calls: list[DiskCall] = []
    sync = os.fsync

    def noting_sync(descriptor: int) -> None:
        found = os.fstat(descriptor)
        is_folder = stat.S_ISDIR(found.st_mode)
        calls.append(
            DiskCall("sync folder", found.st_ino)
            if is_folder
            else DiskCall("sync file", found.st_ino, found.st_size)
        )
        sync(descriptor)

    def noting(rename: Any) -> Any:
        def noting_rename(source: Any, target: Any, **more: Any) -> None:
            found = Path(source).stat()
            calls.append(DiskCall("rename", found.st_ino, found.st_size))
            rename(source, target, **more)

        return noting_rename

    monkeypatch.setattr(os, "fsync", noting_sync)
    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, noting(getattr(os, name)))
    return calls
