"""Find the scans that a spec names, check their digests, and read their headers."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from harness.called import data_named_by, is_composed
from harness.errors import HarnessError, Problem, UserError
from harness.resolved import SimulatedSource
from harness.spec import RunSpec
from harness.spec_blocks import ROLES
from harness.spec_check import near
from harness.store import file_digest
from ptycho_torch.errors import ConfigError, DataError
from ptycho_torch.headers import ScanHeader, read_header
from ptycho_torch.simulate_config import KINDS, DetectorConfig, SimulateConfig

__all__ = ["Fetch", "FoundScan", "data_folders", "find_scan", "find_sources"]

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
    """

    header: ScanHeader
    path: Path | None = None
    sha256: str = ""
    size: int = 0
    url: str | None = None
    simulated: SimulatedSource | None = None


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
                _simulated(spec, key)
                if f"{key}.simulate" in spec.blocks
                else _file(spec, key, folders, fetch)
            )
        except _AbsentError as absent:
            if spec.get(f"{key}.required", True):
                problems.append(spec.problem(str(absent), absent.key))
            else:
                notes.append(f"{key} is left out: {absent}")
        except _SourceError as error:
            problems += [spec.problem(sentence, error.key) for sentence in str(error).split("\n")]
        else:
            if one is not None:
                found[role] = one
                notes += _repeats(key, one.header)
    problems += _twice(spec, found)
    return found, problems, notes


def find_scan(name: str, folders: Sequence[Path]) -> FoundScan:
    """Find one scan by its path, from here or from a data folder, and read its header.

    Raises
    ------
    UserError
        There is no such file, or it is no scan that a far-field model can be given.
    """
    try:
        path = _locate(name, Path(), folders, "")
        if path is None:
            raise UserError(_nowhere(name, Path(), folders))
        return _read_file(name, path, "data.scan", "", None)
    except _SourceError as error:
        raise UserError(str(error)) from error


def _repeats(key: str, header: ScanHeader) -> list[str]:
    number = header.n_repeated_positions
    said = f"{key}: {header.name} has {number} positions that occur more than once: check that they are meant"
    return [said] if number else []


class _SourceError(HarnessError):
    def __init__(self, sentence: str, key: str) -> None:
        super().__init__(sentence)
        self.key = key


class _AbsentError(_SourceError):
    pass


def _simulated(spec: RunSpec, key: str) -> FoundScan:
    base = f"{key}.simulate"
    blocks = {name: _kind(spec, f"{base}.{name}", kinds) for name, kinds in KINDS.items()}
    try:
        parts = {
            name: block(**{field: value.value for field, value in spec.leaves(f"{base}.{name}").items()})
            for name, block in {**blocks, "detector": DetectorConfig}.items()
        }
        own = {field: value.value for field, value in spec.leaves(base).items()}
        simulate = SimulateConfig(**own, **parts)
    except ConfigError as error:
        raise _SourceError(
            "\n".join(problem.split(": ", 1)[-1] for problem in error.problems), base
        ) from error
    need = simulate.needed_object_px
    if need > simulate.object.size_px:
        sentence = (
            f"is {simulate.object.size_px}, but the scan needs an object of {need:g} px: enlarge it, "
            f"or lower {_SIZE_OF_A_SCAN[simulate.scan.kind]}"
        )
        raise _SourceError(sentence, f"{base}.object.size_px")
    header = ScanHeader(
        file=None,
        N=simulate.probe.N,
        n_frames=simulate.n_frames,
        units="count_amplitude",
        are_units_stated=True,
        object_shape=(simulate.object.size_px, simulate.object.size_px),
    )
    return FoundScan(header, simulated=SimulatedSource(simulate))


_SIZE_OF_A_SCAN = {
    "raster": "scan.rows, scan.columns or scan.step_px",
    "fermat": "scan.n_positions or scan.step_px",
}


