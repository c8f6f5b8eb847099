"""How far a run is: one small file that the worker overwrites and the host looks at."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from harness.store import PROGRESS, utc_now

__all__ = ["processor_seconds", "read_progress", "spent_cpu_seconds", "write_progress"]


def processor_seconds() -> float:
    """Return the processor time that this process has spent, and its children that have ended."""
    return round(sum(os.times()[:4]), 3)


def write_progress(run_dir: Path, phase: str, **facts: float) -> None:
    """Say where the worker is, and what it has spent so far.

    Whole or not at all, but not synced: a lost line of progress costs no more than the figure.

    Parameters
    ----------
    run_dir
        The run folder.
    phase
        ``preparing``, ``training``, ``reconstructing`` or ``refining``.
    **facts
        ``step`` of ``steps``, and in training ``epoch`` of ``epochs`` and the ``loss``.
    """
    known = {name: value for name, value in facts.items() if math.isfinite(value)}
    always = {"phase": phase, "updated": utc_now(), "cpu_seconds": processor_seconds()}
    line = json.dumps({**always, **known}, sort_keys=True)
    temporary = run_dir / f".{PROGRESS}.tmp"
    temporary.write_text(line, encoding="utf-8")
    temporary.replace(run_dir / PROGRESS)


def read_progress(run_dir: Path) -> dict[str, Any]:
    """Return what :func:`write_progress` wrote last; empty before that, and where that is damaged."""
    try:
        found = json.loads((run_dir / PROGRESS).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def spent_cpu_seconds(run_dir: Path) -> float | None:
    """Return the processor time that the worker had spent when it last told; None where it did not."""
    spent = read_progress(run_dir).get("cpu_seconds")
    return spent if isinstance(spent, float) and 0 <= spent < math.inf else None
