"""Where things are kept that can be had again: downloads, rebuilt trees, what images say of themselves."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.store import write_json

__all__ = ["cache_folder", "remembered"]


def cache_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Return the cache: ``HARNESS_CACHE``, or a folder in the user's cache folder."""
    known = os.environ if environ is None else environ
    if known.get("HARNESS_CACHE"):
        return Path(known["HARNESS_CACHE"])
    base = known.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "ptychopinn-harness"


def remembered(kept: Path, keys: frozenset[str], ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return facts that never change: from the cache where it holds them, else asked for and kept there.

    Parameters
    ----------
    kept
        The file in the cache. One that is absent, damaged or too old is replaced; one that cannot be written
        costs no more than asking again.
    keys
        What must be among the facts; those that an earlier version has kept may lack some.
    ask
        Gives the facts.
    """
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(kept.read_bytes())
        if isinstance(known, dict) and keys <= known.keys():
            return known
    found = ask()
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, found)
    return found
