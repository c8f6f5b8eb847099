"""How far a run is: one small file that the worker overwrites and the host looks at."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from harness.store import PROGRESS, utc_now

__all__ = ["read_progress", "write_progress"]


def write_progress(run_dir: Path, phase: str, **facts: float) -> None:
    """Say where the worker is; whole or not at all, but not synced: a lost line of progress costs nothing.

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
    line = json.dumps({"phase": phase, "updated": utc_now(), **known}, sort_keys=True)
    temporary = run_dir / f".{PROGRESS}.tmp"
    temporary.write_text(line, encoding="utf-8")
    temporary.replace(run_dir / PROGRESS)


def read_progress(run_dir: Path) -> dict[str, Any]:
    """Return what :func:`write_progress` wrote last; empty before that."""
    try:
        found = json.loads((run_dir / PROGRESS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found if isinstance(found, dict) else {}
