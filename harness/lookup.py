"""Run folders by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path

from harness.called import called
from harness.errors import UserError
from harness.store import JOURNAL, MANIFEST

__all__ = ["RUNS_DIR", "find_run", "is_run", "run_folders"]

RUNS_DIR = Path("runs/_out")
"""Folder of the run folders, where no other is named."""


def is_run(path: Path) -> bool:
    """Tell whether a folder is a run folder."""
    return (path / JOURNAL).is_file() or (path / MANIFEST).is_file()


def run_folders(runs_dir: Path) -> Iterator[Path]:
    """Yield the run folders in `runs_dir`, sorted by name."""
    if runs_dir.is_dir():
        yield from sorted(path for path in runs_dir.iterdir() if path.is_dir() and is_run(path))


def find_run(run: str, runs_dir: Path | None) -> Path:
    """Find a run by its folder, or by its folder's name in `runs_dir`, or in `RUNS_DIR` where that is None.

    Raises
    ------
    UserError
        There is no such run.
    """
    runs_dir = RUNS_DIR if runs_dir is None else runs_dir
    for candidate in (Path(run), runs_dir / run):
        if candidate.is_dir() and is_run(candidate):
            return candidate.resolve()
    names = [path.name for path in run_folders(runs_dir)]
    begun = [name for name in names if run and name.startswith(run)]
    near = begun[-1:] or difflib.get_close_matches(run, names, n=1)
    hint = f", did you mean {near[0]!r}?" if near else f": see `{called('list')}`"
    raise UserError(f"there is no run {run!r}, neither as a folder nor in {runs_dir}{hint}")
