"""Whether published figures are reproduced: reproduced, not reproduced, or not comparable, and why."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from harness.errors import ExitCode
from harness.quality import REFINED, void_resolutions
from harness.reproduce.arms import ArmResult
from harness.reproduce.recipe import Figure, FigureBlock
from harness.spreads import figures_of

__all__ = ["Row", "Verdict", "exit_code_of", "judge_figure", "ours"]

Verdict: TypeAlias = Literal["reproduced", "not reproduced", "not comparable"]


@dataclass(frozen=True)
class Row:
    """A published figure and ours.

    Parameters
    ----------
    figure
        The published figure.
    values
        Ours, one of each seed.
    verdict, why
        The verdict, and in a few words what it rests on.
    """

    figure: Figure
    values: tuple[float, ...]
    verdict: Verdict
    why: str

    @property
    def mean(self) -> float | None:
        """Mean over the seeds; None without a value."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation over the seeds; None where there are fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


def judge_figure(figure: Figure, results: Mapping[str, ArmResult], shortened: str = "") -> Row:
    """Compare a published figure with what came of the arms.

    A run that did not end reproduces nothing. What was not run, has no such figure or was shortened cannot
    be compared. A network that collapsed reproduces none of its own figures, whatever they are; those of a
    refined image stand for themselves. A resolution that means nothing is neither compared nor told.

    Parameters
    ----------
    figure
        The figure.
    results
        Name of an arm to what came of it; arms that were not asked for are absent.
    shortened
        What was put over the arms to shorten them; empty where nothing was.
    """
    told = figure.told
    names = [told.arm, *([told.less] if told.less else [])]
    absent = [_why_absent(name, results.get(name)) for name in names]
    if any(absent):
        return Row(figure, (), "not comparable", next(filter(None, absent)))
    void = _why_void(told.metric, [results[name] for name in names])
    values = () if void else _values(told, [results[name] for name in names])
    if told.not_comparable:
        return Row(figure, values, "not comparable", told.not_comparable)
    of_itself = () if told.metric.startswith(REFINED) else ("collapsed",)
    failed, collapsed = (
        [sentence for name in names for sentence in _ended_as(results[name], statuses)]
        for statuses in (("failed", "interrupted"), of_itself)
    )
    if failed:
        return Row(figure, values, "not reproduced", failed[0])
    if not void and len(values) < max(len(results[name].runs) for name in names):
        return Row(figure, values, "not comparable", f"not every run has the figure {told.metric}")
    if shortened:
        return Row(figure, values, "not comparable", f"shortened: {shortened}")
    if collapsed:
        return Row(figure, values, "not reproduced", "; ".join(filter(None, (collapsed[0], void))))
    if void:
        return Row(figure, (), "not comparable", void)
    is_met, why = _bound(told, statistics.fmean(values))
    return Row(figure, values, "reproduced" if is_met else "not reproduced", why)


def ours(row: Row) -> str:
    """Say our value with its spread over the seeds."""
    if row.mean is None:
        return "-"
    spread = "" if row.deviation is None else f" ± {row.deviation:.2g}"
    return f"{row.mean:.4g}{spread} ({len(row.values)} seed{'s' if len(row.values) > 1 else ''})"


def exit_code_of(rows: Sequence[Row], results: Sequence[ArmResult]) -> ExitCode:
    """Return 0 when every comparable figure is reproduced, 3 when one is not, 2 when no arm could be run."""
    if all(result.not_run for result in results):
        return ExitCode.BAD_INPUT
    return ExitCode.DIFFERS if any(row.verdict == "not reproduced" for row in rows) else ExitCode.OK


def _why_absent(name: str, result: ArmResult | None) -> str:
    if result is None:
        return f"the arm {name} was not asked for"
    return f"the arm {name} was not run: {result.not_run}" if result.not_run else ""


def _ended_as(result: ArmResult, statuses: Sequence[str]) -> list[str]:
    return [
        f"the run of {result.arm.name} with seed {one.seed} is {one.manifest.status}"
        for one in result.runs
        if one.manifest.status in statuses
    ]


def _why_void(metric: str, results: Sequence[ArmResult]) -> str:
    told = (void_resolutions(one.manifest).get(metric, "") for result in results for one in result.runs)
    return next(filter(None, told), "")


def _values(told: FigureBlock, results: Sequence[ArmResult]) -> tuple[float, ...]:
    """Return the figure of each seed that all arms have it of; of two arms, the difference."""
    by_seed = [
        {
            one.seed: figures_of(one.manifest)[told.metric]
            for one in result.runs
            if told.metric in figures_of(one.manifest)
        }
        for result in results
    ]
    if len(by_seed) == 1:
        return tuple(by_seed[0].values())
    first, second = by_seed
    return tuple(value - second[seed] for seed, value in first.items() if seed in second)


def _bound(told: FigureBlock, mean: float) -> tuple[bool, str]:
    if told.within is not None:
        off = mean - told.published
        return abs(off) <= told.within, f"{off:+.4g} off, {told.within:g} is allowed"
    if told.at_least is not None:
        return mean >= told.at_least, f"at least {told.at_least:g} is asked for"
    if told.at_most is not None:
        return mean <= told.at_most, f"at most {told.at_most:g} is asked for"
    raise AssertionError("a figure that can be compared has a bound")
