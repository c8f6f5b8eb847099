"""Layers of configuration values and the one function that decides which layer wins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ptycho_torch.errors import ConfigError

__all__ = [
    "DEFAULT_LAYERS",
    "LAYER_NAMES",
    "FrozenMapping",
    "Layer",
    "Merged",
    "Origin",
    "Place",
    "Shadowed",
    "Value",
    "freeze",
    "freeze_fields",
    "merge",
]

ValueT = TypeVar("ValueT")

LAYER_NAMES = (
    "resolved",
    "explicit override",
    "execution config",
    "trained model",
    "inferred from data",
    "entry point",
    "PyTorch default",
    "canonical default",
)
"""All layers, highest first. ``resolved`` holds what a request such as ``auto`` was turned into."""

DEFAULT_LAYERS = frozenset(LAYER_NAMES[-2:])
"""The layers that hold what nobody has said."""


@dataclass(frozen=True)
class Place:
    """A place in a text file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Value:
    """A value that one layer gives to a key.

    Parameters
    ----------
    value
        The value, plain.
    place
        Where it was written, when it stands in a file.
    note
        How it came about, when that is not plain: ``"inferred from scan.npz"``.
    """

    value: Any
    place: Place | None = None
    note: str = ""


@dataclass(frozen=True)
class Layer:
    """One source of values.

    Parameters
    ----------
    name
        One of :data:`LAYER_NAMES`.
    values
        ``section.field`` to value.
    """

    name: str
    values: Mapping[str, Value]


@dataclass(frozen=True)
class Shadowed:
    """A value that a higher layer made ineffective."""

    value: Any
    layer: str
    place: Place | None = None


@dataclass(frozen=True)
class Origin:
    """Where a resolved value comes from.

    Parameters
    ----------
    layer
        The layer that won, one of :data:`LAYER_NAMES`.
    place
        Where the value was written, when it stands in a file.
    note
        How the value came about, when that is not plain.
    shadowed
        What lower layers gave, highest first.
    """

    layer: str
    place: Place | None = None
    note: str = ""
    shadowed: tuple[Shadowed, ...] = ()


class FrozenMapping(Mapping[str, ValueT]):
    """A mapping that cannot be changed; unlike a mapping proxy it can be copied and pickled."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, ValueT]) -> None:
        self._items = dict(items)

    def __getitem__(self, key: str) -> ValueT:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"FrozenMapping({self._items!r})"


@dataclass(frozen=True)
class Merged:
    """What came out of merging: the winning value of every key, and where each comes from."""

    values: Mapping[str, Any]
    origins: Mapping[str, Origin]


def merge(layers: Sequence[Layer]) -> Merged:
    """Decide which layer's value each key takes.

    Precedence is that of :data:`LAYER_NAMES`, whatever the order of the argument; of two layers of one
    name the first given wins.

    Parameters
    ----------
    layers
        The layers, in any order.

    Raises
    ------
    ConfigError
        When a layer's name is not in :data:`LAYER_NAMES`.
    """
    unknown = [layer.name for layer in layers if layer.name not in LAYER_NAMES]
    if unknown:
        legal = ", ".join(LAYER_NAMES)
        raise ConfigError([f"there is no layer named {name!r} (legal: {legal})" for name in unknown])
    claims: dict[str, list[tuple[str, Value]]] = {}
    for layer in sorted(layers, key=lambda layer: LAYER_NAMES.index(layer.name)):
        for key, value in layer.values.items():
            claims.setdefault(key, []).append((layer.name, value))
    values, origins = {}, {}
    for key in sorted(claims):
        (name, winner), *losers = claims[key]
        values[key] = freeze(winner.value)
        shadowed = tuple(Shadowed(freeze(lost.value), layer, lost.place) for layer, lost in losers)
        origins[key] = Origin(name, winner.place, winner.note, shadowed)
    return Merged(FrozenMapping(values), FrozenMapping(origins))


def freeze_fields(instance: object, *names: str) -> None:
    """Freeze what these fields of a frozen dataclass were given; called when it is made."""
    for name in names:
        object.__setattr__(instance, name, freeze(getattr(instance, name)))


def freeze(value: Any) -> Any:
    """Turn lists into tuples and mappings into frozen ones, all the way down."""
    if isinstance(value, Mapping):
        return FrozenMapping({key: freeze(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    return value
