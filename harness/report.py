"""Plans and origins as lines for a person, or as JSON for a program."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.outcome import plain
from harness.screen import duration
from ptycho_torch.trace import batch_in_words

if TYPE_CHECKING:
    from harness.bisection import Bisection
    from harness.comparison import Comparison
    from harness.plan import Plan
    from harness.resolved import ResolvedRun
    from ptycho_torch.config import PyTorchExecutionConfig, TrainingConfig

__all__ = [
    "as_json",
    "bisection_lines",
    "comparison_lines",
    "explain_json",
    "explain_lines",
    "origin_words",
    "plan_json",
    "plan_lines",
    "table",
    "word",
]


def as_json(value: Any) -> str:
    """Render a value as JSON for a program to read."""
    return json.dumps(plain(value), indent=1, sort_keys=True)


def table(rows: Iterator[tuple[str, str]]) -> Iterator[str]:
    """Lay out labels and texts in two columns."""
    for label, text in rows:
        yield f"{label:<14}{text}"


def plan_json(plan: Plan, resolved: ResolvedRun, inputs: Mapping[str, str]) -> str:
    """Render a plan as JSON."""
    return as_json(
        {
            "name": resolved.name,
            "digest": resolved.digest,
            "argv": plan.argv,
            "environment": plan.environment,
            "inputs": inputs,
            "image": resolved.container.image,
            "limits": dataclasses.asdict(plan.limits),
            "estimate": {
                "cpu_seconds": round(plan.estimate.cpu_seconds, 1),
                "wall_seconds": round(plan.estimate.wall_seconds, 1),
                "memory_gb": round(plan.estimate.memory_gb, 2),
            },
            "values": {key: value for key, (value, _) in resolved.leaves().items()},
        }
    )


def plan_lines(
    plan: Plan, resolved: ResolvedRun, inputs: Mapping[str, str], *, is_verbose: bool = False
) -> Iterator[str]:
    """Say what would run; the worker's variables, two dozen, are counted unless `is_verbose`."""
    payload, estimate = resolved.training, plan.estimate
    training, execution = payload.training, payload.execution_config
    passes = "1 epoch" if training.epochs == 1 else f"{training.epochs} epochs"

    def rows() -> Iterator[tuple[str, str]]:
        yield "name", resolved.name
        yield "steps", _steps(training, execution)
        yield "time", f"about {duration(estimate.wall_seconds)} ({estimate.cpu_seconds:.0f} CPU-seconds)"
        yield "memory", f"about {estimate.memory_gb:.1f} GB"
        for role, source in sorted(resolved.sources.items()):
            where = f", {inputs[role]}" if role in inputs else ""
            yield role, f"{source.name}{where}"
        yield (
            "network",
            f"{payload.model.generator}, N {payload.model.N}, gridsize {payload.model.gridsize},"
            f" n_filters_scale {payload.model.n_filters_scale}",
        )
        yield (
            "training",
            f"{training.n_groups} groups, {passes}, batch {training.batch_size},"
            f" loss {training.loss}, seed {resolved.seed}",
        )
        yield "execution", f"{execution.accelerator}, {execution.n_devices} device(s)"
        yield "exactness", f"{resolved.exactness.profile}, {resolved.exactness.threads} thread(s)"
        yield "inputs", resolved.digest
        if resolved.container.image != "none":
            limits = plan.limits
            kept_on = f" of {limits.cpuset}" if limits.cpuset else ""
            yield "image", resolved.container.image
            yield (
                "limits",
                f"memory {limits.memory_bytes / 2**30:g} GB, /dev/shm {limits.shm_bytes / 2**30:g} GB,"
                f" {limits.cpus:g} cores{kept_on}, {limits.pids} pids",
            )
        yield "command", shlex.join(plan.argv)
        variables = [f"{name}={shlex.quote(value)}" for name, value in sorted(plan.environment.items())]
        counted = f"{len(variables)} variables and none of the caller's others: --verbose lists them"
        for number, line in enumerate(variables if is_verbose else [counted]):
            yield "" if number else "environment", line

    yield from table(rows())


def _steps(training: TrainingConfig, execution: PyTorchExecutionConfig) -> str:
    batches = math.ceil(training.n_groups / training.batch_size)
    an_epoch = math.ceil(batches / execution.accum_steps)
    return f"{training.epochs * an_epoch} of the optimizer, {an_epoch} an epoch"


