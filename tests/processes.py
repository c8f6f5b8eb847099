"""Processes of this machine, found without any program, and what this one may do."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["is_running", "living_worker_of", "may_mount", "worker_of"]

_SYS_ADMIN = 21
"""Number of the capability that mounting needs; uid 0 has it in no container that was not given it."""


def may_mount() -> bool:
    """Tell whether this process has the right to administer the system, and so to mount."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    [held] = [line.split()[1] for line in status.splitlines() if line.startswith("CapEff")]
    return bool(int(held, 16) >> _SYS_ADMIN & 1)


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


def living_worker_of(run: Path) -> int:
    """Return the run's worker, which must be there; number 0 would be all of the caller's own processes."""
    worker = worker_of(run)
    assert worker is not None, f"{run.name} has no worker"
    return worker
