"""From a spec and an executor's inventory to a resolved run. Only makes layers; ``layers.merge`` decides."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.contradiction import held_against_objects
from harness.errors import Problem, SpecError
from harness.fitting import assumed, misfits
from harness.inventory import Inventory
from harness.probing import probe_container, probe_execution, probe_profile
from harness.resolved import INIT_FROM, REFINE, SOURCE_KEYS, Exactness, ResolvedRun
from harness.run_sources import FileSource, Source
from harness.sources import Fetch, FoundScan, find_sources, inputs_of, probe_sources
from harness.spec import RunSpec, is_from_option
from harness.spec_blocks import (
    IN_TRAIN,
    CheckpointsBlock,
    ContainerBlock,
    ExactnessBlock,
    ProductsBlock,
    RunBlock,
)
from harness.trained import find_network, unfit
from ptycho_torch.config_factory import create_training_payload
from ptycho_torch.errors import ConfigError
from ptycho_torch.headers import ScanHeader
from ptycho_torch.layers import Layer, Merged, Origin, Place, Value, merge
from ptycho_torch.payloads import InferencePayload, TrainingPayload
from ptycho_torch.refine_config import RefineConfig
from ptycho_torch.simulate_config import KINDS, SimulateConfig

__all__ = ["Resolution", "own_leaves", "refinement_of", "resolve", "resolved_run"]

_OWN_BLOCKS: Mapping[str, type[Any]] = {
    "": RunBlock,
    "exactness": ExactnessBlock,
    "container": ContainerBlock,
    "checkpoints": CheckpointsBlock,
    "products": ProductsBlock,
}
_FROM_DATA = ("data.positions", "data.units", "model.N")
"""Values that a scan tells where the spec does not."""
_INGREDIENTS = (*KINDS, "detector")


@dataclass(frozen=True)
class Resolution:
    """A resolved run, and where its data lie on this machine.

    Parameters
    ----------
    run
        The run; nothing in it depends on the machine's folders.
    inputs
        Role to the absolute path of its file.
    """

    run: ResolvedRun
    inputs: Mapping[str, str]


def resolve(
    spec: RunSpec, inventory: Inventory, *, data_dirs: Sequence[str | Path] = (), fetch: Fetch | None = None
) -> Resolution:
    """Take every decision that a spec leaves open, and refuse what cannot run.

    Parameters
    ----------
    spec
        The spec; problems that reading it found are reported together with those found here.
    inventory
        What the executor has.
    data_dirs
        Folders in which data files are looked for, after the spec's own.
    fetch
        Downloads a file that no folder has; None where nothing may be downloaded.

    Raises
    ------
    SpecError
        Everything that is wrong, at once.
    """
    found, problems, notes = find_sources(spec, [Path(folder) for folder in data_dirs], fetch)
    accelerator, probed = probe_execution(spec, inventory)
    device = accelerator.value if accelerator.value in inventory.accelerators else "cpu"
    profile, refused = probe_profile(spec, inventory, device)
    image, unusable = probe_container(spec, inventory)
    network, unknown = find_network(spec, [Path(folder) for folder in data_dirs])
    settled = {"execution.accelerator": accelerator} if accelerator.note else {}
    payload, illegal = _payload(spec, found, settled)
    known = [*spec.problems, *problems, *probed, *refused, *unusable, *unknown]
    if payload is not None and network is not None:
        known += unfit(spec, network, payload.model)
    known += [one for one in illegal if not (_is_said(one, known) or spec.is_misspelt(one.key))]
    if known:
        raise SpecError(sorted(known, key=_position))
    if payload is None or profile is None:
        raise AssertionError("a spec without problems has a payload and a profile")
    run = resolved_run(
        own_leaves(spec, found, {"exactness.profile": profile, "container.image": image}),
        payload,
        sources={role: _source(spec, role, one, payload) for role, one in found.items()}
        | probe_sources(found)
        | ({} if network is None else {INIT_FROM: network.source}),
        notes=(*notes, *assumed(payload, found["train"].header)),
    )
    inputs = inputs_of(found) | ({} if network is None else {INIT_FROM: str(network.path)})
    return Resolution(held_against_objects(spec, run, inputs), inputs)


def resolved_run(
    own: Merged,
    payload: TrainingPayload | InferencePayload,
    sources: Mapping[str, Source],
    notes: tuple[str, ...],
) -> ResolvedRun:
    """Make a resolved run of its own values, merged, and of what its science is told."""
    blocks = {prefix: _block(own, prefix, block) for prefix, block in _OWN_BLOCKS.items()}
    return ResolvedRun(
        name=blocks[""].name,
        seed=blocks[""].seed,
        payload=dataclasses.replace(payload, origins=_without_folders(payload.origins)),
        exactness=Exactness(**vars(blocks["exactness"])),
        container=blocks["container"],
        checkpoints=blocks["checkpoints"],
        products=blocks["products"],
        refine=_block(own, REFINE, RefineConfig) if f"{REFINE}.passes" in own.values else None,
        sources=sources,
        own_values=own.values,
        own_origins=_without_folders(own.origins),
        notes=notes,
    )


def refinement_of(*layers: Mapping[str, Value]) -> tuple[RefineConfig, dict[str, Any], dict[str, Origin]]:
    """Return how an image is refined, by the first of the layers and by default, with values and origins."""
    defaults = {f"{REFINE}.{one.name}": Value(one.default) for one in dataclasses.fields(RefineConfig)}
    given = [{key: one[key] for key in defaults if key in one} for one in layers]
    own = merge([*(Layer("explicit override", one) for one in given), Layer("entry point", defaults)])
    return _block(own, REFINE, RefineConfig), dict(own.values), _without_folders(own.origins)


def _is_said(problem: Problem, known: list[Problem]) -> bool:
    """Whether a problem follows from one that is known: of the same key, or of the block around it."""
    keys = {problem.key, problem.key.rpartition(".")[0]} - {""}
    return any(one.key in keys or (not one.key and one.place == problem.place) for one in known)


def _position(problem: Problem) -> tuple[bool, int, int]:
    place = problem.place
    return (False, 0, 0) if place is None else (is_from_option(problem), place.line, place.column)


def _without_folders(origins: Mapping[str, Origin]) -> dict[str, Origin]:
    """Keep of an absolute path the file's name only: a resolved run is the same on every machine."""

    def bare(place: Place | None) -> Place | None:
        is_absolute = place is not None and Path(place.file).is_absolute()
        return dataclasses.replace(place, file=Path(place.file).name) if place and is_absolute else place

    return {
        key: dataclasses.replace(
            origin,
            place=bare(origin.place),
            shadowed=tuple(dataclasses.replace(lost, place=bare(lost.place)) for lost in origin.shadowed),
        )
        for key, origin in origins.items()
    }


