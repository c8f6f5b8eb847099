"""The nodes of a YAML document, each with its place, and the values of plain scalars."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, TypeAlias

from ptycho_torch.layers import Place

__all__ = ["Entry", "MappingNode", "Node", "ScalarNode", "SequenceNode", "resolve_plain"]

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {text: text.lower() == "true" for text in ("true", "True", "TRUE", "false", "False", "FALSE")}
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INF = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_NAN = frozenset({".nan", ".NaN", ".NAN"})
_MAX_DIGITS = 400


@dataclasses.dataclass(frozen=True)
class ScalarNode:
    """A single value: its Python value, its text as written and whether it stood without quotes."""

    value: str | int | float | bool | None
    text: str
    is_plain: bool
    place: Place


@dataclasses.dataclass(frozen=True)
class SequenceNode:
    """A list."""

    items: tuple[Node, ...]
    place: Place

    @property
    def value(self) -> list[Any]:
        """Return the items as plain Python values."""
        return [item.value for item in self.items]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One key of a mapping with the place of the key, and its node."""

    key: str
    place: Place
    node: Node


@dataclasses.dataclass(frozen=True)
class MappingNode:
    """A mapping; its keys are text, each occurs once, in the order of the file."""

    entries: tuple[Entry, ...]
    place: Place

    @property
    def value(self) -> dict[str, Any]:
        """Return the entries as plain Python values."""
        return {entry.key: entry.node.value for entry in self.entries}


Node: TypeAlias = ScalarNode | SequenceNode | MappingNode


def resolve_plain(text: str) -> str | int | float | bool | None:
    """Give a plain scalar its value by YAML 1.2's core schema."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    for pattern, base in ((_INT, 10), (_OCTAL, 8), (_HEX, 16)):
        if pattern.fullmatch(text):
            if len(text) > _MAX_DIGITS:
                raise ValueError(f"a number of {len(text)} digits is too long (at most {_MAX_DIGITS})")
            return int(text if base == 10 else text[2:], base)
    if _FLOAT.fullmatch(text):
        return float(text)
    infinite = _INF.fullmatch(text)
    if infinite:
        return float(f"{infinite.group(1)}inf")
    return float("nan") if text in _NAN else text
