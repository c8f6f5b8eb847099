"""Find out what scan a spec simulates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.located import SourceError, demanded_digest, locate, nowhere
from harness.run_sources import ProbeSource, SimulatedSource
from harness.spec import RunSpec
from ptycho_torch.errors import ConfigError, DataError
from ptycho_torch.headers import ScanHeader
from ptycho_torch.simulate_config import KINDS, DetectorConfig, FileProbe, SimulateConfig

__all__ = ["Simulation", "find_simulation"]


class Simulation(NamedTuple):
    """A scan that is simulated: what is known of it, its description, and the file of its probe, if any."""

    header: ScanHeader
    source: SimulatedSource
    probe: tuple[ProbeSource, Path] | None


def find_simulation(spec: RunSpec, key: str, folders: Sequence[Path]) -> Simulation | None:
    """Find out what scan a spec simulates, and the file of its probe, if that stands in one.

    Parameters
    ----------
    spec
        The spec.
    key
        The scan, ``data.train`` or ``data.test``.
    folders
        Data folders.

    Returns
    -------
    Simulation or None
        None where the spec has been told already why there is none.

    Raises
    ------
    SourceError
        With everything that is wrong.
    """
    base = f"{key}.simulate"
    if _is_file_named_wrongly(spec, f"{base}.probe", folders):
        return None
    blocks = {name: _kind(spec, f"{base}.{name}", kinds) for name, kinds in KINDS.items()}
    parts = {
        name: _made(block, spec, f"{base}.{name}")
        for name, block in {**blocks, "detector": DetectorConfig}.items()
    }
    simulate = _made(SimulateConfig, spec, base, **parts)
    probe, simulate = _probe(spec, f"{base}.probe", simulate, folders)
    _demand_object(spec, base, simulate)
    header = ScanHeader(
        file=None,
        N=simulate.probe.N,
        n_frames=simulate.n_frames,
        n_squares=simulate.n_squares,
        units="count_amplitude",
        are_units_stated=True,
        object_shape=simulate.object.shape_px,
    )
    return Simulation(header, SimulatedSource(simulate), probe)


def _made(block: type[Any], spec: RunSpec, key: str, **parts: Any) -> Any:
    """Build one block of a simulation of what is given in it; a contradiction is told at its first value."""
    try:
        return block(**{name: value.value for name, value in spec.leaves(key).items()}, **parts)
    except ConfigError as error:
        sentences = "\n".join(problem.split(": ", 1)[-1] for problem in error.problems)
        raise SourceError(sentences, f"{key}.{error.keys[0]}") from error


def _demand_object(spec: RunSpec, base: str, simulate: SimulateConfig) -> None:
    """Refuse an object that is too small for the scan, at the value that was given; refused ones are told."""
    need, size, key = simulate.needed_object_px, simulate.object.size_px, f"{base}.object.size_px"
    if need <= size or any(problem.key.startswith(f"{base}.") for problem in spec.problems):
        return
    sizes = [*_SIZE_OF_A_SCAN[simulate.scan.kind], "step_px"]
    sizes += ["position_error_px"] if simulate.scan.position_error_px else []
    *others, last = (f"scan.{field}" for field in sizes)
    cure = f"or lower {', '.join(others)} or {last}"
    given = [("scan", field) for field in spec.leaves(f"{base}.scan") if field != "kind"]
    given += [("probe", "N")] if spec.find(f"{base}.probe.N") else []
    is_set = [one for one in given if ".".join((base, *one)) in spec.sets]
    if key in spec.sets or not (is_set or (given and key not in spec.written)):
        raise SourceError(f"is {size}, but the scan needs an object of {need:g} px: enlarge it, {cure}", key)

    def need_by_default(part: str, field: str) -> float:
        block = getattr(simulate, part)
        fields = {field, "square_px"} if field == "step_px" else {field}  # these go together
        defaults = {one.name: one.default for one in dataclasses.fields(block) if one.name in fields}
        changed = {part: dataclasses.replace(block, **defaults)}
        return dataclasses.replace(simulate, **changed).needed_object_px

    part, field = min(is_set or given, key=lambda one: need_by_default(*one))
    value = getattr(getattr(simulate, part), field)
    sentence = f"is {value:g}, so the scan needs an object of {need:g} px, but object.size_px is {size}"
    raise SourceError(f"{sentence}: enlarge that, {cure}", f"{base}.{part}.{field}")


def _is_file_named_wrongly(spec: RunSpec, block: str, folders: Sequence[Path]) -> bool:
    """Demand file and digest of a probe that stands in a file, and say whether one was refused before."""
    absent = [key for key in ("file", "sha256") if spec.find(f"{block}.{key}") is None]
    if spec.get(f"{block}.kind") != "file" or not absent:
        return False
    if any(f"{block}.{key}" in spec.keys for key in absent):
        return True
    if "file" in absent:
        sentence = "is file, which needs probe.file, an NPZ file with probeGuess, and its sha256: add them"
        raise SourceError(sentence, f"{block}.kind")
    name, place = str(spec.get(f"{block}.file")), f"{block}.file"
    path = locate(name, spec.folder, folders, place)
    if path is None:
        raise SourceError(nowhere(name, spec.folder, folders), place)
    digest = demanded_digest(name, path, None, place, place)
    raise SourceError(f"needs its digest beside it: add sha256: {digest}", place)


def _probe(
    spec: RunSpec, block: str, simulate: SimulateConfig, folders: Sequence[Path]
) -> tuple[tuple[ProbeSource, Path] | None, SimulateConfig]:
    """Find the probe's file, if there is one; of its path the name is kept: a folder is the machine's."""
    wanted, place = simulate.probe, f"{block}.file"
    if not isinstance(wanted, FileProbe):
        return None, simulate
    from ptycho_torch.readers.stored_probe import stored_probe  # NumPy is for who has a file

    path = locate(wanted.file, spec.folder, folders, place)
    if path is None:
        raise SourceError(nowhere(wanted.file, spec.folder, folders), place)
    digest = demanded_digest(wanted.file, path, wanted.sha256, place, f"{block}.sha256")
    try:
        stored_probe(path, wanted.N, wanted.n_modes)
    except DataError as error:
        raise SourceError(str(error), place) from error
    source = ProbeSource(path.name, digest, path.stat().st_size)
    bare = dataclasses.replace(wanted, file=path.name)
    return (source, path.resolve()), dataclasses.replace(simulate, probe=bare)


_SIZE_OF_A_SCAN = {
    "raster": ("rows", "columns"),
    "fermat": ("n_positions",),
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
        raise SourceError(sentence, f"{block}.{strangers[0]}")
    return kinds[name]
