"""From what was asked, what it ran on and what came out to the manifest."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.code_capture import Code
from harness.compare import cards_in_words
from harness.contents import recorded_files, saved_states
from harness.environment import Environment
from harness.manifest import (
    Attempt,
    DataRecord,
    ExactnessRecord,
    FileRecord,
    Leaf,
    Manifest,
    RepeatedRun,
    Scalar,
    ShadowedValue,
)
from harness.outcome import Outcome, disk_fault, flat, plain
from harness.progress import spent_cpu_seconds
from harness.store import LOG, RESOLVED, SPEC, utc_now

if TYPE_CHECKING:
    from harness.resolved import ResolvedRun
    from ptycho_torch.layers import Place

__all__ = [
    "Circumstances",
    "attempts_of",
    "compose",
    "explained",
    "known_cpu_seconds",
    "missing_outcome",
    "with_last_fault",
]


_LAID_OUT = (SPEC, RESOLVED, "code/")
"""Files that are there before the worker starts."""


@dataclass(frozen=True)
class Circumstances:
    """What surrounded a run: its code, its environment, its start, attempts and end, and whom it repeats."""

    spec: str
    created: str
    code: Code
    environment: Environment
    attempts: tuple[Attempt, ...]
    repeats: RepeatedRun | None
    recorded: Mapping[str, Any]
    finished: str | None = None


def missing_outcome(run_dir: Path, exit_status: int, stops_asked: int) -> Outcome:
    """Say how a worker ended that left no outcome.

    Parameters
    ----------
    run_dir
        Its run folder.
    exit_status
        Its exit status; the negative number of the signal that killed it.
    stops_asked
        How often it was asked to stop.
    """
    asked = stops_asked > 0 or exit_status in {-signal.SIGTERM, -signal.SIGINT}
    if asked:
        steps = saved_states(run_dir)
        last = f"the last state is that of step {max(steps)}" if steps else "there is no earlier state"
        return Outcome("interrupted", f"the worker was stopped before it could save where it stood; {last}")
    if exit_status == -signal.SIGKILL:
        return Outcome("failed", f"the worker was killed (SIGKILL), often for want of memory: see {LOG}")
    fault = disk_fault(exit_status)
    if fault is not None:
        return Outcome("failed", f"the worker could not write how it ended ({fault}): see {LOG}")
    how = f"signal {-exit_status}" if exit_status < 0 else f"status {exit_status}"
    return Outcome("failed", f"the worker ended with {how} and left no outcome: see {LOG}")


def known_cpu_seconds(run_dir: Path, outcome: Outcome | None) -> float | None:
    """Return the processor time that the last worker is known to have spent; None where it told nothing.

    Parameters
    ----------
    run_dir
        Its run folder.
    outcome
        What it left, if anything; a worker that died told it in its progress only.
    """
    told = None if outcome is None else outcome.timings.get("cpu_seconds")
    return spent_cpu_seconds(run_dir) if told is None else told


def attempts_of(events: Iterable[Mapping[str, Any]]) -> tuple[Attempt, ...]:
    """Tell from a run's journal every start of its worker, the last one included."""
    attempts: list[Attempt] = []
    is_alive, differences = False, ()
    for event in events:
        kind, time = event["event"], event["time"]
        if is_alive and kind in {"resumed", "worker ended"}:
            attempts[-1] = dataclasses.replace(attempts[-1], cpu_seconds=event.get("cpu_seconds"))
        if kind == "resumed":
            is_alive, differences = False, tuple(event.get("differences", ()))
        elif kind == "started":
            attempts.append(Attempt(time, 0.0, None, differences=differences))
            is_alive = True
        elif is_alive:
            seconds = _seconds_between(attempts[-1].started, time)
            known = {"step": "from_step"} if kind == "continuing" else {}
            known |= {"exit_status": "exit_status"} if kind == "worker ended" else {}
            facts = {name: event[fact] for fact, name in known.items()}
            attempts[-1] = dataclasses.replace(attempts[-1], seconds=seconds, **facts)
            is_alive = kind != "worker ended"
    return tuple(attempts)


def _seconds_between(first: str, second: str) -> float:
    return round((datetime.fromisoformat(second) - datetime.fromisoformat(first)).total_seconds(), 3)


def explained(outcome: Outcome, reason: str | None) -> Outcome:
    """Add to an outcome what the executor knows about an end that was not the worker's own doing."""
    if reason is None or outcome.status in {"completed", "collapsed"}:
        return outcome
    return dataclasses.replace(outcome, error="; ".join(filter(None, (outcome.error, reason))))


def with_last_fault(outcome: Outcome, attempts: Sequence[Attempt]) -> Outcome:
    """Add to the outcome of a run that has come to its end the fault of the disk that its worker met then."""
    status = attempts[-1].exit_status if attempts and outcome.has_ended else None
    fault = None if status is None else disk_fault(status)
    if fault is None:
        return outcome
    left = f"the disk failed as the states to continue from were removed ({fault})"
    return dataclasses.replace(outcome, error="; ".join(filter(None, (outcome.error, left))))


