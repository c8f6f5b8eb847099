"""A commented spec for a data file, ready to run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.errors import SpecError, UserError
from harness.fitting import open_positions
from harness.placing import executor_for_spec
from harness.resolve import resolve
from harness.sources import data_folders
from harness.spec import spec_of_options, spec_of_text
from harness.spec_blocks import IN_TRAIN
from harness.spec_template import ASSUMED_POSITIONS, spec_text
from harness.store import file_digest, write_durably
from ptycho_torch.headers import read_header

__all__ = ["write_spec"]


def write_spec(
    scan: Path,
    output: Path | None,
    note: Callable[[str], None] = lambda sentence: None,
    sets: Sequence[str] = (),
) -> Path:
    """Write a spec for a scan and return where it stands.

    Parameters
    ----------
    scan
        The data file.
    output
        The spec; by default ``<scan>.yaml`` in the current folder.
    note
        Told what the scan leaves open and the spec assumes.
    sets
        Values that are written into the spec, as ``key=value``.

    Raises
    ------
    SpecError
        With everything that is wrong with `sets`.
    UserError
        The spec exists already, its folder cannot be written, or what would be written cannot be planned.
    """
    values = _given(sets)
    header = read_header(scan)
    spec = Path(f"{scan.name.split('.')[0]}.yaml") if output is None else output
    if spec.exists():
        raise UserError(f"{spec} exists already: name another with -o")
    folder = spec.parent.resolve()
    if not folder.is_dir():
        raise UserError(f"there is no folder {spec.parent} to write {spec.name} into")
    file = _named_from(folder, scan.resolve())
    written = spec_text(header, file=file, sha256=file_digest(scan), spec=str(spec), values=values)
    text = written.encode("utf-8")
    _refuse_what_cannot_be_planned(scan, text, spec)
    try:
        write_durably(spec, text)
    except OSError as error:
        raise UserError(f"{spec} cannot be written ({error.strerror}): name another with -o") from error
    is_open = "data.train.positions" not in values
    if is_open and (sentence := open_positions(header, ASSUMED_POSITIONS)) is not None:
        note(sentence)
    return spec


def _given(sets: Sequence[str]) -> dict[str, Any]:
    """Return values by their keys; what the template writes with the scan is written there."""
    given = spec_of_options("", "", {}, sets, None)
    if given.problems:
        raise SpecError(given.problems)
    return {IN_TRAIN.get(key, key): value.value for key, value in given.sets.items()}


def _refuse_what_cannot_be_planned(scan: Path, text: bytes, path: Path) -> None:
    """Plan a spec before it is handed out; its lines are no places yet, so the keys alone are named."""
    spec = spec_of_text(text, str(path))
    inventory = executor_for_spec(spec, None, is_to_run=False).inventory()
    try:
        resolve(spec, inventory, data_dirs=data_folders())
    except SpecError as error:
        said = "; ".join(f"{problem.key}: {problem.sentence}" for problem in error.problems)
        way = "a value that is named here is written by --set KEY=VALUE"
        raise UserError(f"{scan} would be refused, so no spec is written: {said}; {way}") from error


def _named_from(folder: Path, scan: Path) -> str:
    """Name a scan as a spec in a folder does: from there or a data folder down, else by the way there."""
    for place in (folder, *(one.resolve() for one in data_folders())):
        if scan.is_relative_to(place):
            return str(scan.relative_to(place))
    return os.path.relpath(scan, folder)
