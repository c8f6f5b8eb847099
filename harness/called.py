"""How a person calls the command line, and names a folder, from where they are; the one place that knows."""

from __future__ import annotations

import contextlib
import os
import shlex
from pathlib import Path

__all__ = ["CALLED_AS", "FETCHED_AS", "called", "data_named_by", "is_composed", "shown", "way_to_fetch"]

CALLED_AS = "HARNESS_AS"
"""Variable that holds what stands before the words of a command; compose sets it in its containers."""

FETCHED_AS = "HARNESS_FETCH_AS"
"""Variable that holds the command that fetches; compose sets it in the containers that have no network."""


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


def is_composed() -> bool:
    """Tell whether the caller is compose's, who sees a container's folders under other names."""
    return bool(os.environ.get(CALLED_AS))


def data_named_by() -> str:
    """Return what names a folder with data: the options and variables that are at hand."""
    return "DATA=/folder or DATA=./folder" if is_composed() else "--data-dir or HARNESS_DATA"


def way_to_fetch() -> str | None:
    """Return the command that brings the data of a spec here, where this one has no network; else None."""
    return os.environ.get(FETCHED_AS) or None
