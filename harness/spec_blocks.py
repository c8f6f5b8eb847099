"""The blocks of a spec that are the run's own, beside the science's configurations."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias

from ptycho_torch import config_keys
from ptycho_torch.config import (
    DataConfig,
    InferenceConfig,
    ModelConfig,
    PyTorchExecutionConfig,
    TrainingConfig,
)
from ptycho_torch.field_types import Demands
from ptycho_torch.refine_config import RefineConfig
from ptycho_torch.simulate_config import (
    KINDS,
    DetectorConfig,
    ObjectConfig,
    ProbeConfig,
    ScanConfig,
    SimulateConfig,
)
from ptycho_torch.validation import frozen_config

__all__ = [
    "ALIASES",
    "CONFIG_SECTIONS",
    "IMAGE_CHOICE",
    "IN_TRAIN",
    "ROLES",
    "CheckpointsBlock",
    "ContainerBlock",
    "ExactnessBlock",
    "ProductsBlock",
    "RunBlock",
    "SourceBlock",
    "SpecLeaf",
    "leaf_of",
    "spec_tree",
]

Sha256 = Annotated[str, Demands(pattern=r"^[0-9a-f]{64}$")]
IMAGE_CHOICE = r"cpu|cuda|([^\s@]+@)?sha256:[0-9a-f]{64}"
"""Pattern of what may be named where an image is chosen: never a tag, which moves."""

IN_TRAIN: Mapping[str, str] = MappingProxyType(
    {"data.positions": "data.train.positions", "data.units": "data.train.units"}
)
"""Values of the science that may be written with the scan to train on, too."""

Size = Annotated[str, Demands(pattern=r"^[1-9]\d{0,5}[mg]$")]
Text = Annotated[str, Demands(min_length=1, max_length=1024)]


@frozen_config
class RunBlock:
    """The run itself.

    Parameters
    ----------
    name
        Name of the run: letters, digits, dot, dash and underscore, at most 64. Run folders carry it.
    seed
        The one seed from which everything random is drawn.
    init_from
        A run, or a checkpoint file, whose network's weights the training starts from; null: from chance.
    """

    name: Annotated[str, Demands(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    seed: Annotated[int, Demands(ge=0, le=2**32 - 1)] = 42
    init_from: Text | None = None


@frozen_config
class SourceBlock:
    """One scan: a file, a download, or (``simulate``) a simulated one.

    Parameters
    ----------
    file
        Path relative to the spec or to a data folder.
    source
        Address of a public copy (https), downloaded when no data folder has the file; needs `sha256`.
    sha256
        Digest that the file must have.
    positions, units
        As in the ``data`` block, for this file.
    check_object
        Whether frames are refused that the object in the file, or the reference, contradicts (not of
        ``reference``).
    required
        Whether the run may not start without it (``reference`` only).
    """

    file: Text | None = None
    source: Annotated[str, Demands(pattern=r"^https?://[^\s]+[^/\s]$")] | None = None
    sha256: Sha256 | None = None
    positions: Literal["ptychopinn", "center"] | None = None
    units: Literal["count_amplitude", "count_intensity", "normalized_amplitude"] | None = None
    check_object: bool = True
    required: bool = True


@frozen_config
class ExactnessBlock:
    """How far the bits must repeat.

    Parameters
    ----------
    profile
        ``strict`` (same processor class), ``portable`` (any x86-64 with AVX2 and FMA), ``portable-sse``
        (any x86-64, slow); ``auto`` is portable where it can run, else strict.
    threads
        Number of threads of the training process; part of the result, so never taken from the machine.
    """

    profile: Literal["auto", "strict", "portable", "portable-sse"] = "auto"
    threads: Annotated[int, Demands(ge=1, le=1024)] = 1


@frozen_config
class ContainerBlock:
    """What the run executes in, and how much of the machine it may take; no field changes a result.

    Parameters
    ----------
    image
        ``none``, ``cpu`` or ``cuda`` (built from this checkout), or an image by digest
        (``name@sha256:...``, ``sha256:...``).
    memory
        Most memory, such as ``512m`` or ``8g``; null: four times the estimate, at least ``4g``.
    cpus
        Most processor time, in cores; null: what threads and data workers can use.
    cpuset
        The cores it is kept on, such as ``0-3,8``; null: any.
    shm_size
        Size of ``/dev/shm``, through which data workers hand over their batches.
    pids
        Most processes and threads.
    """

    image: Annotated[str, Demands(pattern=f"^(none|{IMAGE_CHOICE})$", max_length=512)] = "none"
    memory: Size | None = None
    cpus: Annotated[float, Demands(gt=0, le=4096)] | None = None
    cpuset: Annotated[str, Demands(pattern=r"^\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*$")] | None = None
    shm_size: Size = "1g"
    pids: Annotated[int, Demands(ge=16, le=1_000_000)] = 1024


@frozen_config
class CheckpointsBlock:
    """How often a state is saved from which an interrupted run continues; no field changes a result.

    Parameters
    ----------
    every_steps
        Optimizer steps between two states; null counts no steps.
    every_seconds
        Seconds between two states; null looks at no clock.
    budget_mb
        Megabytes that these states may take, at least the newest two; they are removed when the run is done.
    """

    every_steps: Annotated[int, Demands(ge=1)] | None = None
    every_seconds: Annotated[float, Demands(ge=0)] | None = 60.0
    budget_mb: Annotated[float, Demands(ge=0)] = 1000.0


@frozen_config
class ProductsBlock:
    """What is made after training, beside the final weights.

    Parameters
    ----------
    reconstruction
        Stitch the object from the trained network's patches.
    pictures
        Draw its phase and amplitude; needs the reconstruction.
    """

    reconstruction: bool = True
    pictures: bool = True


CONFIG_SECTIONS: Mapping[str, type[Any]] = MappingProxyType(
    {
        "data": DataConfig,
        "model": ModelConfig,
        "training": TrainingConfig,
        "inference": InferenceConfig,
        "execution": PyTorchExecutionConfig,
    }
)
"""The blocks that are configurations of the science part."""

ROLES = ("train", "test", "reference")
"""What a scan is for."""

ALIASES: Mapping[str, str] = MappingProxyType(
    {f"{key.partition('.')[0]}.{alias}": key for alias, key in config_keys.ALIASES.items()}
)
"""PtychoPINN's names that a spec accepts, with ours."""


