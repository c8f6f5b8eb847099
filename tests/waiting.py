"""Waiting for what will come, on a machine that may have much else to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["PATIENCE_S", "last_of", "until"]

PATIENCE_S = 300.0
"""How long anything that must happen may take."""

_LOOK_S = 0.01


def until(condition: Callable[[], object], what: str = "what is waited for", log: Path | None = None) -> None:
    """Wait until a condition holds; when it does not come, fail with the end of a log."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"it did not happen in {PATIENCE_S:.0f} s: {what}\n{last_of(log)}"
        time.sleep(_LOOK_S)


def last_of(log: Path | None) -> str:
    """Return the end of a log."""
    return log.read_text(errors="replace")[-5000:] if log is not None else ""
