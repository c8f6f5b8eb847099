"""Runs in wholly fresh processes, through the real command line, and their deaths."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from harness.store import MANIFEST
from tests.proof.forked import ROOT
from tests.waiting import until


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "harness", *map(str, arguments)]


def surroundings(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def harness(*arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), env=surroundings(**more), capture_output=True, text=True, check=False
    )


def descendants(process: int) -> list[int]:
    """Return the processes that a process has started, and theirs."""
    with contextlib.suppress(FileNotFoundError):
        tasks = Path(f"/proc/{process}/task").iterdir()
        children = [int(word) for task in tasks for word in (task / "children").read_text().split()]
        return [*children, *(one for child in children for one in descendants(child))]
    return []


def workers_of(host: int) -> list[int]:
    """Return the workers that a host has started itself, without those that they have started."""
    found = []
    for one in descendants(host):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            parent = Path(f"/proc/{one}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]
            if int(parent) == host and b"harness.worker" in Path(f"/proc/{one}/cmdline").read_bytes():
                found.append(one)
    return found


def batches_of(run: Path) -> int:
    """Return how many batches a run has traced."""
    trace = run / "trace.jsonl"
    return trace.read_bytes().count(b"\n") if trace.is_file() else 0


def only_run(runs: Path) -> Path | None:
    found = [path for path in runs.iterdir() if path.is_dir()] if runs.is_dir() else []
    assert len(found) <= 1
    return found[0] if found else None


def killed_when(condition: Callable[[Path], bool], runs: Path, *arguments: str | Path) -> Path | None:
    """Start a command and kill all its processes when a condition holds; None when it ended before."""
    host = subprocess.Popen(
        command(*arguments), env=surroundings(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def is_due() -> bool:
        run = only_run(runs)
        return host.poll() is not None or (run is not None and condition(run))

    until(is_due)
    if host.poll() is not None:
        return None
    for process in (host.pid, *descendants(host.pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    host.wait()
    run = only_run(runs)
    return run if run is not None and not (run / MANIFEST).exists() else None
