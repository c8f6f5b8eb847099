"""What the differences between a run and its repetition amount to. Pure functions on compared facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.compare import facts_that_differ

__all__ = ["CONDITIONS", "Verdict", "judge"]

CONDITIONS = ("inputs", "data.", "code.", "environment.", "exactness.")
"""Beginnings of the compared facts that go into a run; all others come out of it."""


@dataclass(frozen=True)
class Verdict:
    """Whether a repetition gave the same bits.

    Parameters
    ----------
    results
        Names of the compared results that differ.
    conditions
        Names of the compared conditions that differ (code, environment, data, ...).
    sentences
        One line per difference: the fact, what it was and what it is.
    """

    results: tuple[str, ...]
    conditions: tuple[str, ...]
    sentences: tuple[str, ...]

    @property
    def is_bitwise(self) -> bool:
        """Whether every compared result is the same to the last bit."""
        return not self.results

    @property
    def headline(self) -> str:
        """The verdict in one line."""
        if self.results:
            others = len(self.results) - 1
            return f"differs: {self.results[0]}" + (f" and {others} more compared facts" if others else "")
        if self.conditions:
            return f"bitwise, although {', '.join(self.conditions)} differ"
        return "bitwise"


def judge(recorded: Mapping[str, Any], repeated: Mapping[str, Any]) -> Verdict:
    """Compare the facts of a run with those of its repetition."""
    differing = facts_that_differ(recorded, repeated)
    return Verdict(
        results=tuple(name for name in differing if not name.startswith(CONDITIONS)),
        conditions=tuple(name for name in differing if name.startswith(CONDITIONS)),
        sentences=tuple(
            f"{name}: {recorded.get(name, 'absent')} -> {repeated.get(name, 'absent')}" for name in differing
        ),
    )