def _kind(spec: RunSpec, block: str, kinds: Mapping[str, type[Any]]) -> type[Any]:
    """Return the class of the chosen kind's options; options of other kinds are refused, all at once."""
    name = spec.get(f"{block}.kind", next(iter(kinds)))
    legal = [field.name for field in dataclasses.fields(kinds[name])]
    strangers = [field for field in spec.leaves(block) if field not in legal]
    if strangers:
        listed = ", ".join(option for option in legal if option != "kind")
        is_one = len(strangers) == 1
        fault = "is no option" if is_one else "are no options"
        cure = f"leave {'it' if is_one else 'them'} out (legal: {listed})"
        sentence = f"{', '.join(strangers)} {fault} of the kind {name}: {cure}"
        raise _SourceError(sentence, f"{block}.{strangers[0]}")
    return kinds[name]


def _file(spec: RunSpec, key: str, folders: Sequence[Path], fetch: Fetch | None) -> FoundScan | None:
    url, wanted, sha256 = (spec.get(f"{key}.{name}") for name in ("source", "file", "sha256"))
    place = f"{key}.file" if wanted else f"{key}.source"
    if not (url or wanted):
        return None  # the spec has been told so
    name = str(wanted or url.rsplit("/", 1)[-1])
    path = _locate(name, spec.folder, folders, place)
    if path is None and url and sha256:
        if fetch is None:
            raise _AbsentError(
                f"{name} is in no data folder, and nothing is downloaded here: see {url}", place
            )
        try:
            path = fetch(url, sha256, Path(name).name)
        except HarnessError as error:
            raise _SourceError(str(error), place) from error
    if path is None:
        raise _AbsentError(_nowhere(name, spec.folder, folders), place)
    found = _read_file(name, path, key, place, sha256)
    return dataclasses.replace(found, url=url)


def _read_file(name: str, path: Path, key: str, place: str, sha256: str | None) -> FoundScan:
    try:
        digest = file_digest(path)
        if sha256 is not None and digest != sha256:
            sentence = f"{path.name} has the sha256 {digest}: it is another file, or damaged"
            raise _SourceError(sentence, f"{key}.sha256")
        header = read_header(path)
    except DataError as error:
        raise _SourceError(str(error), place) from error
    except OSError as error:
        raise _SourceError(f"{name} cannot be read: {error.strerror}", place) from error
    if key == "data.reference" and header.object_shape is None:
        raise _SourceError(f"{path.name} holds no reference object (objectGuess)", place)
    if key != "data.reference" and (unfit := header.unfit_for_far_field()):
        raise _SourceError("\n".join(f"{path.name}: {sentence}" for sentence in unfit), place)
    header = dataclasses.replace(header, file=path.name)
    return FoundScan(header, path.resolve(), digest, path.stat().st_size)


def _locate(name: str, spec_folder: Path, folders: Sequence[Path], place: str) -> Path | None:
    wanted = Path(name)
    candidates = [folder / wanted for folder in (spec_folder, *folders)]
    candidates += [folder / wanted.name for folder in folders]
    for candidate in candidates:
        try:
            if candidate.is_file():
                return candidate
            exists = candidate.exists()
        except PermissionError as error:
            raise _SourceError(f"{candidate} cannot be reached: {error.strerror}", place) from error
        except (OSError, ValueError) as error:  # a name too long, or one with a zero byte
            raise _SourceError(f"{name!r} is no usable file name: {error}", place) from error
        if not exists and candidate.is_symlink():
            raise _SourceError(f"{candidate} is a link to a file that is not there", place)
        if exists:
            kind = "a folder" if candidate.is_dir() else "no regular file"
            raise _SourceError(f"{candidate} is {kind}, a scan is a file", place)
    return None


def _nowhere(name: str, spec_folder: Path, folders: Sequence[Path]) -> str:
    looked = list(dict.fromkeys(str((folder / name).parent) for folder in (spec_folder, *folders)))
    readable = (Path(folder) for folder in looked if os.access(folder, os.R_OK | os.X_OK))
    there = [path.name for folder in readable if folder.is_dir() for path in folder.iterdir()]
    where = ", ".join(looked)
    cure = "" if folders and not is_composed() else f"; give its folder by {data_named_by()}"
    return f"there is no file {name} in {where}{near(Path(name).name, there)}{cure}"


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
