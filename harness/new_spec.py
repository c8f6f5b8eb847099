"""A commented spec for a data file, ready to run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from harness.errors import UserError
from harness.fitting import open_positions
from harness.sources import data_folders
from harness.spec_template import ASSUMED_POSITIONS, spec_text
from harness.store import file_digest, write_durably
from ptycho_torch.headers import read_header

__all__ = ["write_spec"]


def write_spec(scan: Path, output: Path | None, note: Callable[[str], None] = lambda sentence: None) -> Path:
    """Write a spec for a scan and return where it stands.

    Parameters
    ----------
    scan
        The data file.
    output
        The spec; by default ``<scan>.yaml`` in the current folder.
    note
        Told what the scan leaves open and the spec assumes.

    Raises
    ------
    UserError
        The spec exists already, its folder cannot be written, or the scan would be refused.
    """
    header = read_header(scan)
    if problems := header.unfit_for_far_field():
        raise UserError(f"{scan} would be refused, so no spec is written: {'; '.join(problems)}")
    spec = Path(f"{scan.name.split('.')[0]}.yaml") if output is None else output
    if spec.exists():
        raise UserError(f"{spec} exists already: name another with -o")
    folder = spec.parent.resolve()
    if not folder.is_dir():
        raise UserError(f"there is no folder {spec.parent} to write {spec.name} into")
    file = _named_from(folder, scan.resolve())
    text = spec_text(header, file=file, sha256=file_digest(scan), spec=str(spec))
    try:
        write_durably(spec, text.encode("utf-8"))
    except OSError as error:
        raise UserError(f"{spec} cannot be written ({error.strerror}): name another with -o") from error
    if (sentence := open_positions(header, ASSUMED_POSITIONS)) is not None:
        note(sentence)
    return spec


def _named_from(folder: Path, scan: Path) -> str:
    """Name a scan as a spec in a folder does: from there or a data folder down, else by the way there."""
    for place in (folder, *(one.resolve() for one in data_folders())):
        if scan.is_relative_to(place):
            return str(scan.relative_to(place))
    return os.path.relpath(scan, folder)
