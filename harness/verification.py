"""A run and its repetition: everything that is known of both, and the verdict on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.checkpoint_file import UnreadableError, differing_parts, read_checkpoint
from harness.errors import ExitCode
from harness.manifest import DamagedError, Manifest, damaged_files
from harness.outcome import ENDED, flat
from harness.spreads import Task, figures_of, read_spreads, task_of
from harness.verdict import FigureMoved, Verdict, allows_tolerance, judge, moved_figures
from ptycho_torch.trace import TRACE, Parting, find_parting, read_trace

__all__ = [
    "damage_of",
    "facts_of",
    "parting_of",
    "verdict_on",
    "verification_exit_code",
    "verification_lines",
]


_CSV_LOGGERS, _LOGGER = "logs/csv/", "execution.logger_backend"


def facts_of(manifest: Manifest) -> dict[str, Any]:
    """Return the compared facts of a run, and with them everything else that training decides.

    Of the logs that is what the csv logger wrote. The worker's output and TensorBoard's files hold times.
    """
    checkpoints = {kept.path: [kept.step, kept.epoch, kept.metric] for kept in manifest.checkpoints}
    return {
        **manifest.compared,
        **{name: one.sha256 for name, one in manifest.files.items() if name.startswith(_CSV_LOGGERS)},
        **flat("seeds", manifest.seeds),
        **flat("collapse", manifest.collapse),
        **flat("refinement", manifest.refinement),
        **flat("observed", manifest.exactness.observed),
        **flat("scans", {record.role: record.facts for record in manifest.data}),
        **flat("kept", checkpoints),
    }


def damage_of(*runs: tuple[Path, Manifest]) -> tuple[str, ...]:
    """Name every file of the runs that is not what its manifest says, with the run's name before it."""
    return tuple(
        f"{run_dir.name}: {sentence}"
        for run_dir, manifest in runs
        for sentence in damaged_files(run_dir, manifest)
    )


def verdict_on(
    first: tuple[Path, Manifest],
    second: tuple[Path, Manifest],
    *,
    contradictions: Sequence[str] = (),
    damage: Sequence[str] = (),
    spreads: Mapping[str, Task] | None = None,
) -> Verdict:
    """Judge a run and its repetition.

    Parameters
    ----------
    first, second
        Folder and manifest of each.
    contradictions
        What is wrong with the first one's record.
    damage
        Files that are no longer what was recorded (:func:`damage_of`): what files hold is not looked at then.
    spreads
        The measured spreads; None reads the committed table.

    Raises
    ------
    DamagedError
        A trace or a checkpoint cannot be read.
    """
    (first_dir, one), (second_dir, other) = first, second
    verdict = judge(*_comparable(one, other))
    if damage:
        return dataclasses.replace(verdict, contradictions=(*contradictions, *damage))
    parting = parting_of(first_dir, second_dir)
    if verdict.is_bitwise and parting is None:
        parts = tuple(_checkpoint_differences(first, second))
        verdict = dataclasses.replace(verdict, results=parts, sentences=(*verdict.sentences, *parts))
    figures: tuple[FigureMoved, ...] = ()
    if not verdict.is_bitwise and allows_tolerance(verdict) and _is_one_task(one, other):
        measured = (read_spreads() if spreads is None else spreads).get(task_of(one))
        figures = moved_figures(figures_of(one), figures_of(other), measured) if measured else ()
    return dataclasses.replace(
        verdict,
        parting=parting,
        figures=figures,
        contradictions=tuple(contradictions),
        unfinished=_unfinished(one, other),
    )


def _comparable(*runs: Manifest) -> list[dict[str, Any]]:
    # A log that only one of the two was asked for says nothing about what they came to.
    loggers = [run.resolved[_LOGGER].value if _LOGGER in run.resolved else None for run in runs]
    left_out = (_CSV_LOGGERS,) if loggers[0] != loggers[1] else ()
    return [
        {name: fact for name, fact in facts_of(run).items() if not name.startswith(left_out)} for run in runs
    ]


def _unfinished(one: Manifest, other: Manifest) -> str:
    first, second = (run.status in ENDED for run in (one, other))
    if first and second:
        return ""
    if first or second:
        return f"the {'second' if first else 'first'} run has not come to its end"
    return "neither run has come to its end"


def _is_one_task(one: Manifest, other: Manifest) -> bool:
    return (task_of(one), one.seeds, one.status) == (task_of(other), other.seeds, other.status)


def parting_of(first: Path, second: Path) -> Parting | None:
    """Find where the trainings of two runs part; None where they do not, or one left no trace.

    Raises
    ------
    DamagedError
        A trace is damaged.
    """
    try:
        one, other = read_trace(first / TRACE), read_trace(second / TRACE)
    except ValueError as error:
        raise DamagedError(f"the trace cannot be read: {error}") from error
    return find_parting(one, other) if one and other else None


def _checkpoint_differences(first: tuple[Path, Manifest], second: tuple[Path, Manifest]) -> Iterator[str]:
    # Compared facts speak of weights; a checkpoint holds optimizer, scheduler and callbacks, too. Equal ones
    # may differ as files, because a continued run writes the same content in another way.
    (one_dir, one), (other_dir, other) = first, second
    digests = {kept.path: kept.sha256 for kept in other.checkpoints}
    for kept in one.checkpoints:
        if digests[kept.path] == kept.sha256:
            continue
        try:
            stored, made = (read_checkpoint(folder / kept.path) for folder in (one_dir, other_dir))
        except UnreadableError as error:
            raise DamagedError(str(error)) from error
        for part in differing_parts(stored, made):
            yield f"{kept.path}: {part}"


def verification_exit_code(verdict: Verdict) -> ExitCode:
    """Return 0 where everything that is promised holds, and 3 elsewhere."""
    return ExitCode.OK if verdict.kind in {"bitwise", "tolerance"} else ExitCode.DIFFERS


def verification_lines(verdict: Verdict) -> Iterator[str]:
    """Say the verdict, and below it everything that it rests on."""
    yield verdict.headline
    for sentence in (*verdict.contradictions, *verdict.sentences):
        yield f"  {sentence}"
    if verdict.kind != "bitwise" and verdict.figures:
        for figure in verdict.figures:
            yield f"  {figure}"
    elif verdict.kind in {"diverged", "differs"} and allows_tolerance(verdict):
        yield (
            "  no spread of figures was measured for such runs, so no tolerance can be granted: "
            "benchmarks/spread.py measures one"
        )
