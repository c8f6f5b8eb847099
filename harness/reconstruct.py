"""From a run that trained a network, and another scan, to the resolved run of a reconstruction."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import Problem, SpecError, UserError
from harness.manifest import CheckpointRecord
from harness.probing import probe_container, probe_execution, probe_profile
from harness.resolve import own_leaves, resolved_run
from harness.run import Job
from harness.run_sources import CheckpointSource, FileSource, Source
from harness.sources import FoundScan, find_scan
from harness.spec import RunSpec, spec_of_options
from harness.trained import kept_network
from ptycho_torch.config_factory import create_inference_payload
from ptycho_torch.errors import ConfigError
from ptycho_torch.layers import Value
from ptycho_torch.payloads import InferencePayload, TrainingPayload

if TYPE_CHECKING:
    from harness.inventory import Inventory
    from harness.recorded import Recorded
    from harness.resolved import ResolvedRun

__all__ = ["options_of", "reconstruction_job"]

_COMMAND = "harness reconstruct"
_LAST = "checkpoints/last.ckpt"
_SECTIONS = ("data", "model", "inference", "execution")
_OWN = ("name", "exactness", "container", "products.pictures")


def options_of(trained: Recorded, data: str, sets: Sequence[str], device: str | None) -> RunSpec:
    """Read the options of a reconstruction, as a spec that gives nothing but a name and the threads.

    Parameters
    ----------
    trained
        The run that trained the network.
    data
        The scan, as it was named.
    sets, device
        The options.
    """
    name = f"{trained.resolved.name[:31]}-on-{Path(data).name.split('.')[0][:28]}".rstrip(".-")
    given = {"run": trained.path.name, "data": Path(data).name, "set": list(sets), "device": device}
    written = {
        "name": Value(name, note=f"after {trained.path.name} and the scan"),
        "seed": Value(trained.resolved.seed, note=f"as in {trained.path.name}"),
        "exactness.threads": Value(trained.resolved.exactness.threads, note=f"as in {trained.path.name}"),
    }
    text = f"# {_COMMAND}: what it was told, as JSON\n{json.dumps(given, indent=1)}\n"
    spec = spec_of_options(_COMMAND, text, written, sets, device)
    problems = [*spec.problems]
    for key in spec.sets:
        if key.split(".")[0] not in _SECTIONS and not key.startswith(_OWN):
            problems.append(spec.problem("has no part in a reconstruction: drop it", key))
        elif key.startswith("data.") and key.count(".") > 1:
            problems.append(spec.problem("names another scan: the scan is given beside the run", key))
    return dataclasses.replace(spec, problems=tuple(problems))


def reconstruction_job(
    trained: Recorded, data: str, spec: RunSpec, inventory: Inventory, folders: Sequence[Path]
) -> Job:
    """Resolve the reconstruction of a scan by the network that a run has trained.

    Parameters
    ----------
    trained
        The run.
    data
        Path of the scan, from here or from a data folder.
    spec
        What :func:`options_of` returned.
    inventory
        What the executor has.
    folders
        Data folders.

    Raises
    ------
    SpecError
        With everything that is wrong with the options, or in which the scan does not fit the network.
    UserError
        The run has no network to give, or there is no such scan.
    DamagedError
        The network's file is not what the run recorded.
    """
    kept = _checkpoint(trained)
    path = trained.path / kept.path
    scan = find_scan(data, folders)
    accelerator, problems = probe_execution(spec, inventory)
    profile, refused = probe_profile(spec, inventory, str(accelerator.value))
    image, unfit = probe_container(spec, inventory)
    payload, illegal = _payload(trained, path, scan, spec, accelerator)
    known = [*spec.problems, *problems, *refused, *unfit, *illegal]
    if known or payload is None or profile is None:
        raise SpecError(known)
    sources: dict[str, Source] = {
        "scan": _source(scan, payload),
        "model": CheckpointSource(
            kept.path,
            trained.path.name,
            kept.sha256,
            path.stat().st_size,
            kept.tensor_digest,
            has_collapsed=trained.manifest.status == "collapsed",
        ),
    }
    own = own_leaves(spec, {}, {"exactness.profile": profile, "container.image": image})
    resolved: ResolvedRun = resolved_run(own, payload, sources, _notes(trained, scan))
    return Job(resolved, spec.text, {"scan": str(scan.path), "model": str(path)})


def _checkpoint(trained: Recorded) -> CheckpointRecord:
    if not isinstance(trained.resolved.payload, TrainingPayload):
        run = trained.resolved.sources["model"]
        raise UserError(
            f"{trained.path.name} trained nothing, it used {run.name} of another run: name that run"
        )
    return kept_network(trained.path, trained.manifest)


def _payload(
    trained: Recorded, path: Path, scan: FoundScan, spec: RunSpec, accelerator: Value
) -> tuple[InferencePayload | None, list[Problem]]:
    explicit = {
        key: value
        for key, value in spec.sets.items()
        if key.count(".") == 1 and key.split(".")[0] in _SECTIONS
    }
    settled: Mapping[str, Value] = {"execution.accelerator": accelerator} if accelerator.note else {}
    try:
        payload = create_inference_payload(
            path, scan.header, ".", [explicit], resolved=settled, trained=trained.resolved.training
        )
    except ConfigError as error:
        return None, [
            spec.problem(sentence.removeprefix(f"{key}: "), key)
            for key, sentence in zip(error.keys, error.problems, strict=True)
        ]
    return dataclasses.replace(payload, model_path=_LAST), []


def _source(scan: FoundScan, payload: InferencePayload) -> FileSource:
    return FileSource(
        name=str(scan.header.file),
        sha256=scan.sha256,
        size=scan.size,
        positions=payload.data.positions,
        units=payload.data.units,
        header=scan.header,
    )


def _notes(trained: Recorded, scan: FoundScan) -> tuple[str, ...]:
    notes = []
    if trained.manifest.status != "completed":
        notes.append(f"{trained.path.name} is {trained.manifest.status}: its network may be good for nothing")
    if (number := scan.header.n_repeated_positions) > 0:
        notes.append(f"{scan.header.name} has {number} positions that occur more than once")
    return tuple(notes)
