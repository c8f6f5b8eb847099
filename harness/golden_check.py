"""Three lanes that tell whether a run still comes to what it came to. Pure functions on runs and goldens.

`A/B`: twice in this job, the same bits. `golden`: the same bits as the golden of this key. `tolerance`:
published figures, within what rounding was measured to move them. A lane that could not be run is told,
never passed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from harness.compare import facts_that_differ
from harness.errors import ExitCode
from harness.golden import Golden, GoldenFile, Key, Published, predecessor, reasons, trace_of
from harness.verdict import FigureMoved, Verdict, judge
from ptycho_torch.trace import find_parting

__all__ = ["Check", "Lane", "Report", "Status", "ab_lane", "golden_lane", "moved", "tolerance_lane"]

Status: TypeAlias = Literal["holds", "differs", "missing", "not measured"]

_MOST = 20


@dataclass(frozen=True)
class Check:
    """One thing that a lane looked at, and what it found."""

    name: str
    status: Status
    sentence: str


@dataclass(frozen=True)
class Lane:
    """One of the three lanes.

    Parameters
    ----------
    name
        ``A/B``, ``golden`` or ``tolerance``.
    headline
        What it found, in one sentence.
    checks
        Everything that it looked at.
    moved, why
        What is not what it was, old to new; and what was changed that may be the reason.
    """

    name: str
    headline: str
    checks: tuple[Check, ...]
    moved: tuple[str, ...] = ()
    why: tuple[str, ...] = ()

    @property
    def status(self) -> Status:
        """The worst status of its checks."""
        order: tuple[Status, ...] = ("differs", "missing", "not measured")
        found = {check.status for check in self.checks}
        return next((status for status in order if status in found), "holds")


@dataclass(frozen=True)
class Report:
    """What the three lanes found.

    Parameters
    ----------
    spec, golden_file
        The spec, and where its goldens are kept.
    key
        The key of this job.
    lanes
        The lanes.
    runs
        The folders of the runs that were made.
    """

    spec: str
    golden_file: str
    key: Key
    lanes: tuple[Lane, ...]
    runs: tuple[str, ...]

    @property
    def exit_code(self) -> ExitCode:
        """3 where a lane differs, 2 where there is no golden to compare with, else 0."""
        found = {lane.status for lane in self.lanes}
        if "differs" in found:
            return ExitCode.DIFFERS
        return ExitCode.BAD_INPUT if "missing" in found else ExitCode.OK


def ab_lane(verdict: Verdict) -> Lane:
    """Judge two runs of one job.

    Parameters
    ----------
    verdict
        On the second one as the repetition of the first; nothing but the same bits will do.
    """
    status: Status = "holds" if verdict.is_bitwise else "differs"
    headline = f"two runs in this job: {verdict.headline}"
    moved = () if verdict.is_bitwise else verdict.sentences
    return Lane("A/B", headline, (Check("two runs in this job", status, headline),), _cut(moved))


def golden_lane(goldens: GoldenFile, key: Key, now: Golden, cure: str) -> Lane:
    """Compare a run with the golden of its key.

    Parameters
    ----------
    goldens
        The golden file.
    key
        The run's key.
    now
        What the run came to.
    cure
        The command that accepts it.
    """
    was = goldens.goldens.get(str(key))
    name = f"golden of {key}"
    if was is None:
        others = "; ".join(goldens.goldens) or "none"
        headline = f"there is no golden for this key ({key}); there are: {others}. Accept one with: {cure}"
        return Lane(
            "golden", headline, (Check(name, "missing", headline),), *_against_another(goldens, key, now)
        )
    verdict = _against(was, now)
    status: Status = "holds" if verdict.is_bitwise else "differs"
    headline = f"golden for this key: {verdict.headline}"
    if status == "holds":
        return Lane("golden", headline, (Check(name, status, headline),))
    headline += f". If it is meant to, accept it with: {cure}"
    why = tuple(reasons(was, now)) or (
        "nothing that is recorded was changed: machine or library behave anew",
    )
    return Lane("golden", headline, (Check(name, status, headline),), _cut(tuple(moved(was, now))), why)


def _against_another(goldens: GoldenFile, key: Key, now: Golden) -> tuple[tuple[str, ...], tuple[str, ...]]:
    nearest = predecessor(goldens, key)
    if nearest is None:
        return (), ()
    lock, was = nearest[0].rpartition(", ")[2], nearest[1]
    return tuple(f"against {lock}: {one}" for one in _cut(tuple(moved(was, now)))), tuple(reasons(was, now))


def _against(was: Golden, now: Golden) -> Verdict:
    verdict = judge(was.facts, now.facts)
    return dataclasses.replace(verdict, parting=find_parting(trace_of(was), trace_of(now)))


def moved(was: Golden, now: Golden) -> Iterator[str]:
    """Say what moved between two goldens, old to new: facts and figures, then tensors."""
    verdict = _against(was, now)
    if verdict.parting is not None:
        yield f"{verdict.headline}: {verdict.parting.told}"
    yield from verdict.sentences
    for name in facts_that_differ(was.tensors, now.tensors):
        yield f"tensor {name}: {was.tensors.get(name, 'absent')} -> {now.tensors.get(name, 'absent')}"


def tolerance_lane(published: Mapping[str, Published], figures: Mapping[str, float]) -> Lane:
    """Compare a run's figures with the published ones.

    Parameters
    ----------
    published
        The published figures.
    figures
        Those of the run.
    """
    if not published:
        headline = (
            "no figures are published for this spec, because their spread was not measured: "
            "benchmarks/spread.py measures it, `golden accept --publish` publishes"
        )
        return Lane("tolerance", headline, (Check("published figures", "not measured", headline),))
    checks = tuple(_figure(name, one, figures.get(name)) for name, one in sorted(published.items()))
    beyond = [check.sentence for check in checks if check.status == "differs"]
    headline = f"published figures: {len(checks) - len(beyond)} of {len(checks)} hold"
    return Lane("tolerance", headline, checks, tuple(beyond))


def _figure(name: str, published: Published, value: float | None) -> Check:
    if value is None:
        return Check(name, "differs", f"{name} was not measured, published is {published.value:.6g}")
    moved = FigureMoved(name, abs(value - published.value), published.within)
    sentence = f"{name}: published {published.value:.6g}, now {value:.6g}; {moved}"
    return Check(name, "holds" if moved.is_within else "differs", sentence)


def _cut(sentences: tuple[str, ...]) -> tuple[str, ...]:
    more = f"and {len(sentences) - _MOST} more"
    return (*sentences[:_MOST], more) if len(sentences) > _MOST else sentences
