"""Files that are there whole or not at all, and that survive a loss of power."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["is_unfinished_write", "open_durably", "sync_file", "sync_folder", "sync_tree"]

_BUFFER_BYTES = 2**20
"""A checkpoint comes in many small pieces; they go to the disk in few."""


@contextmanager
def open_durably(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name only when all of it is on the disk.

    The bytes go to a temporary file in the same folder, which is synced and renamed at the end of the
    ``with`` block, and its folder synced. When the block raises, `path` stays as it was.

    Parameters
    ----------
    path
        Target file; its folder must exist, and an existing file is replaced.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb", buffering=_BUFFER_BYTES) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def is_unfinished_write(name: str) -> bool:
    """Whether a file's name is one that :func:`open_durably` gives until all is written."""
    return re.fullmatch(r"\..+\.[0-9a-f]{8}\.tmp", name) is not None


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable, so that a renamed file survives a power cut."""
    _sync(folder)


def sync_file(path: Path) -> None:
    """Make what was written to a file durable, and its name."""
    _sync(path)
    _sync(path.parent)


def sync_tree(folder: Path) -> None:
    """Make every file below a folder durable; links are not followed."""
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            if path.is_file() and not path.is_symlink():
                _sync(path)
        _sync(Path(parent))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
