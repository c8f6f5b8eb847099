"""Simulated scans as files: what is asked for, the process that makes one, and the record beside it."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from harness.called import called, shown
from harness.errors import HarnessError, Problem, SpecError, UserError
from harness.plan import worker_environment
from harness.probing import probe_profile
from harness.resolved import Exactness
from harness.sources import find_sources
from harness.spec import RunSpec, read_spec, spec_of_options
from harness.spec_check import near
from harness.store import HOST_PID, file_digest, write_json
from harness.strict_json import Strict, read_strictly
from ptycho_torch.layers import Place, Value
from ptycho_torch.simulate_config import KINDS, SimulateConfig

if TYPE_CHECKING:
    from harness.executors.base import Executor

__all__ = [
    "PACKAGES",
    "Order",
    "SimulationRecord",
    "differences_of_makers",
    "is_record",
    "make_scan",
    "make_scan_again",
    "order_of",
    "read_record",
]

PACKAGES = ("numpy", "scipy", "scikit-image")
"""Packages whose arithmetic makes the frames."""

_SUFFIX = ".npz"
_ROLE = "train"


@dataclass(frozen=True)
class Order(Strict):
    """One scan that is to be simulated.

    Parameters
    ----------
    simulate
        Every parameter of it.
    exactness
        The profile under which it is computed.
    output
        The file to write.
    probe
        The file that holds the probe; None where it stands in none.
    """

    simulate: SimulateConfig
    exactness: Exactness
    output: str = ""
    probe: str | None = None

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read an order."""
        return read_strictly(cls, text, "order")


@dataclass(frozen=True)
class SimulationRecord(Strict):
    """What stands beside a simulated file: all that it takes to make it again, and to know it again.

    Parameters
    ----------
    file, sha256, size
        Name, digest and number of bytes of the file.
    scan_digest
        Digest of the scan's arrays: what the manifest of a run that simulates this scan itself gives.
    shape, num_modes, units, photons_per_frame, masked_pixels
        What came out; the photons are those that were counted.
    simulate, exactness
        Every parameter, and the profile it was computed under.
    source_digest, packages
        The code and the versions that made it; told, not needed.
    version
        Of this record.
    """

    file: str
    sha256: str
    size: int
    scan_digest: str
    shape: tuple[int, int, int]
    num_modes: int
    units: str
    photons_per_frame: float
    masked_pixels: int
    simulate: SimulateConfig
    exactness: Exactness
    source_digest: str
    packages: Mapping[str, str]
    version: Literal[1] = 1


def order_of(name: str, role: str, sets: Sequence[str], folders: Sequence[Path], executor: Executor) -> Order:
    """Find out what is to be simulated.

    Parameters
    ----------
    name
        A spec, the record of a scan that was simulated before, or a kind of object.
    role
        The scan of a spec: ``train`` or ``test``.
    sets
        Overrides, by keys of the block ``simulate``.
    folders
        Data folders.
    executor
        Says which exactness profile can be kept.

    Raises
    ------
    SpecError
        With everything that is wrong.
    UserError
        Nothing of that name simulates a scan.
    """
    if is_record(name):
        if sets:
            raise UserError(f"{name} records every parameter, so --set has no place beside it: leave it out")
        return _order_of_record(name, read_record(Path(name)), folders)
    base = f"data.{role}.simulate"
    given = {f"{base}.object.kind": name}
    spec = _spec_of(name, base, given, sets) if _is_kind(name) else read_spec(name, sets, block=base)
    found, problems, _ = find_sources(spec, folders, None, roles=(role,))
    profile, refused = probe_profile(spec, executor.inventory(), "cpu")
    if known := [*spec.problems, *_of_another_scan(spec, role), *problems, *refused]:
        raise SpecError(known)
    scan = found.get(role)
    if scan is None or scan.simulated is None or profile is None:
        raise UserError(
            f"{name} does not simulate data.{role}: name a spec with data.{role}.simulate, or an object "
            f"({', '.join(KINDS['object'])})"
        )
    exactness = Exactness(profile.value, spec.get("exactness.threads", 1))
    return Order(scan.simulated.simulate, exactness, probe=None if scan.probe is None else str(scan.probe[1]))


def _of_another_scan(spec: RunSpec, role: str) -> list[Problem]:
    other = "test" if role == "train" else "train"
    sentence = f"is of another scan than data.{role}: --role {other} simulates that one"
    return [spec.problem(sentence, key) for key in spec.sets if key.startswith(f"data.{other}.")]


def _order_of_record(name: str, record: SimulationRecord, folders: Sequence[Path]) -> Order:
    """Order the same again; the probe's file, if there is one, is looked for as a spec's would be."""
    base = f"data.{_ROLE}.simulate"
    given: dict[str, Any] = {}
    for key, value in _plain_record(record)["simulate"].items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        given |= {".".join(filter(None, (base, key, field))): one for field, one in inner}
    spec = _spec_of(name, base, given, ())
    found, problems, _ = find_sources(spec, folders, None, roles=(_ROLE,))
    if problems:
        raise SpecError(problems)
    probe = found[_ROLE].probe
    return Order(record.simulate, record.exactness, probe=None if probe is None else str(probe[1]))