def compose(
    run_dir: Path, resolved: ResolvedRun, outcome: Outcome, around: Circumstances, *, is_begun: bool = False
) -> Manifest:
    """Compose the manifest of a run that has ended.

    Parameters
    ----------
    run_dir
        The run folder; its files are listed with their digests.
    resolved, outcome, around
        What was asked, what came out, and what surrounded it.
    is_begun
        The run has only begun: its worker's files are still growing and are left out.
    """
    listed = recorded_files(run_dir, _LAID_OUT) if is_begun else recorded_files(run_dir)
    files = {name: FileRecord(**facts) for name, facts in listed.items()}
    data = _data(resolved, outcome)
    problems = _contradictions(files, resolved, outcome, around.code)
    status = "failed" if problems and outcome.status in {"completed", "collapsed"} else outcome.status
    return Manifest(
        status=status,
        error="; ".join([*problems, *([outcome.error] if outcome.error else [])]) or None,
        name=resolved.name,
        created=around.created,
        finished=around.finished or utc_now(),
        rerun_of=around.repeats,
        spec=around.spec,
        resolved=_leaves(resolved),
        overrides_applied=plain(resolved.payload.overrides_applied),
        seeds=outcome.seeds or {"seed": resolved.seed},
        exactness=ExactnessRecord(
            resolved.exactness.profile, resolved.exactness.threads, plain(outcome.exactness_observed)
        ),
        code=around.code,
        environment=around.environment,
        data=data,
        groups_digest=outcome.groups_digest,
        checkpoints=outcome.checkpoints,
        products=outcome.products,
        metrics=plain(outcome.metrics),
        collapse=plain(outcome.collapse),
        refinement=plain(outcome.refinement),
        timings=outcome.timings,
        attempts=around.attempts,
        files=files,
        compared=_compared(resolved, outcome, around, data, files),
        recorded=plain(around.recorded),
    )


def _contradictions(
    files: Mapping[str, FileRecord], resolved: ResolvedRun, outcome: Outcome, code: Code
) -> list[str]:
    problems = []
    made = {kept.path: kept.sha256 for kept in outcome.checkpoints}
    made |= {product.path: product.sha256 for product in outcome.products}
    for path, digest in made.items():
        if path not in files:
            problems.append(f"{path} is named by the worker but is not in the run folder")
        elif files[path].sha256 != digest:
            problems.append(f"{path} is not what the worker wrote")
    for role, source in sorted(resolved.sources.items()):
        read = outcome.data.get(role, {}).get("sha256")
        if source.sha256 is not None and read not in {None, source.sha256}:
            problems.append(f"the {role} data changed while the run was starting")
    if outcome.environment.get("source_digest", code.source_digest) != code.source_digest:
        problems.append("the source files changed while the run was starting: run it again")
    return problems


def _data(resolved: ResolvedRun, outcome: Outcome) -> tuple[DataRecord, ...]:
    records = []
    for role, source in sorted(resolved.sources.items()):
        facts = dict(outcome.data.get(role, {}))
        digest = facts.pop("sha256", source.sha256)
        if digest is not None:
            records.append(DataRecord(role, source.name, str(digest), source.size, plain(facts)))
    return tuple(records)


def _leaves(resolved: ResolvedRun) -> dict[str, Leaf]:
    leaves = {}
    for key, (value, origin) in resolved.leaves().items():
        shadowed = tuple(
            ShadowedValue(plain(lost.value), lost.layer, _place(lost.place)) for lost in origin.shadowed
        )
        place = _place(origin.place)
        leaves[key] = Leaf(plain(value), origin.layer, shadowed, place, origin.note)
    return leaves


def _place(place: Place | None) -> str | None:
    # The spec's own path is the machine's; its text is kept beside the manifest.
    return None if place is None else f"{Path(place.file).name}:{place.line}:{place.column}"


def _compared(
    resolved: ResolvedRun,
    outcome: Outcome,
    around: Circumstances,
    data: tuple[DataRecord, ...],
    files: Mapping[str, FileRecord],
) -> dict[str, Scalar]:
    facts: dict[str, Scalar] = {
        "inputs": resolved.digest,
        "code.source_digest": around.code.source_digest,
        "environment.packages_digest": around.environment.packages_digest,
        "environment.libc": around.environment.system.get("libc"),
        "environment.python": ".".join(around.environment.python.split(".")[:2]),
        "exactness.profile": resolved.exactness.profile,
        "exactness.threads": resolved.exactness.threads,
        "status": outcome.status,
        "groups_digest": outcome.groups_digest,
        "final_tensor_digest": outcome.final_tensor_digest,
        "optimizer_digest": outcome.optimizer_digest,
    }
    if resolved.payload.execution_config.accelerator != "cpu":
        facts["environment.gpu"] = cards_in_words(around.environment)
    elif resolved.exactness.profile == "strict":
        facts["environment.cpu"] = around.environment.cpu.model
    facts.update({f"data.{record.role}": record.sha256 for record in data})
    facts.update({kept.path: kept.tensor_digest for kept in outcome.checkpoints})
    facts.update({made.path: made.sha256 for made in outcome.products})
    facts.update(flat("metrics", plain(outcome.metrics)))
    if around.environment.image is not None:
        facts["environment.image"] = around.environment.image.id
    facts.update({name: files[name].sha256 for name in ("metrics.csv", "trace.jsonl") if name in files})
    return facts
