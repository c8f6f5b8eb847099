"""Where things are kept that can be had again: downloads, rebuilt trees, what images say of themselves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Return the cache: ``HARNESS_CACHE``, or a folder in the user's cache folder."""
    known = os.environ if environ is None else environ
    if known.get("HARNESS_CACHE"):
        return Path(known["HARNESS_CACHE"])
    base = known.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "ptychopinn-harness"