def _payload(
    spec: RunSpec, found: Mapping[str, FoundScan], resolved: Mapping[str, Value]
) -> tuple[TrainingPayload | None, list[Problem]]:
    """Build the payload; where there is no scan to train on, at least find what contradicts itself."""
    train = found.get("train")
    test = _as_told(spec, found["test"].header) if "test" in found else None
    header = train.header if train else _stand_in(spec, test)
    try:
        payload = create_training_payload(
            header,
            ".",
            [_explicit(spec.sets, with_execution=True), _explicit(spec.written, with_execution=False)],
            execution_layer={
                key: value for key, value in spec.written.items() if key.startswith("execution.")
            },
            resolved=resolved,
            test_data_file=test,
        )
    except ConfigError as error:
        return None, [
            _problem(spec, sentence.removeprefix(f"{key}: "), _written_key(spec, key))
            for key, sentence in zip(error.keys, error.problems, strict=True)
        ]
    return (payload, misfits(spec, payload, found)) if train else (None, [])


def _problem(spec: RunSpec, sentence: str, key: str) -> Problem:
    place = spec.place(key)
    if spec.find(key) is None and key in _FROM_DATA:
        place = spec.place("data.train.file") or spec.place("data.train.source") or place
    return spec.problem(sentence, key, place or Place(spec.path, 1, 1))


