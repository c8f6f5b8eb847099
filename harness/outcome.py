"""What the worker leaves behind: ``outcome.json``, written by the worker last and read by the host."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import pydantic
from pydantic import ConfigDict, JsonValue, TypeAdapter

from harness.errors import HarnessError
from harness.store import OUTCOME, write_json

__all__ = [
    "ENDED",
    "CheckpointRecord",
    "Outcome",
    "OutcomeError",
    "ProductRecord",
    "Status",
    "disk_fault",
    "flat",
    "plain",
    "read_outcome",
    "status_of_fault",
    "write_outcome",
]

Status: TypeAlias = Literal["completed", "collapsed", "failed", "interrupted"]

ENDED = ("completed", "collapsed")
"""States of a run that has come to its end, so that nothing is left to do."""


class OutcomeError(HarnessError):
    """The worker wrote something else than an outcome."""


@dataclass(frozen=True)
class CheckpointRecord:
    """A checkpoint: where it is, when it was made, the monitored metric then, and its two digests."""

    path: str
    step: int
    epoch: int
    metric: float | None
    sha256: str
    tensor_digest: str


@dataclass(frozen=True)
class ProductRecord:
    """A file that the run produced for use."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Outcome:
    """How a worker ended and what it made; every path is relative to the run folder.

    Parameters
    ----------
    status, error
        How it ended, and in one sentence why it did not complete.
    data
        Role to what was read: ``sha256`` always, and shape, number of frames, units and the like.
    groups_digest, seeds
        Digest of the groups, and every seed in use.
    exactness_observed
        The exactness settings that the worker found in force.
    environment
        What the worker reports about itself: the digest of the source files that it runs.
    checkpoints, products
        Files made.
    final_tensor_digest, optimizer_digest
        Of the last state: weights, and optimizer.
    metrics, timings, collapse
        Figures; seconds; the collapse assessment.
    refinement
        From which image the refined one comes and what happened on the way; empty where none was made.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    status: Status
    error: str | None = None
    data: Mapping[str, Mapping[str, JsonValue]] = field(default_factory=dict)
    groups_digest: str | None = None
    seeds: Mapping[str, int] = field(default_factory=dict)
    exactness_observed: Mapping[str, JsonValue] = field(default_factory=dict)
    environment: Mapping[str, JsonValue] = field(default_factory=dict)
    checkpoints: tuple[CheckpointRecord, ...] = ()
    final_tensor_digest: str | None = None
    optimizer_digest: str | None = None
    products: tuple[ProductRecord, ...] = ()
    metrics: Mapping[str, JsonValue] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    collapse: Mapping[str, JsonValue] = field(default_factory=dict)
    refinement: Mapping[str, JsonValue] = field(default_factory=dict)

    @property
    def has_ended(self) -> bool:
        """Whether the run came to its end, so that nothing is left to do."""
        return self.status in ENDED


_FAULTS, _LAST_FAULT = 64, 124
"""Exit statuses that stand for an errno, between those of a shell's own programs and those of shells."""


def status_of_fault(error: OSError) -> int:
    """Return the exit status by which a worker says what kept it from writing or clearing up its files."""
    status = _FAULTS + (error.errno or 0)
    return status if status <= _LAST_FAULT else _FAULTS


def disk_fault(exit_status: int) -> str | None:
    """Say in words what a worker's exit status from :func:`status_of_fault` stands for; None for another."""
    if not _FAULTS <= exit_status <= _LAST_FAULT:
        return None
    return os.strerror(exit_status - _FAULTS) if exit_status > _FAULTS else "a fault of the disk"


@functools.cache
def _adapter() -> TypeAdapter[Outcome]:
    return TypeAdapter(Outcome)


def plain(value: Any) -> Any:
    """Make a value JSON can hold: tuples become lists, numbers that are not finite become words."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def flat(prefix: str, value: Any) -> dict[str, Any]:
    """Lay out nested mappings and lists as one mapping from dotted names to what stands there."""
    if isinstance(value, Mapping):
        return {
            name: leaf for key, item in value.items() for name, leaf in flat(f"{prefix}.{key}", item).items()
        }
    if isinstance(value, list):
        return {
            name: leaf
            for number, item in enumerate(value)
            for name, leaf in flat(f"{prefix}.{number}", item).items()
        }
    return {prefix: value}


def write_outcome(run_dir: Path, outcome: Outcome) -> None:
    """Write ``outcome.json`` durably."""
    write_json(run_dir / OUTCOME, plain(_adapter().dump_python(outcome, mode="json")))


def read_outcome(run_dir: Path) -> Outcome | None:
    """Read ``outcome.json``; None when the worker died before it could write one.

    Raises
    ------
    OutcomeError
        The worker wrote something else than an outcome.
    """
    path = run_dir / OUTCOME
    if not path.is_file():
        return None
    try:
        return _adapter().validate_json(path.read_bytes())
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise OutcomeError(f"the worker's {OUTCOME} is not an outcome: {where}: {first['msg']}") from error
