"""How a field of a configuration is given its default: PtychoPINN's own, or one that moves no digest."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["CANONICAL_DEFAULTS", "added", "canonical"]

CANONICAL_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "data.nphotons": 1e9,
        "data.neighbor_count": 4,
        "model.N": 64,
        "model.gridsize": 1,
        "model.n_filters_scale": 2,
        "model.amp_activation": "sigmoid",
        "model.object_big": True,
        "model.probe_big": True,
        "training.batch_size": 16,
        "training.epochs": 60,
    }
)
"""The PtychoPINN library's own defaults, by ``section.field``."""


def canonical(key: str) -> Any:
    """Make a field whose default is the PtychoPINN library's."""
    return dataclasses.field(default=CANONICAL_DEFAULTS[key], metadata={"canonical": True})


def added(default: Any) -> Any:
    """Make a field that runs on record do not have; its default is what was done without it, and never moves.

    What identifies a run leaves it out while it holds that default (``additions.is_unused_addition``).
    """
    return dataclasses.field(default=default, metadata={"added": True})
