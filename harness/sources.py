"""Find the scans that a spec names, check their digests, and read their headers."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from harness.called import called
from harness.errors import HarnessError, Problem, UserError
from harness.located import AbsentError, SourceError, demanded_digest, locate, nowhere
from harness.run_sources import ProbeSource, SimulatedSource, Source, probe_role
from harness.simulations import find_simulation
from harness.spec import RunSpec
from harness.spec_blocks import ROLES
from ptycho_torch.errors import DataError
from ptycho_torch.headers import ScanHeader, read_header

__all__ = [
    "Fetch",
    "FoundScan",
    "data_folders",
    "find_scan",
    "find_sources",
    "inputs_of",
    "lacking_files",
    "probe_sources",
]

Fetch: TypeAlias = Callable[[str, str, str], Path]
"""Downloads: address, sha256 and file name to the path of the checked file."""


@dataclass(frozen=True)
class FoundScan:
    """One scan of a spec.

    Parameters
    ----------
    header
        What is known of it; ``header.file`` is its bare name.
    path, sha256, size, url
        The file on this machine; None for a simulated scan.
    simulated
        The simulation; None for a file.
    probe
        The file that holds a simulation's probe, and where it lies; None where it stands in none.
    """

    header: ScanHeader
    path: Path | None = None
    sha256: str = ""
    size: int = 0
    url: str | None = None
    simulated: SimulatedSource | None = None
    probe: tuple[ProbeSource, Path] | None = None


def data_folders(
    options: Sequence[str | Path] = (), environ: Mapping[str, str] | None = None
) -> tuple[Path, ...]:
    """List the data folders: those of ``--data-dir``, then those of the variable ``HARNESS_DATA``."""
    stated = (os.environ if environ is None else environ).get("HARNESS_DATA", "")
    return tuple(Path(folder) for folder in (*options, *filter(None, stated.split(os.pathsep))))


def find_sources(
    spec: RunSpec, folders: Sequence[Path], fetch: Fetch | None, *, roles: Sequence[str] = ROLES
) -> tuple[dict[str, FoundScan], list[Problem], list[str]]:
    """Find every scan of a spec.

    Parameters
    ----------
    spec
        The spec.
    folders
        Data folders, most wanted first; the spec's own folder comes before them.
    fetch
        Downloads a file; None where nothing may be downloaded.
    roles
        The scans that are wanted.

    Returns
    -------
    Role to what was found, the problems, and a note for every optional scan that is absent.
    """
    found: dict[str, FoundScan] = {}
    problems: list[Problem] = []
    notes: list[str] = []
    for role in roles:
        key = f"data.{role}"
        if key not in spec.blocks:
            continue
        try:
            one = (
                _simulated(spec, key, folders)
                if f"{key}.simulate" in spec.blocks
                else _file(spec, key, folders, fetch)
            )
        except AbsentError as absent:
            if spec.get(f"{key}.required", True):
                problems.append(spec.problem(str(absent), absent.key))
            else:
                notes.append(f"{key} is left out: {absent}")
        except SourceError as error:
            problems += [spec.problem(sentence, error.key) for sentence in str(error).split("\n")]
        else:
            if one is not None:
                found[role] = one
                notes += _repeats(key, one.header)
    problems += _twice(spec, found)
    return found, problems, notes


def probe_sources(found: Mapping[str, FoundScan]) -> dict[str, Source]:
    """Return the files that hold probes of simulated scans, by their roles."""
    return {probe_role(role): one.probe[0] for role, one in found.items() if one.probe is not None}


def inputs_of(found: Mapping[str, FoundScan]) -> dict[str, str]:
    """Return where the files of scans, and of their probes, lie on this machine, by their roles."""
    scans = {role: str(one.path) for role, one in found.items() if one.path is not None}
    probes = {probe_role(role): str(one.probe[1]) for role, one in found.items() if one.probe is not None}
    return scans | probes


def find_scan(name: str, folders: Sequence[Path]) -> FoundScan:
    """Find one scan by its path, from here or from a data folder, and read its header.

    Raises
    ------
    UserError
        There is no such file, or it is no scan that a far-field model can be given.
    """
    try:
        path = locate(name, Path(), folders, "")
        if path is None:
            raise UserError(nowhere(name, Path(), folders))
        return _read_file(name, path, "data.scan", "", None)
    except SourceError as error:
        raise UserError(str(error)) from error


def lacking_files(spec: RunSpec, folders: Sequence[Path]) -> tuple[str, ...]:
    """Name each file, with its digest, that a spec needs, that no folder has and that has no public address.

    Parameters
    ----------
    spec, folders
        As for :func:`find_sources`.
    """
    lacking = []
    scans = [f"data.{role}" for role in ("train", "test", "reference")]
    for key in (*scans, *(f"{scan}.simulate.probe" for scan in scans)):
        name, digest = spec.get(f"{key}.file"), spec.get(f"{key}.sha256", "not stated")
        if name is None or spec.get(f"{key}.source") or not spec.get(f"{key}.required", True):
            continue
        try:
            is_here = locate(str(name), spec.folder, folders, key) is not None
        except SourceError:
            is_here = True  # something of that name is there, and reading the spec's data says what is wrong
        if not is_here:
            lacking.append(f"{name} (sha256 {digest})")
    return tuple(dict.fromkeys(lacking))


def _repeats(key: str, header: ScanHeader) -> list[str]:
    number = header.n_repeated_positions
    said = f"{key}: {header.name} has {number} positions that occur more than once: check that they are meant"
    return [said] if number else []


def _simulated(spec: RunSpec, key: str, folders: Sequence[Path]) -> FoundScan | None:
    made = find_simulation(spec, key, folders)
    return None if made is None else FoundScan(made.header, simulated=made.source, probe=made.probe)


def _file(spec: RunSpec, key: str, folders: Sequence[Path], fetch: Fetch | None) -> FoundScan | None:
    url, wanted, sha256 = (spec.get(f"{key}.{name}") for name in ("source", "file", "sha256"))
    place = f"{key}.file" if wanted else f"{key}.source"
    if not (url or wanted):
        return None  # the spec has been told so
    name = str(wanted or url.rsplit("/", 1)[-1])
    path = locate(name, spec.folder, folders, place)
    if path is None and url and sha256:
        if fetch is None:
            cure = called("fetch", Path(spec.path))
            raise AbsentError(f"{name} is in no data folder yet: `{cure}` downloads it from {url}", place)
        try:
            path = fetch(url, sha256, Path(name).name)
        except HarnessError as error:
            raise SourceError(str(error), place) from error
    if path is None:
        raise AbsentError(nowhere(name, spec.folder, folders), place)
    found = _read_file(name, path, key, place, sha256)
    return dataclasses.replace(found, url=url)


def _read_file(name: str, path: Path, key: str, place: str, sha256: str | None) -> FoundScan:
    digest = demanded_digest(name, path, sha256, place, f"{key}.sha256")
    try:
        header = read_header(path)
    except DataError as error:
        raise SourceError(str(error), place) from error
    except OSError as error:
        raise SourceError(f"{name} cannot be read: {error.strerror}", place) from error
    if key == "data.reference" and header.object_shape is None:
        raise SourceError(f"{path.name} holds no reference object (objectGuess)", place)
    if key != "data.reference" and (unfit := header.unfit_for_far_field()):
        raise SourceError("\n".join(f"{path.name}: {sentence}" for sentence in unfit), place)
    header = dataclasses.replace(header, file=path.name)
    return FoundScan(header, path.resolve(), digest, path.stat().st_size)


def _twice(spec: RunSpec, found: Mapping[str, FoundScan]) -> list[Problem]:
    train, test = found.get("train"), found.get("test")
    if train is None or test is None:
        return []
    same_file = train.path is not None and train.sha256 == test.sha256
    same_simulation = train.simulated is not None and train.simulated == test.simulated
    if not (same_file or same_simulation):
        return []
    cure = "give it another seed" if same_simulation else "drop it, and a fraction of the frames is held out"
    return [spec.problem(f"is the scan that is trained on, which validates nothing: {cure}", "data.test")]