class SpecLeaf:
    """The type of one value of a spec: a field of a block.

    Parameters
    ----------
    block, field
        The dataclass and the name of its field.
    """

    def __init__(self, block: type[Any], field: str) -> None:
        self.block = block
        self.field = field


Tree: TypeAlias = Mapping[str, "SpecLeaf | Tree"]


def _leaves(block: type[Any], *, without: tuple[str, ...] = ()) -> dict[str, SpecLeaf | Tree]:
    return {name: SpecLeaf(block, name) for name in block.__dataclass_fields__ if name not in without}


def _leaves_of_kinds(shared: type[Any], ingredient: str) -> dict[str, SpecLeaf | Tree]:
    """Return the keys of all kinds; which of them belong to the chosen kind is judged when it is known."""
    found: dict[str, SpecLeaf | Tree] = {}
    for block in (shared, *KINDS[ingredient].values()):
        found = {**_leaves(block), **found}
    return {name: found[name] for name in sorted(found, key=lambda name: name != "kind")}


@functools.cache
def spec_tree() -> Tree:
    """Return every legal key of a spec: blocks as mappings, values as leaves."""
    simulate: dict[str, SpecLeaf | Tree] = {
        **_leaves(SimulateConfig),
        "object": _leaves_of_kinds(ObjectConfig, "object"),
        "probe": _leaves_of_kinds(ProbeConfig, "probe"),
        "scan": _leaves_of_kinds(ScanConfig, "scan"),
        "detector": _leaves(DetectorConfig),
    }
    optional = _leaves(SourceBlock)
    scan = {name: leaf for name, leaf in optional.items() if name != "required"}
    reference = {name: leaf for name, leaf in optional.items() if name != "check_object"}
    sections = {name: _leaves(block) for name, block in CONFIG_SECTIONS.items()}
    for alias, name in ALIASES.items():
        section, field = name.split(".")
        sections[section][alias.split(".")[1]] = SpecLeaf(CONFIG_SECTIONS[section], field)
    roles = {
        "train": {**scan, "simulate": simulate},
        "test": {**scan, "simulate": simulate},
        "reference": reference,
    }
    return {
        **_leaves(RunBlock),
        **sections,
        "data": {**roles, **sections["data"]},
        "exactness": _leaves(ExactnessBlock),
        "container": _leaves(ContainerBlock),
        "checkpoints": _leaves(CheckpointsBlock),
        "products": {**_leaves(ProductsBlock), "refine": _leaves(RefineConfig)},
    }


def leaf_of(key: str) -> SpecLeaf | None:
    """Find the type of a dotted key; None when there is no such value."""
    found: Any = spec_tree()
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found if isinstance(found, SpecLeaf) else None
