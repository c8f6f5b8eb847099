"""Figures that a run must reach, as given on the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import UserError

__all__ = ["Requirement", "read_requirements", "unmet"]

_REQUIREMENT = re.compile(r"([\w.]+)\s*(>=|<=)\s*([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)")


@dataclass(frozen=True)
class Requirement:
    """A figure that a run must reach."""

    metric: str
    is_floor: bool
    bound: float


def read_requirements(texts: Sequence[str]) -> tuple[Requirement, ...]:
    """Read ``phase_correlation>=0.8`` and the like.

    Raises
    ------
    UserError
        A text is no such condition.
    """
    requirements = []
    for text in texts:
        match = _REQUIREMENT.fullmatch(text.strip())
        if match is None:
            raise UserError(f"--require {text!r} is no condition: write for example phase_correlation>=0.8")
        requirements.append(Requirement(match[1], match[2] == ">=", float(match[3])))
    return tuple(requirements)


def unmet(requirements: Sequence[Requirement], metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for every required figure that was not reached."""
    for wanted in requirements:
        value = metrics.get(wanted.metric)
        sign = ">=" if wanted.is_floor else "<="
        if not isinstance(value, int | float):
            yield f"{wanted.metric} was not measured, required is {sign} {wanted.bound:g}"
        elif (value < wanted.bound) if wanted.is_floor else (value > wanted.bound):
            yield f"{wanted.metric} is {value:.4g}, required is {sign} {wanted.bound:g}"
