"""A resolved run: every decision taken, nothing of the machine in it, exact in JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from harness.errors import HarnessError
from harness.run_sources import CheckpointSource, FileSource, Source
from harness.spec_blocks import CONFIG_SECTIONS, ROLES, CheckpointsBlock, ContainerBlock, ProductsBlock
from harness.strict_json import Strict, read_strictly
from ptycho_torch.additions import is_unused_addition
from ptycho_torch.config import InferenceConfig
from ptycho_torch.layers import Origin, freeze_fields
from ptycho_torch.payloads import InferencePayload, TrainingPayload
from ptycho_torch.refine_config import RefineConfig

__all__ = [
    "IMAGE",
    "INIT_FROM",
    "REFINE",
    "SOURCE_KEYS",
    "Exactness",
    "ResolvedRun",
]


SOURCE_KEYS = ("file", "source", "sha256", "positions", "units", "required")
"""Keys of a scan in a spec."""

REFINE = "products.refine"
"""The block that asks for a refined image."""
IMAGE = "image"
"""The role of another run's image, from which a refinement starts."""
INIT_FROM = "init_from"
"""The key that names a network to start from, and its role."""


@dataclass(frozen=True)
class Exactness(Strict):
    """The exactness profile that the run executes under, and its number of threads."""

    profile: Literal["strict", "portable", "portable-sse"]
    threads: int


@dataclass(frozen=True)
class ResolvedRun(Strict):
    """One run, resolved: the payload of a training, or of a reconstruction, and the run's own facts.

    Parameters
    ----------
    name, seed
        The run's name and its one seed.
    payload
        Everything the training and the reconstruction are told.
    exactness, container, checkpoints, products
        The profile, what the run executes in, how often it saves a state to continue from, and what is made
        after training.
    sources
        Role (``train``, ``test``, ``reference``; ``scan``, ``model``) to where scan or network come from;
        ``image`` to the image that is refined instead of a training; ``train_probe`` to the probe's file;
        ``init_from`` to the network that the training starts from.
    own_values, own_origins
        Dotted key to value and origin, for every leaf that is the run's own and not the payload's.
    notes
        What was decided without being asked for, one sentence each.
    refine
        How the image is refined; None where it is not.
    """

    name: str
    seed: int
    payload: TrainingPayload | InferencePayload
    exactness: Exactness
    container: ContainerBlock
    checkpoints: CheckpointsBlock
    products: ProductsBlock
    sources: Mapping[str, Source]
    own_values: Mapping[str, Any]
    own_origins: Mapping[str, Origin]
    notes: tuple[str, ...] = ()
    refine: RefineConfig | None = None

    def __post_init__(self) -> None:
        freeze_fields(self, "sources", "own_values", "own_origins")

    @property
    def training(self) -> TrainingPayload:
        """What the training is told.

        Raises
        ------
        HarnessError
            The run trains nothing.
        """
        if isinstance(self.payload, InferencePayload):
            raise HarnessError(f"{self.name} is a reconstruction by a network that another run has trained")
        return self.payload

    @property
    def is_refinement(self) -> bool:
        """Whether another run's image is refined, and nothing is trained."""
        return IMAGE in self.sources

    @property
    def inference(self) -> InferenceConfig:
        """How the patches become one image."""
        return self.payload.inference

    @property
    def digest(self) -> str:
        """Return the sha256 of everything that was decided; the names of run and files are left out.

        So is a field that came later than runs on record and holds its default: the run is the same run.
        """
        decided = {
            key: value
            for key, (value, _) in self.leaves().items()
            if key not in _NOT_DECIDED and not is_unused_addition(key, value)
        }
        decided["container.image"] = _ANYWHERE
        if INIT_FROM in self.sources:  # where it lay is not decided, its weights are
            decided[INIT_FROM] = None
        data = {role: _identity(source) for role, source in self.sources.items()}
        text = json.dumps(_plain({"leaves": decided, "data": data}), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def leaves(self) -> dict[str, tuple[Any, Origin]]:
        """Return every leaf by its dotted key, with its value and its origin."""
        configs = {
            section: getattr(self.payload, "execution_config" if section == "execution" else section)
            for section in CONFIG_SECTIONS
            if section != "training" or isinstance(self.payload, TrainingPayload)
        }
        found: dict[str, tuple[Any, Origin]] = {
            key: (self.own_values[key], origin) for key, origin in self.own_origins.items()
        }
        for key, origin in self.payload.origins.items():
            section, _, field = key.partition(".")
            found[key] = (getattr(configs[section], field), origin)
        return dict(sorted(found.items()))

    def to_json(self) -> dict[str, Any]:
        """Return the run as dictionaries, lists and plain values, with its digest."""
        plain: dict[str, Any] = _plain(self)
        return {**plain, "payload": self.payload.to_json_dict(), "digest": self.digest}

    @classmethod
    def from_json(cls, given: str | bytes | Mapping[str, Any]) -> Self:
        """Make a run again from what :meth:`to_json` returned, or from its text.

        Raises
        ------
        HarnessError
            When it is no resolved run, or was altered.
        """
        try:
            values = dict(given if isinstance(given, Mapping) else json.loads(given))
        except (ValueError, TypeError) as error:
            raise HarnessError(f"the resolved run cannot be read: {error}") from error
        digest = values.pop("digest", None)
        made = read_strictly(cls, json.dumps(values), "resolved run")
        if made.digest != digest:
            raise HarnessError(
                f"the resolved run was altered: its digest is {made.digest}, {digest} is recorded"
            )
        return made


def _identity(source: Source) -> list[str] | str | None:
    if isinstance(source, FileSource):
        return [source.sha256, source.positions, source.units]
    return [source.tensor_digest] if isinstance(source, CheckpointSource) else source.sha256


_ANYWHERE = "none"
"""What a digest holds in the place of the image: a run is the same run wherever it executes."""

_NOT_DECIDED = frozenset(
    {
        "name",
        *(f"data.{role}.{key}" for role in ROLES for key in (*SOURCE_KEYS, "simulate.probe.file")),
        *(f"container.{field.name}" for field in dataclasses.fields(ContainerBlock)),
        *(f"checkpoints.{field.name}" for field in dataclasses.fields(CheckpointsBlock)),
    }
)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
