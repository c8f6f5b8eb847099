"""Whether the frames of scan files are what their objects predict, seen before there is a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import Problem, SpecError
from harness.run_sources import FileSource
from ptycho_torch.errors import DataError

if TYPE_CHECKING:
    from harness.resolved import ResolvedRun
    from harness.spec import RunSpec

__all__ = ["held_against_objects"]


def held_against_objects(spec: RunSpec, run: ResolvedRun, inputs: Mapping[str, str]) -> ResolvedRun:
    """Hold some frames of every scan file against its object, or against the reference.

    Parameters
    ----------
    spec
        The spec, for the places, and for ``check_object``.
    run
        The run.
    inputs
        Role to the absolute path of its file.

    Returns
    -------
    ResolvedRun
        The run with a note for each object that tells little.

    Raises
    ------
    SpecError
        An object contradicts its frames, or the reference is not of these frames.
    """
    problems: list[Problem] = []
    notes: list[str] = []
    known = {
        role: (source, Path(inputs[role]))
        for role, source in run.sources.items()
        if isinstance(source, FileSource)
    }
    for role in [one for one in ("train", "test") if one in known]:
        key, files = f"data.{role}", {"scan": known[role]}
        if role == "train" and "reference" in known:
            files["reference"] = known["reference"]
        if all(source.header.object_shape is None for source, _ in files.values()):
            continue
        place = f"{key}.file" if spec.find(f"{key}.file") else f"{key}.source"
        units_key = f"{key}.units" if role == "test" or spec.find(f"{key}.units") else "data.units"
        try:
            note = _judged(key, files, units_key, is_checked=spec.get(f"{key}.check_object", True))
        except DataError as error:
            problems.append(spec.problem(str(error), place))
        else:
            notes += [f"{key}: {note}"] if note else []
    if problems:
        raise SpecError(problems)
    return dataclasses.replace(run, notes=(*run.notes, *notes))


def _judged(
    key: str, files: Mapping[str, tuple[FileSource, Path]], units_key: str, *, is_checked: bool
) -> str | None:
    from ptycho_torch.orientation import asked_rows, judge_object
    from ptycho_torch.readers import read_rows
    from ptycho_torch.reference import refuse_other_frames, with_reference

    rows = asked_rows(files["scan"][0].header.n_frames)
    if "reference" in files:
        reference = files["reference"][0]
        refuse_other_frames(reference.name, reference.header.n_frames, files["scan"][0].header.n_frames)
    scans = {
        role: read_rows(path, rows, format=one.header.format, positions=one.positions, units=one.units)
        for role, (one, path) in files.items()
    }
    are_stated = files["scan"][0].header.are_units_stated
    try:
        note = judge_object(scans["scan"], scans.get("reference"), None if are_stated else units_key)
    except DataError as error:
        if is_checked:
            raise DataError(f"{error}, or go on all the same by {key}.check_object: false") from error
        note = str(error)
    if "reference" in scans:
        with_reference(scans["scan"], scans["reference"])
    return note
