"""Fields that runs on record lack, and the value at which nothing is done that was not done before."""

from __future__ import annotations

import dataclasses
from typing import Any

from ptycho_torch.config import SECTIONS
from ptycho_torch.simulate_config import KINDS

__all__ = ["is_unused_addition"]


def is_unused_addition(key: str, value: Any) -> bool:
    """Say whether a value is that of a field made with ``added`` and does what was done before it came.

    Parameters
    ----------
    key
        ``section.field``, or ``data.ROLE.simulate.ingredient.field``; of a key that is no field the answer
        is no.
    value
        The field's value.
    """
    block, _, name = key.rpartition(".")
    return any(
        field.name == name and "added" in field.metadata and field.default == value
        for config in _configs(block)
        for field in dataclasses.fields(config)
    )


def _configs(block: str) -> tuple[type[Any], ...]:
    if block in SECTIONS:
        return (SECTIONS[block],)
    parts = block.split(".")
    is_simulated = len(parts) == 4 and parts[0] == "data" and parts[2] == "simulate"
    return tuple(KINDS.get(parts[3], {}).values()) if is_simulated else ()
