"""Processes of this machine, found without any program."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["is_running", "worker_of"]


def is_running(process: int, program: str) -> bool:
    """Tell whether a process runs that program; one that has ended, waited for or not, does not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        name, _, facts = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")
        return name.partition("(")[2] == program and facts.split()[0] not in {"Z", "X"}
    return False


def worker_of(run: Path) -> int | None:
    """Return the process of this machine that is the run's worker, and not what started it."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if entry.name.isdecimal():
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if words[0].endswith(b"python") and words[2:4] == [b"harness.worker", os.fsencode(run)]:
                    return int(entry.name)
    return None