def _chosen(resolved: ResolvedRun, key: str | None) -> dict[str, tuple[Any, Any]]:
    leaves = dict(sorted(resolved.leaves().items()))
    if key is None:
        return leaves
    chosen = {
        name: leaf
        for name, leaf in leaves.items()
        if name == key or name.startswith(f"{key}.") or name.rpartition(".")[2] == key
    }
    if not chosen:
        near = difflib.get_close_matches(key, [*leaves, *(name.rpartition(".")[2] for name in leaves)], n=1)
        hint = f", did you mean {near[0]!r}?" if near else "; without a key, every value is explained"
        raise UserError(f"there is no value {key!r}{hint}")
    return chosen


def explain_json(resolved: ResolvedRun, key: str | None) -> str:
    """Render origins as JSON: key to value, layer, place, note and shadowed values."""
    return as_json(
        {
            name: {
                "value": value,
                "layer": origin.layer,
                "place": str(origin.place) if origin.place else None,
                "note": origin.note,
                "shadowed": [
                    {
                        "value": lost.value,
                        "layer": lost.layer,
                        "place": str(lost.place) if lost.place else None,
                    }
                    for lost in origin.shadowed
                ],
            }
            for name, (value, origin) in _chosen(resolved, key).items()
        }
    )


def explain_lines(resolved: ResolvedRun, key: str | None) -> Iterator[str]:
    """Say where values come from: value, layer, place, and what each hides."""
    for name, (value, origin) in _chosen(resolved, key).items():
        yield f"{name} = {word(value)}  ({origin_words(origin.layer, origin.place, origin.note)})"
        for lost in origin.shadowed:
            yield f"    instead of {word(lost.value)}  ({origin_words(lost.layer, lost.place)})"


def origin_words(layer: str, place: object | None, note: str = "") -> str:
    """Say where a value comes from: its layer, where it was written, and how it came about."""
    return ", ".join(filter(None, (layer, str(place or ""), note)))


def word(value: Any) -> str:
    """Give a value as it would be written."""
    return json.dumps(plain(value))


_ROWS = (
    "  (a row: its area, first run -> second; inputs to environment may be causes, results follow from them)"
)
_PARTED = "  (trace: before that step and tensor the trainings are the same; what differs later may follow)"


def comparison_lines(found: Comparison) -> Iterator[str]:
    """Say in what two runs differ, a line for each difference, and how the lines are read."""
    yield found.headline
    rows = [
        f"  {area:<12}{sentence}"
        for area in ("damage", "inputs", "data", "code", "environment", "trace", "results")
        for sentence in getattr(found, area)
    ]
    if rows:
        yield _ROWS
    if found.trace:
        yield _PARTED
    yield from rows


def bisection_lines(found: Bisection) -> Iterator[str]:
    """Say where two runs part, in which tensor, how that is known, and what may be the cause."""
    if found.unproven:
        yield found.unproven
    if found.parting is None or found.step is None or found.epoch is None or found.batch is None:
        yield _sameness(found)
    else:
        more = f", and {len(found.tensors) - 1} more tensors there" if len(found.tensors) > 1 else ""
        yield (
            f"the runs part at {batch_in_words(found.step, found.epoch, found.batch)}: {found.tensor}{more}"
        )
        yield f"  the traces part at line {found.parting.line + 1}: {found.parting.kind} " + (
            f"{found.parting.told}; all weights are known to be the same "
            f"after step {found.parting.agreed_step}"
        )
    for name, one in found.replays.items():
        how = "it did what the run has recorded" if one.repeats else "it did something else than the run"
        yield f"  {name} was carried out once more from {one.start or 'its folder'}: {one.problem or how}"
    for note in found.notes:
        yield f"  note: {note}"
    for cause in found.causes:
        yield f"  {cause.likelihood:<10}{cause.suspect.area:<13}{cause.suspect.sentence}: {cause.reason}"
    if not found.causes and found.tensor:
        yield "  no difference of values, data, code or environment is recorded"


def _sameness(found: Bisection) -> str:
    if found.is_bitwise:
        return "bitwise: the runs are the same"
    if found.parting is not None:
        return f"  the trainings are the same as far as both go, {found.parting.step} steps"
    if not found.tensor:
        return "  the trainings are the same to the last bit"
    other = "what was made after them" if found.tensor == "products" else found.tensor
    return f"the trainings are the same to the last bit, and {other} is not"
