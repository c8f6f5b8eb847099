"""How far the figures of a run move by rounding alone, as measured: the thresholds of a tolerance verdict."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pydantic
from pydantic import ConfigDict, TypeAdapter

from harness.errors import UserError
from harness.manifest import Manifest
from harness.outcome import flat
from harness.store import render_json, write_durably

__all__ = ["SPREADS", "Spread", "Task", "figures_of", "read_spreads", "task_of", "write_spreads"]

SPREADS = Path(__file__).with_name("spreads.json")
"""The measured table; ``benchmarks/spread.py`` writes it."""

_SAID = ("explicit override", "execution config")
"""Layers of what somebody said: a run is the same task although a newer version knows one default more."""
_ELSEWHERE_TOO = ("name", "seed", "exactness.", "container.", "checkpoints.", "products.pictures")
"""Beginnings of the resolved values that leave a run the same task."""


@dataclass(frozen=True)
class Spread:
    """How far one figure moves.

    Parameters
    ----------
    threshold
        Half-width of the interval in which the difference of two runs lies that differ in rounding alone.
    largest_by_rounding
        The largest difference that was seen between two such runs.
    deviation_by_rounding, deviation_by_seed
        Standard deviation over the ways to round, pooled over the seeds; and over the seeds, rounded one way.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    threshold: float
    largest_by_rounding: float
    deviation_by_rounding: float
    deviation_by_seed: float


@dataclass(frozen=True)
class Task:
    """What was measured of one task, and how.

    Parameters
    ----------
    spec
        Name of the spec.
    seeds, ways
        The seeds, and the profiles and thread counts that each was run under.
    freedom
        Degrees of freedom of the pooled variance, from which the thresholds are.
    torch, cpu
        Version of torch and model of the processor.
    figures
        Name of a figure to its spread.
    left_out
        Seeds that were tried and are not among them, because a run of theirs collapsed.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    spec: str
    seeds: tuple[int, ...]
    ways: tuple[str, ...]
    freedom: int
    torch: str
    cpu: str
    figures: Mapping[str, Spread]
    left_out: tuple[int, ...] = ()


@functools.cache
def _adapter() -> TypeAdapter[dict[str, Task]]:
    return TypeAdapter(dict[str, Task])


def read_spreads(path: Path = SPREADS) -> dict[str, Task]:
    """Read the measured spreads, by :func:`task_of`; none where there is no table.

    Raises
    ------
    UserError
        The file holds something else.
    """
    if not path.is_file():
        return {}
    try:
        return _adapter().validate_json(path.read_bytes())
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path} is no table of spreads: {where}: {first['msg']}") from error


def write_spreads(path: Path, tasks: Mapping[str, Task]) -> None:
    """Write the measured spreads."""
    write_durably(path, render_json(_adapter().dump_python(dict(tasks), mode="json")))


def task_of(manifest: Manifest) -> str:
    """Digest what a spec says, apart from seed, exactness and where it executes, and its data."""
    files = {record.role: record.sha256 for record in manifest.data if record.size is not None}
    left_out = (*_ELSEWHERE_TOO, *(f"data.{role}." for role in files))
    values = {
        key: leaf.value
        for key, leaf in manifest.resolved.items()
        if leaf.source in _SAID and not key.startswith(left_out)
    }
    return hashlib.sha256(render_json({"values": values, "data": files})).hexdigest()


def figures_of(manifest: Manifest) -> dict[str, float]:
    """Return every figure of a run that is a finite number, by its dotted name."""
    return {
        name.removeprefix("metrics."): float(value)
        for name, value in flat("metrics", manifest.metrics).items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
