"""What the commands that train do, between parsing and printing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.called import called
from harness.code_capture import source_root
from harness.errors import ExitCode, UserError
from harness.given import fetcher_of_data, folders_for_data, tell_note

if TYPE_CHECKING:
    from harness.executors.base import Executor
    from harness.recorded import Recorded
    from harness.resolved import ResolvedRun
    from harness.run import Finished
    from harness.spec import RunSpec

__all__ = [
    "close_run",
    "fetch_scans",
    "repeat_run",
    "resolve_spec",
    "restore_run",
    "resume_run",
    "run_twice",
]


def resolve_spec(
    spec_path: Path,
    sets: tuple[str, ...],
    device: str | None,
    data_dirs: tuple[Path, ...],
    executor_name: str | None,
    is_to_run: bool = False,
) -> tuple[Executor, RunSpec, ResolvedRun, Mapping[str, str]]:
    """Return executor, spec, resolved run and each role's data file; what is assumed is told."""
    from harness.spec import read_spec

    spec = read_spec(spec_path, sets, device)
    from harness.placing import executor_for_spec  # the text is YAML, so it is worth loading what judges it
    from harness.resolve import resolve

    executor = executor_for_spec(spec, executor_name, is_to_run=is_to_run)
    resolution = resolve(
        spec,
        executor.inventory(),
        data_dirs=folders_for_data(data_dirs),
        fetch=fetcher_of_data(may_download=is_to_run, spec=spec_path),
    )
    for note in resolution.run.notes:
        tell_note(note)
    return executor, spec, resolution.run, resolution.inputs


def fetch_scans(spec_path: Path, sets: tuple[str, ...], data_dirs: tuple[Path, ...]) -> None:
    """Download what a spec names and no folder has, and print where each scan is."""
    from harness.errors import SpecError
    from harness.sources import find_sources
    from harness.spec import read_spec

    spec = read_spec(spec_path, sets)
    found, problems, notes = find_sources(
        spec, folders_for_data(data_dirs), fetcher_of_data(may_download=True)
    )
    for note in notes:
        tell_note(note)
    if problems:
        raise SpecError(problems)
    for role, scan in found.items():
        place = scan.path or "simulated by the run, nothing to fetch"
        click.echo(f"{role:<11}{place}")


def repeat_run(
    kind: Any,
    run_name: str,
    runs_dir: Path | None,
    data_dirs: tuple[Path, ...],
    executor_name: str | None,
    image: str | None,
    regardless: bool,
) -> tuple[Recorded, Finished, tuple[str, ...]]:
    """Return a recorded run, its repetition, and what `verify` found contradictory in the record."""
    from harness.lookup import find_run
    from harness.placing import executor_for_run
    from harness.recorded import load, locate_data
    from harness.repeat import repeat
    from harness.screen import watching
    from harness.soundness import refuse_contradictions, remarks

    recorded = load(find_run(run_name, runs_dir))
    contradictions: tuple[str, ...] = ()
    if kind == "verify":
        _refuse_what_did_not_end(recorded)
        for remark in remarks(recorded):
            tell_note(remark)
        contradictions = refuse_contradictions(recorded, regardless=regardless, warn=tell_note)
    executor = executor_for_run(recorded.path.name, recorded.manifest, executor_name, image, tell_note)
    found = locate_data(recorded, folders_for_data(data_dirs), fetcher_of_data(may_download=True))
    with watching() as look:
        finished = repeat(
            recorded,
            kind,
            executor,
            runs_dir=recorded.path.parent if runs_dir is None else runs_dir,
            root=source_root(),
            found=found,
            regardless=regardless,
            look=look,
            warn=tell_note,
        )
    return recorded, finished, contradictions


def _refuse_what_did_not_end(recorded: Recorded) -> None:
    status, name = recorded.manifest.status, recorded.path.name
    if status in {"interrupted", "failed"}:
        cure = called("resume", recorded.path)
        raise UserError(f"{name} is {status}, so there is no end to verify: continue it by `{cure}`")


def run_twice(runs_dir: Path, data_dirs: tuple[Path, ...], **choice: Any) -> tuple[Finished, Finished | None]:
    """Run a spec, and its run again; one that did not complete is returned alone, with None."""
    from harness.run import Job, run
    from harness.screen import watching

    executor, spec, resolved, inputs = resolve_spec(data_dirs=data_dirs, is_to_run=True, **choice)
    with watching() as look:
        first = run(Job(resolved, spec.text, inputs), executor, runs_dir, root=source_root(), look=look)
    if first.manifest.status != "completed":
        return first, None
    again = (str(first.path), runs_dir, data_dirs, choice["executor_name"], None, False)
    _, second, _ = repeat_run("verify", *again)
    return (first, second) if second.manifest.status == "completed" else (second, None)


def resume_run(
    run_name: str,
    runs_dir: Path,
    data_dirs: tuple[Path, ...],
    executor_name: str | None,
    regardless: bool,
    max_restarts: int,
) -> Finished:
    """Go on with a run that was broken off; a worker that is killed is started `max_restarts` times more."""
    from harness.lookup import find_run
    from harness.placing import executor_for_run
    from harness.recorded import locate_data
    from harness.resume import load_broken_off, resume
    from harness.screen import watching

    recorded = load_broken_off(find_run(run_name, runs_dir))
    executor = executor_for_run(recorded.path.name, recorded.manifest, executor_name, None, tell_note)
    found = locate_data(recorded, folders_for_data(data_dirs), fetcher_of_data(may_download=True))
    with watching() as look:
        return resume(
            recorded,
            executor,
            root=source_root(),
            found=found,
            regardless=regardless,
            look=look,
            warn=tell_note,
            max_restarts=max_restarts,
        )


def restore_run(
    run_name: str,
    runs_dir: Path | None,
    data_dirs: tuple[Path, ...],
    executor_name: str | None,
    image: str | None,
    regardless: bool,
) -> None:
    """Rebuild a run's code and environment, and become the process that runs it again there."""
    from harness.cache import cache_folder
    from harness.lookup import find_run
    from harness.manifest import read_manifest
    from harness.restore import Restored, hand_over, restore_environment, restore_tree

    path = find_run(run_name, runs_dir)
    manifest = read_manifest(path)
    executor = executor_name or ("docker" if manifest.environment.image else "local")
    if image is not None or executor != "local":
        raise UserError(
            "--restore rebuilds a native environment: add --executor local; "
            "a container's environment is its image, which `harness image build` makes"
        )
    cache = cache_folder().resolve()
    click.echo(f"rebuilding code and environment in {cache}", err=True)
    tree = restore_tree(path, manifest.code, source_root(), cache)
    python = restore_environment(path, manifest, tree, cache, os.environ)
    into = path.parent if runs_dir is None else runs_dir.resolve()
    arguments = ["rerun", str(path), "--runs-dir", str(into), "--executor", "local"]
    arguments += [
        word for folder in folders_for_data(data_dirs) for word in ("--data-dir", str(folder.resolve()))
    ]
    arguments += ["--regardless"] if regardless else []
    hand_over(Restored(tree, python), arguments, os.environ)


def close_run(finished: Finished) -> ExitCode:
    """Print the closing screen of a run, and return its exit code."""
    from harness.run import exit_code
    from harness.screen import print_closing

    print_closing(finished)
    return exit_code(finished)
