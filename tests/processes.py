"""Processes of this machine, found without any program."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["worker_of"]


def worker_of(run: Path) -> int | None:
    """Return the process of this machine that is the run's worker, and not what started it."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if entry.name.isdecimal():
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if words[0].endswith(b"python") and words[2:4] == [b"harness.worker", os.fsencode(run)]:
                    return int(entry.name)
    return None
