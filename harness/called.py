"""How a person calls the command line, and names a folder, from where they are; the one place that knows."""

from __future__ import annotations

import contextlib
import os
import shlex
from pathlib import Path

__all__ = ["CALLED_AS", "called", "shown"]

CALLED_AS = "HARNESS_AS"
"""Variable that holds what stands before the words of a command; compose sets it in its containers."""


def called(words: str, path: Path | None = None) -> str:
    """Return the command line that a person types.

    Parameters
    ----------
    words
        What follows ``harness``, quoted as for a shell.
    path
        The run folder or the file that follows them, if any.
    """
    last = "" if path is None else f" {shlex.quote(shown(path))}"
    return f"{os.environ.get(CALLED_AS) or 'harness'} {words}{last}"


def shown(path: Path) -> str:
    """Return a path as the user knows it: from the working folder on where it lies below it."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
