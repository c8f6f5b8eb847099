"""What the differences between a run and its repetition amount to. Pure functions on facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from harness.compare import facts_that_differ

if TYPE_CHECKING:
    from harness.spreads import Task
    from ptycho_torch.trace import Parting

__all__ = [
    "CONDITIONS",
    "NOT_PROMISED",
    "FigureMoved",
    "Kind",
    "Verdict",
    "allows_tolerance",
    "differing",
    "judge",
    "moved_figures",
    "parting_in_words",
]

Kind: TypeAlias = Literal["bitwise", "tolerance", "diverged", "differs", "unfinished"]

CONDITIONS = ("inputs", "data.", "code.", "environment.", "exactness.")
"""Beginnings of the compared facts that go into a run; all others come out of it."""

NOT_PROMISED = ("environment.cpu", "environment.gpu", "exactness.profile", "exactness.threads")
"""Facts that, where they differ, promise no same bits: processor (under `strict`), card, profile, threads."""

_NO_MATTER = {*NOT_PROMISED, "inputs", "environment.image"}
_WORDS = {
    "data": "the batch",
    "gradient": "the gradient's norm",
    "rate": "the learning rate",
    "loss": "the loss",
}
_WORDS |= {
    "weights": "the weights",
    "epoch": "the epoch",
    "batch": "the batch's number",
    "length": "the length",
}
_BEFORE = "before/"


@dataclass(frozen=True)
class FigureMoved:
    """How far a figure moved, and how far rounding alone was measured to move it."""

    name: str
    difference: float
    threshold: float

    @property
    def is_within(self) -> bool:
        """Whether rounding alone may be the reason; a figure that is absent, or no number, moved too far."""
        return self.difference <= self.threshold

    def __str__(self) -> str:
        sign = "within" if self.is_within else "beyond"
        return f"{self.name} moved by {self.difference:.3g}, {sign} the threshold {self.threshold:.3g}"


@dataclass(frozen=True)
class Verdict:
    """What a repetition amounts to.

    Parameters
    ----------
    results
        Names of the compared results that differ.
    conditions
        Names of the compared conditions that differ (code, environment, data, ...).
    sentences
        One line per difference: the fact, what it was and what it is.
    parting
        Where the trainings part.
    figures
        How every measured figure moved, where the same bits are not promised and spreads were measured.
    contradictions
        What is wrong with the record itself; nothing can be called the same as such a record.
    unfinished
        Which of the runs has not come to its end, in words; empty where both have.
    """

    results: tuple[str, ...]
    conditions: tuple[str, ...]
    sentences: tuple[str, ...]
    parting: Parting | None = None
    figures: tuple[FigureMoved, ...] = ()
    contradictions: tuple[str, ...] = ()
    unfinished: str = ""

    @property
    def kind(self) -> Kind:
        """``bitwise``; ``tolerance`` where that is all that is promised; else ``diverged`` or ``differs``.

        ``unfinished`` where a run was broken off and no step of it is another than the other run's.
        """
        if self.contradictions:
            return "differs"
        if self.unfinished:
            has_parted = self.parting is not None and self.parting.kind != "length"
            return "diverged" if has_parted else "unfinished"
        if not self.results and self.parting is None:
            return "bitwise"
        if self.figures and all(figure.is_within for figure in self.figures):
            return "tolerance"
        return "diverged" if self.parting is not None else "differs"

    @property
    def is_bitwise(self) -> bool:
        """Whether every compared result is the same to the last bit."""
        return self.kind == "bitwise"

    @property
    def headline(self) -> str:
        """The verdict in one line."""
        if self.contradictions:
            return f"differs: the record contradicts itself: {self.contradictions[0]}"
        if self.kind == "unfinished":
            return f"nothing is proven: {self.unfinished}"
        if self.kind == "bitwise":
            return "bitwise" + (f", although {differing(self.conditions)}" if self.conditions else "")
        if self.kind == "tolerance":
            nearest = max(self.figures, key=_used_up)
            return (
                f"tolerance: the same bits are not promised, {differing(self._not_promised)}; all "
                f"{len(self.figures)} figures are as near as rounding leaves them, {nearest}"
            )
        facts = self._facts_in_words()
        if self.parting is not None:
            return f"diverged {parting_in_words(self.parting)}" + (f"; {facts}" if facts else "")
        return facts

    @property
    def _not_promised(self) -> tuple[str, ...]:
        return tuple(name for name in self.conditions if name in NOT_PROMISED)

    def _facts_in_words(self) -> str:
        beyond = [str(figure) for figure in self.figures if not figure.is_within]
        if beyond:
            return f"differs: {'; '.join(beyond)}"
        others = len(self.results) - 1
        more = f" and {others} more compared facts" if others > 0 else ""
        return f"differs: {self.results[0]}{more}" if self.results else ""


def _used_up(figure: FigureMoved) -> float:
    return figure.difference / figure.threshold if figure.threshold else 0.0


def judge(recorded: Mapping[str, Any], repeated: Mapping[str, Any]) -> Verdict:
    """Compare the facts of a run with those of its repetition."""
    names = facts_that_differ(recorded, repeated)
    return Verdict(
        results=tuple(name for name in names if not name.startswith(CONDITIONS)),
        conditions=tuple(name for name in names if name.startswith(CONDITIONS)),
        sentences=tuple(
            f"{name}: {recorded.get(name, 'not recorded')} -> {repeated.get(name, 'not recorded')}"
            for name in names
        ),
    )


def allows_tolerance(verdict: Verdict) -> bool:
    """Tell whether processor, card or profile differ, so that no bits are promised, and nothing else does."""
    names = set(verdict.conditions)
    return not names.isdisjoint(NOT_PROMISED) and names <= _NO_MATTER


def moved_figures(
    recorded: Mapping[str, float], repeated: Mapping[str, float], measured: Task
) -> tuple[FigureMoved, ...]:
    """Say of every measured figure how far it moved; one that a run lacks has moved without bound.

    Parameters
    ----------
    recorded, repeated
        The figures of the two runs.
    measured
        The spreads that were measured of such runs.
    """

    def difference(name: str) -> float:
        is_there = name in recorded and name in repeated
        return abs(recorded[name] - repeated[name]) if is_there else float("inf")

    return tuple(
        FigureMoved(name, difference(name), spread.threshold) for name, spread in measured.figures.items()
    )


def differing(names: Sequence[str]) -> str:
    """Say that these facts or areas differ, in words that follow their number."""
    is_one = len(names) == 1 and names[0] not in {"inputs", "data"}
    return f"{', '.join(names)} {'differs' if is_one else 'differ'}"


def parting_in_words(parting: Parting) -> str:
    """Say where two trainings part: ``at step 12, the loss``, ``before step 13, tensor conv.weight``."""
    is_before = parting.kind.startswith(_BEFORE)
    what = _WORDS.get(parting.kind, f"tensor {parting.kind.removeprefix(_BEFORE)}")
    return f"{'before' if is_before else 'at'} step {parting.step + 1}, {what}"
