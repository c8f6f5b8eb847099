"""Files that a spec names: where they lie, what is wrong with them, and whose fault it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from harness.called import data_named_by, is_composed
from harness.errors import HarnessError
from harness.spec_check import near
from harness.store import file_digest

__all__ = ["AbsentError", "SourceError", "demanded_digest", "locate", "nowhere"]


class SourceError(HarnessError):
    """What is wrong with a scan, one sentence a line, and the key that it concerns."""

    def __init__(self, sentence: str, key: str) -> None:
        super().__init__(sentence)
        self.key = key


class AbsentError(SourceError):
    """There is no such file."""


def locate(name: str, spec_folder: Path, folders: Sequence[Path], place: str) -> Path | None:
    """Find a file by its path from the spec's folder or from a data folder, or there by its bare name.

    Parameters
    ----------
    name
        As it was written.
    spec_folder, folders
        Where to look.
    place
        The key that names it.

    Raises
    ------
    SourceError
        What stands there is no file, or cannot be reached.
    """
    wanted = Path(name)
    candidates = [folder / wanted for folder in (spec_folder, *folders)]
    candidates += [folder / wanted.name for folder in folders]
    for candidate in candidates:
        try:
            if candidate.is_file():
                return candidate
            exists = candidate.exists()
        except PermissionError as error:
            raise SourceError(f"{candidate} cannot be reached: {error.strerror}", place) from error
        except (OSError, ValueError) as error:  # a name too long, or one with a zero byte
            raise SourceError(f"{name!r} is no usable file name: {error}", place) from error
        if not exists and candidate.is_symlink():
            raise SourceError(f"{candidate} is a link to a file that is not there", place)
        if exists:
            kind = "a folder" if candidate.is_dir() else "no regular file"
            raise SourceError(f"{candidate} is {kind}, a scan is a file", place)
    return None


def demanded_digest(name: str, path: Path, sha256: str | None, place: str, key: str) -> str:
    """Return a file's sha256, which must be the demanded one, if any.

    Raises
    ------
    SourceError
        It is another, which concerns `key`; or the file, which `place` names, cannot be read.
    """
    try:
        digest = file_digest(path)
    except OSError as error:
        raise SourceError(f"{name} cannot be read: {error.strerror}", place) from error
    if sha256 is not None and digest != sha256:
        raise SourceError(f"{path.name} has the sha256 {digest}: it is another file, or damaged", key)
    return digest


def nowhere(name: str, spec_folder: Path, folders: Sequence[Path]) -> str:
    """Say that no folder has a file, where was looked, and what may help."""
    looked = list(dict.fromkeys(str((folder / name).parent) for folder in (spec_folder, *folders)))
    readable = (Path(folder) for folder in looked if os.access(folder, os.R_OK | os.X_OK))
    there = [path.name for folder in readable if folder.is_dir() for path in folder.iterdir()]
    where = ", ".join(looked)
    cure = "" if folders and not is_composed() else f"; give its folder by {data_named_by()}"
    return f"there is no file {name} in {where}{near(Path(name).name, there)}{cure}"