def _written_key(spec: RunSpec, key: str) -> str:
    inner = IN_TRAIN.get(key)
    return inner if inner is not None and spec.find(key) is None and spec.find(inner) is not None else key


def _stand_in(spec: RunSpec, test: ScanHeader | None) -> ScanHeader:
    units = spec.get("data.train.units") or spec.get("data.units") or "normalized_amplitude"
    unknown = ScanHeader(file=None, N=spec.get("model.N", 64), n_frames=1 << 24, units=units)
    return unknown if test is None else dataclasses.replace(test, n_frames=unknown.n_frames)


def _explicit(values: Mapping[str, Value], *, with_execution: bool) -> dict[str, Value]:
    sections = ("data", "model", "training", "inference", *(["execution"] if with_execution else []))
    given = {
        key: value for key, value in values.items() if key.count(".") == 1 and key.split(".")[0] in sections
    }
    return given | {key: values[inner] for key, inner in IN_TRAIN.items() if inner in values}


def _as_told(spec: RunSpec, header: ScanHeader) -> ScanHeader:
    return dataclasses.replace(header, units=spec.get("data.test.units") or header.units)


def _source(spec: RunSpec, role: str, found: FoundScan, payload: TrainingPayload) -> Source:
    if found.simulated is not None:
        return found.simulated
    positions: str = payload.data.positions
    units: str = payload.data.units
    if role != "train":
        header = found.header
        positions = spec.get(f"data.{role}.positions") or header.positions or positions
        units = spec.get(f"data.{role}.units") or header.units or units
    return FileSource(
        name=str(found.header.file),
        sha256=found.sha256,
        size=found.size,
        positions=positions,
        units=units,
        header=found.header,
        url=found.url,
    )


def own_leaves(spec: RunSpec, found: Mapping[str, FoundScan], probed: Mapping[str, Value]) -> Merged:
    """Merge what is the run's own: the file and the command line over the blocks' defaults."""
    defaults, keys = {}, set()
    blocks = dict(_OWN_BLOCKS)
    if REFINE in spec.blocks:
        blocks[REFINE] = RefineConfig
    for role, one in found.items():
        if one.simulated is not None:
            base = f"data.{role}.simulate"
            blocks[base] = SimulateConfig
            parts = vars(one.simulated.simulate)
            blocks |= {f"{base}.{part}": type(parts[part]) for part in _INGREDIENTS}
        else:
            keys |= {f"data.{role}.{name}" for name in SOURCE_KEYS}
            keys -= {"data.train.positions", "data.train.units"}
    for prefix, block in blocks.items():
        for field in dataclasses.fields(block):
            key = f"{prefix}.{field.name}" if prefix else field.name
            if field.name in _INGREDIENTS and prefix.endswith("simulate"):
                continue
            keys.add(key)
            if field.default is not dataclasses.MISSING:
                defaults[key] = Value(field.default)
    settled = {key: value for key, value in probed.items() if value.note}
    if spec.get("products.reconstruction") is False and spec.get("products.pictures") is None:
        settled["products.pictures"] = Value(False, note="there is no reconstruction to draw")
    given = [
        {key: _bare_file(key, value) for key, value in layer.items() if key in keys}
        for layer in (spec.sets, spec.written)
    ]
    return merge(
        [
            Layer("resolved", settled),
            *(Layer("explicit override", values) for values in given),
            Layer("entry point", defaults),
        ]
    )


def _bare_file(key: str, value: Value) -> Value:
    is_place = key.endswith(".file") or (key == INIT_FROM and value.value is not None)
    if not is_place or not Path(value.value).is_absolute():
        return value
    return dataclasses.replace(value, value=Path(value.value).name, note="written with its absolute path")


def _block(own: Merged, prefix: str, block: type[Any]) -> Any:
    fields = [field.name for field in dataclasses.fields(block)]
    return block(**{name: own.values[f"{prefix}.{name}" if prefix else name] for name in fields})
