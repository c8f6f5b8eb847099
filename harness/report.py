"""Runs, plans and origins as lines for a person, or as JSON for a program."""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.manifest import Manifest, read_manifest, summary
from harness.outcome import plain
from harness.screen import duration, figures
from harness.store import MANIFEST, read_events, run_folders

if TYPE_CHECKING:
    from harness.plan import Plan
    from harness.resolved import ResolvedRun

__all__ = [
    "explain_json",
    "explain_lines",
    "list_json",
    "list_lines",
    "plan_json",
    "plan_lines",
    "show_json",
    "show_lines",
]


def _json(value: Any) -> str:
    return json.dumps(plain(value), indent=1, sort_keys=True)


def _table(rows: Iterator[tuple[str, str]]) -> Iterator[str]:
    for label, text in rows:
        yield f"{label:<14}{text}"


def plan_json(plan: Plan, resolved: ResolvedRun, inputs: Mapping[str, str]) -> str:
    """Render a plan as JSON."""
    return _json(
        {
            "name": resolved.name,
            "digest": resolved.digest,
            "argv": plan.argv,
            "environment": plan.environment,
            "inputs": inputs,
            "estimate": {
                "cpu_seconds": round(plan.estimate.cpu_seconds, 1),
                "wall_seconds": round(plan.estimate.wall_seconds, 1),
                "memory_gb": round(plan.estimate.memory_gb, 2),
            },
            "values": {key: value for key, (value, _) in resolved.leaves().items()},
        }
    )


def plan_lines(plan: Plan, resolved: ResolvedRun, inputs: Mapping[str, str]) -> Iterator[str]:
    """Say what would run."""
    payload, estimate = resolved.payload, plan.estimate
    training, execution = payload.training, payload.execution_config

    def rows() -> Iterator[tuple[str, str]]:
        yield "name", resolved.name
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
            f"{training.n_groups} groups, {training.epochs} epochs, batch {training.batch_size},"
            f" loss {training.loss}, seed {resolved.seed}",
        )
        yield "execution", f"{execution.accelerator}, {execution.n_devices} device(s)"
        yield "exactness", f"{resolved.exactness.profile}, {resolved.exactness.threads} thread(s)"
        yield "inputs", resolved.digest
        yield "command", shlex.join(plan.argv)
        yield "environment", " ".join(f"{name}={value}" for name, value in sorted(plan.environment.items()))
        yield "time", f"about {duration(estimate.wall_seconds)} ({estimate.cpu_seconds:.0f} CPU-seconds)"
        yield "memory", f"about {estimate.memory_gb:.1f} GB"

    yield from _table(rows())


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
    return _json(
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
        place = f", {origin.place}" if origin.place else ""
        note = f", {origin.note}" if origin.note else ""
        yield f"{name} = {_word(value)}  ({origin.layer}{place}{note})"
        for lost in origin.shadowed:
            where = f", {lost.place}" if lost.place else ""
            yield f"    instead of {_word(lost.value)}  ({lost.layer}{where})"


def _word(value: Any) -> str:
    return json.dumps(plain(value))


def list_json(runs_dir: Path) -> str:
    """Render all runs of a folder as a JSON array."""
    return _json([summary(path) for path in run_folders(runs_dir)])


def list_lines(runs_dir: Path) -> Iterator[str]:
    """List all runs of a folder, the oldest first."""
    found = [summary(path) for path in run_folders(runs_dir)]
    for facts in sorted(found, key=lambda facts: str(facts["created"])):
        yield f"{facts['status']:<12}{facts['created'] or '?':<31}{Path(facts['path']).name}"
    if not found:
        yield f"there are no runs in {runs_dir}"


def show_json(path: Path) -> str:
    """Return the manifest as JSON; without one, the run's state and its journal."""
    if (path / MANIFEST).is_file():
        read_manifest(path)
        return (path / MANIFEST).read_text(encoding="ascii").rstrip("\n")
    return _json({**summary(path), "journal": read_events(path)})


def show_lines(path: Path) -> Iterator[str]:
    """Say what a run was and what came out; without a manifest, what its journal tells."""
    if (path / MANIFEST).is_file():
        yield from _table(_manifest_rows(path, read_manifest(path)))
        return
    facts = summary(path)
    yield from _table(iter([("status", facts["status"]), ("name", facts["name"]), ("folder", str(path))]))
    for event in read_events(path):
        more = {name: value for name, value in event.items() if name not in {"event", "time"}}
        yield f"  {event.get('time', '?')}  {event.get('event', '?')}  {_word(more) if more else ''}".rstrip()


def _manifest_rows(path: Path, manifest: Manifest) -> Iterator[tuple[str, str]]:
    yield "status", manifest.status + (f": {manifest.error}" if manifest.error else "")
    yield "name", manifest.name
    yield "created", manifest.created
    yield "folder", str(path)
    if manifest.rerun_of is not None:
        yield "repeats", f"{manifest.rerun_of.run} ({manifest.rerun_of.kind})"
    for record in manifest.data:
        yield record.role, f"{record.name}, sha256 {record.sha256[:12]}"
    changes = ", with uncommitted changes" if manifest.code.dirty else ""
    commit = f"commit {manifest.code.commit[:12]}{changes}, " if manifest.code.commit else ""
    yield "code", f"{commit}source {manifest.code.source_digest[:12]}"
    packages = manifest.environment.packages
    yield "environment", f"Python {manifest.environment.python}, {len(packages)} packages"
    yield "exactness", f"{manifest.exactness.profile}, {manifest.exactness.threads} thread(s)"
    for kept in manifest.checkpoints:
        yield "checkpoint", f"{kept.path}, step {kept.step}, tensors {kept.tensor_digest[:12]}"
    for made in manifest.products:
        yield "product", f"{made.path}, sha256 {made.sha256[:12]}"
    quality = figures(manifest.metrics)
    if quality:
        yield "quality", quality
    yield "time", duration(sum(attempt.seconds for attempt in manifest.attempts))
