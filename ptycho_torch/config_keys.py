"""Configuration keys as people write them (flat, dotted, PtychoPINN's), and the layers made from them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from ptycho_torch.config import SECTIONS, PyTorchExecutionConfig
from ptycho_torch.config_defaults import CANONICAL_DEFAULTS
from ptycho_torch.errors import ConfigError
from ptycho_torch.layers import Layer, Value
from ptycho_torch.validation import Problems, near_miss

__all__ = [
    "ALIASES",
    "ENTRY_POINTS",
    "default_layers",
    "entry_point_layer",
    "field_keys",
    "given_layer",
    "knob_layer",
]

ALIASES: Mapping[str, str] = MappingProxyType({"nepochs": "training.epochs"})
"""PtychoPINN's name of a field to ours."""

ENTRY_POINTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "train": MappingProxyType({"training.batch_size": 4}),
        "infer": MappingProxyType({}),
    }
)
"""Defaults of each command; they name no execution knob, so that an instance's default is never beaten."""


def field_keys(sections: Iterable[str]) -> dict[str, str]:
    """Map the name of every field of these sections to its key ``section.field``."""
    return {
        field.name: f"{section}.{field.name}"
        for section in sections
        for field in dataclasses.fields(SECTIONS[section])
    }


def given_layer(name: str, given: Mapping[str, Any], sections: Iterable[str], problems: Problems) -> Layer:
    """Make a layer from what a person or a program wrote.

    Parameters
    ----------
    name
        The layer's name.
    given
        Key to plain value or :class:`Value`; keys are field names, ``section.field`` or an alias.
    sections
        The sections whose keys are legal here.
    problems
        Unknown keys, keys of another section, keys given twice and values that are not plain are noted here.
    """
    legal = tuple(sections)
    values: dict[str, Value] = {}
    written: dict[str, str] = {}
    for raw, item in given.items():
        value = item if isinstance(item, Value) else Value(item)
        key = _resolve_key(raw, legal)
        if key is None:
            problems.add(raw, f"{raw}: {_unknown(raw, legal, name)}", value.place)
            continue
        if key in written:
            problems.add(key, f"{key}: is given twice, as {written[key]} and as {raw}: keep one", value.place)
            continue
        written[key] = raw
        fault = _not_plain(value.value)
        if fault:
            problems.add(key, f"{key}: {fault}", value.place)
            continue
        alias = raw.rpartition(".")[2]
        if alias in ALIASES:
            note = f"{value.note}, alias {alias}" if value.note else f"alias {alias}"
            value = dataclasses.replace(value, note=note)
        values[key] = value
    return Layer(name, values)


def knob_layer(
    config: PyTorchExecutionConfig | None, given: Mapping[str, Value] | None, problems: Problems
) -> Layer:
    """Make the execution layer, from an instance (what differs from the defaults) or from a spec's block.

    Raises
    ------
    ConfigError
        When both are given.
    """
    if config is not None and given is not None:
        raise ConfigError(["execution_config and execution_layer are both given: give one of the two"])
    if config is not None:
        fields = dataclasses.fields(config)
        given = {
            f.name: Value(getattr(config, f.name)) for f in fields if getattr(config, f.name) != f.default
        }
    return given_layer("execution config", given or {}, ["execution"], problems)


def entry_point_layer(entry_point: str, sections: Iterable[str]) -> Layer:
    """Make the layer of a command's own defaults.

    Raises
    ------
    ConfigError
        When there is no such entry point.
    """
    if entry_point not in ENTRY_POINTS:
        hint = near_miss(entry_point, ENTRY_POINTS)
        legal = ", ".join(ENTRY_POINTS)
        raise ConfigError([f"there is no entry point named {entry_point!r}{hint} (legal: {legal})"])
    keys = set(field_keys(sections).values())
    values = {key: Value(value) for key, value in ENTRY_POINTS[entry_point].items() if key in keys}
    return Layer("entry point", values)


def default_layers(sections: Iterable[str]) -> tuple[Layer, Layer]:
    """Make the two lowest layers: the PyTorch defaults, and the PtychoPINN library's own."""
    own: dict[str, Value] = {}
    canonical: dict[str, Value] = {}
    for section in sections:
        for field in dataclasses.fields(SECTIONS[section]):
            key = f"{section}.{field.name}"
            if key in CANONICAL_DEFAULTS:
                canonical[key] = Value(CANONICAL_DEFAULTS[key])
            if field.default is not dataclasses.MISSING and "canonical" not in field.metadata:
                own[key] = Value(field.default)
    return Layer("PyTorch default", own), Layer("canonical default", canonical)


def _resolve_key(raw: str, sections: tuple[str, ...]) -> str | None:
    section, _, field = raw.rpartition(".")
    key = ALIASES.get(field) or field_keys(sections).get(field)
    if key is None or key.partition(".")[0] not in sections:
        return None
    return key if section in {"", key.partition(".")[0]} else None


def _unknown(raw: str, sections: tuple[str, ...], layer: str) -> str:
    field = raw.rpartition(".")[2]
    everywhere = field_keys(SECTIONS) | dict(ALIASES)
    if layer == "execution config" and field in everywhere:
        home = everywhere[field].partition(".")[0]
        return f"is no execution knob but belongs to {home}: give it there, as {everywhere[field]}"
    if field in everywhere:
        key = everywhere[field]
        home = key.partition(".")[0]
        if home not in sections:
            return f"belongs to {home}, which has no part in this: drop it"
        return f"stands in another section: write {key}"
    names = field_keys(sections)
    legal = [*names, *names.values(), *ALIASES]
    hint = near_miss(raw, legal) or near_miss(field, names)
    return f"does not exist{hint}" if hint else f"does not exist (legal sections: {', '.join(sections)})"


def _not_plain(value: Any) -> str | None:
    if isinstance(value, list | tuple):
        return next((fault for fault in map(_not_plain, value) if fault), None)
    if isinstance(value, float) and not math.isfinite(value):
        return f"must be finite, not {value}"
    if value is None or isinstance(value, bool | int | float | str):
        return None
    return f"must be a plain value (number, text, true, false, null or a list), not {type(value).__name__}"
