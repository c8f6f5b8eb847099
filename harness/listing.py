"""Runs that there are, as lines for a person, or as JSON for a program."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.called import shown
from harness.errors import UserError
from harness.lookup import run_folders
from harness.manifest import DamagedError, Manifest, read_manifest
from harness.quality import quality_rows
from harness.report import as_json, origin_words, table, word
from harness.resolved import SOURCE_KEYS
from harness.screen import duration, onward
from harness.spec_blocks import ROLES
from harness.store import MANIFEST, read_events, state_without_manifest
from ptycho_torch.layers import DEFAULT_LAYERS

__all__ = ["list_json", "list_lines", "show_json", "show_lines", "summary"]

_DEFAULTS = frozenset({"entry point", *DEFAULT_LAYERS})
"""The layers of what neither a person nor the data have said."""


def list_json(runs_dir: Path) -> str:
    """Render all runs of a folder as a JSON array."""
    return as_json([summary(path) for path in run_folders(runs_dir)])


def list_lines(runs_dir: Path) -> Iterator[str]:
    """List all runs of a folder, the oldest first."""
    found = [summary(path) for path in run_folders(runs_dir)]
    for facts in sorted(found, key=lambda facts: str(facts["created"])):
        repeats = facts["rerun_of"]
        more = f"  ({repeats['kind']} of {repeats['run']})" if repeats else ""
        yield f"{facts['status']:<12}{facts['created'] or '?':<31}{Path(facts['path']).name}{more}"
    if not found:
        yield f"there are no runs in {runs_dir}"


def show_json(path: Path) -> str:
    """Return the manifest as JSON; without one, the run's state and its journal."""
    if (path / MANIFEST).is_file():
        read_manifest(path)
        return (path / MANIFEST).read_text(encoding="ascii").rstrip("\n")
    return as_json({**summary(path), "journal": read_events(path)})


def show_lines(path: Path) -> Iterator[str]:
    """Say what a run was and what came out; without a manifest, what its journal tells."""
    if (path / MANIFEST).is_file():
        yield from table(_manifest_rows(path, read_manifest(path)))
        return
    facts = summary(path)
    known = [("status", facts["status"]), ("name", facts["name"]), ("folder", shown(path))]
    yield from table(iter([*known, *onward(path, facts["status"])]))
    for event in read_events(path):
        more = {name: value for name, value in event.items() if name not in {"event", "time"}}
        yield f"  {event.get('time', '?')}  {event.get('event', '?')}  {word(more) if more else ''}".rstrip()


def _manifest_rows(path: Path, manifest: Manifest) -> Iterator[tuple[str, str]]:
    yield "status", manifest.status + (f": {manifest.error}" if manifest.error else "")
    yield "name", manifest.name
    yield "created", manifest.created
    yield "folder", shown(path)
    if manifest.rerun_of is not None:
        label = "refines" if manifest.rerun_of.kind == "refine" else "repeats"
        yield label, f"{manifest.rerun_of.run} ({manifest.rerun_of.kind})"
    for record in manifest.data:
        yield record.role, f"{record.name}, sha256 {record.sha256[:12]}"
    changes = _changes(path, manifest)
    commit = f"commit {manifest.code.commit[:12]}{changes}, " if manifest.code.commit else ""
    yield "code", f"{commit}source {manifest.code.source_digest[:12]}"
    packages = manifest.environment.packages
    yield "environment", f"Python {manifest.environment.python}, {len(packages)} packages"
    if manifest.environment.image is not None:
        yield "image", manifest.environment.image.id
    for number, line in enumerate(_chosen(manifest)):
        yield "" if number else "values", line
    yield "exactness", f"{manifest.exactness.profile}, {manifest.exactness.threads} thread(s)"
    for kept in manifest.checkpoints:
        yield "checkpoint", f"{kept.path}, step {kept.step}, tensors {kept.tensor_digest[:12]}"
    for made in manifest.products:
        yield "product", f"{made.path}, sha256 {made.sha256[:12]}"
    yield from quality_rows(manifest)
    yield "time", duration(sum(attempt.seconds for attempt in manifest.attempts))
    yield from onward(path, manifest.status)


def _chosen(manifest: Manifest) -> Iterator[str]:
    """Yield every value that is none of the defaults, with its origin; the data have lines of their own."""
    of_data = {f"data.{role}.{key}" for role in ROLES for key in SOURCE_KEYS}
    for key, leaf in sorted(manifest.resolved.items()):
        if key == "name" or key in of_data or leaf.source in _DEFAULTS:
            continue
        default = next((lost for lost in leaf.shadowed if lost.source in _DEFAULTS), None)
        if default is None or default.value != leaf.value:
            instead = "" if default is None else f", instead of {word(default.value)}"
            yield f"{key} = {word(leaf.value)}  ({origin_words(leaf.source, leaf.place, leaf.note)}{instead})"


def _changes(path: Path, manifest: Manifest) -> str:
    patch = manifest.code.patch
    if patch is None or not (path / patch.path).is_file():
        return ", with uncommitted changes" if manifest.code.dirty else ""
    lines = (path / patch.path).read_bytes().splitlines()
    files, new = (
        sum(line.startswith(word) for line in lines) for word in (b"diff --git ", b"new file mode ")
    )
    return ", with untracked files besides" if files == new else ", with uncommitted changes"


def summary(run_dir: Path) -> dict[str, Any]:
    """Describe a run in the few facts of ``harness list``; works for a run in any state.

    Its status is the manifest's; without one ``running``, ``failed`` or ``interrupted``; ``damaged`` when the
    manifest is not what was written, and ``unreadable`` when it is of a version that is not known here.
    """
    state = state_without_manifest(run_dir)
    created = next((event for event in read_events(run_dir) if event.get("event") == "created"), {})
    facts: dict[str, Any] = {
        "status": state,
        "name": created.get("name"),
        "created": created.get("time"),
        "rerun_of": None,
    }
    # Looked for after the state: a run that ends in between is then seen as ended.
    if (run_dir / MANIFEST).is_file():
        try:
            manifest = read_manifest(run_dir)
            facts |= {"status": manifest.status, "name": manifest.name, "created": manifest.created}
            if manifest.rerun_of is not None:
                facts["rerun_of"] = {"run": manifest.rerun_of.run, "kind": manifest.rerun_of.kind}
        except DamagedError:
            facts["status"] = "damaged"
        except UserError:
            facts["status"] = "unreadable"
    return {"path": str(run_dir), **facts}
