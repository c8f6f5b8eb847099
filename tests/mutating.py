"""An error that is put on purpose into a copy of the packages, and never into the packages themselves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Mutation", "copy_with", "python_in"]

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Mutation:
    """An error: where it is put, the text that makes room for it (a pattern), and who must notice it."""

    name: str
    file: str
    pattern: str
    replacement: str
    caught_by: tuple[str, ...] = ()


def copy_with(mutation: Mutation | None, folder: Path) -> None:
    """Copy what tests need into a folder, and put an error into the copy."""
    for name in ("harness", "ptycho_torch", "tests", "docs"):
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    if mutation is None:
        return
    path = folder / mutation.file
    text, count = re.subn(mutation.pattern, mutation.replacement, path.read_text(), flags=re.DOTALL)
    assert count == 1, f"{mutation.file} has no place, or more than one, for the error: {mutation.pattern}"
    path.write_text(text)


def python_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Start Python in a copy, so that it takes the packages from there."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "HYPOTHESIS_STORAGE_DIRECTORY": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