def _is_kind(name: str) -> bool:
    if name in KINDS["object"]:
        return True
    if Path(name).suffix or os.sep in name or Path(name).exists():
        return False
    kinds = ", ".join(KINDS["object"])
    raise UserError(f"there is no object {name!r}{near(name, KINDS['object'])} (legal: {kinds}, or a spec)")


def _spec_of(name: str, base: str, given: Mapping[str, Any], sets: Sequence[str]) -> RunSpec:
    place = Place(name, 1, 1)
    written = {key: Value(value, place) for key, value in given.items()}
    spec = spec_of_options(name, "", written, sets, None, base)
    blocks = {key.rpartition(".")[0]: place for key in (base, f"{base}.seed", *given)}
    return dataclasses.replace(spec, blocks={**spec.blocks, **blocks})


def is_record(name: str | Path) -> bool:
    """Tell whether a file is the record of a simulated scan; a spec may be JSON, too."""
    path = Path(name)
    return path.suffix == ".json" and path.is_file() and b'"scan_digest"' in path.read_bytes()


def read_record(path: Path) -> SimulationRecord:
    """Read the record of a simulated scan.

    Raises
    ------
    UserError
        It is no such record, or not as it was written.
    """
    if not is_record(path):
        raise UserError(f"{path} is no record of a simulated scan: it stands beside the scan, as FILE.json")
    try:
        return read_strictly(SimulationRecord, path.read_text(encoding="utf-8"), "record")
    except HarnessError as error:
        raise UserError(f"{path} is damaged, or was altered: {error}") from error


def make_scan(order: Order, output: Path, executor: Executor) -> tuple[SimulationRecord, Path]:
    """Simulate a scan into a file and write its record beside it.

    Returns
    -------
    The record, and where it stands.

    Raises
    ------
    UserError
        One of both is there already, cannot be written, or the scan cannot be.
    """
    if output.suffix != _SUFFIX:
        raise UserError(f"{output} is no {_SUFFIX} file, and scans are written as no other: name one with -o")
    beside = output.with_suffix(".json")
    for path in (output, beside):
        if path.exists():
            raise UserError(f"{shown(path)} exists already: name another with -o")
    if not os.access(output.parent, os.W_OK):
        raise UserError(f"{output.parent} is no folder that can be written into: name another with -o")
    record = _made(order, output, executor)
    write_json(beside, _plain_record(record))
    return record, beside


def make_scan_again(
    path: Path, folders: Sequence[Path], executor: Executor
) -> tuple[SimulationRecord, SimulationRecord]:
    """Simulate a recorded scan once more, in a temporary folder; return both records."""
    recorded = read_record(path)
    order = _order_of_record(str(path), recorded, folders)
    file = path.with_name(recorded.file)
    if file.is_file() and file_digest(file) != recorded.sha256:
        cure = called(f"simulate {path} -o OTHER{_SUFFIX}")
        raise UserError(f"{shown(file)} is no longer what {path.name} records: `{cure}` makes it again")
    with tempfile.TemporaryDirectory(prefix="simulate-") as folder:
        again = _made(order, Path(folder) / recorded.file, executor)
    return recorded, again


def differences_of_makers(recorded: SimulationRecord, again: SimulationRecord) -> list[str]:
    """Say in what code and versions of two equal simulations differ."""
    said = [
        f"{name} {was} -> {again.packages.get(name, 'absent')}"
        for name, was in recorded.packages.items()
        if again.packages.get(name) != was
    ]
    return said + (["source files"] if recorded.source_digest != again.source_digest else [])


def _made(order: Order, output: Path, executor: Executor) -> SimulationRecord:
    order = dataclasses.replace(order, output=str(output.resolve()))
    settled = worker_environment(
        order.exactness.profile, order.exactness.threads, executor.caller, executor.packages
    )
    process = subprocess.run(
        [executor.python, "-m", "harness.simulator"],
        input=json.dumps(_plain_record(order)),
        stdout=subprocess.PIPE,
        text=True,
        env={**settled, HOST_PID: str(os.getpid())},
        cwd="/",
        check=False,
    )
    if process.returncode == -signal.SIGKILL:
        raise HarnessError("the simulation was killed (SIGKILL), often for want of memory")
    if process.returncode != 0:
        raise HarnessError(f"the simulation ended with status {process.returncode}: see above")
    answer: dict[str, Any] = json.loads(process.stdout)
    if "refused" in answer:
        raise UserError(answer["refused"])
    told = {**answer, "shape": tuple(answer["shape"])}
    return SimulationRecord(output.name, simulate=order.simulate, exactness=order.exactness, **told)


def _plain_record(one: Order | SimulationRecord) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(type(one)).dump_python(one, mode="json")
