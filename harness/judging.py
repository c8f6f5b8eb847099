"""What the commands that judge recorded runs do, between parsing and printing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.code_capture import source_root
from harness.errors import ExitCode, HarnessError
from harness.given import fetcher_of_data, folders_for_data, tell_note

if TYPE_CHECKING:
    from harness.bisection import Bisection, Side
    from harness.replay import Replay

__all__ = ["bisect_two", "check_files", "report_damage", "report_parting"]


def check_files(run_name: str, runs_dir: Path | None, data_dirs: tuple[Path, ...]) -> ExitCode:
    """Say which files of a run, or of its data, are not as recorded, and which facts were altered."""
    from harness.lookup import find_run
    from harness.recorded import data_problems, load, locate_data
    from harness.soundness import contradictions, remarks

    path = find_run(run_name, runs_dir)
    recorded = load(path)
    found = locate_data(recorded, folders_for_data(data_dirs), fetcher_of_data(may_download=False))
    problems = data_problems(recorded, found)
    for sentence in problems:
        click.echo(f"damaged: {sentence}", err=True)
    code = report_damage(path)
    if code is ExitCode.OK:
        for remark in remarks(recorded):
            tell_note(remark)
        for sentence in (found_out := contradictions(recorded)):
            click.echo(f"altered: {sentence}", err=True)
        problems = (*problems, *found_out)
    if not problems and code is ExitCode.OK:
        click.echo("every file of the run and its data are as recorded")
        return ExitCode.OK
    return ExitCode.DIFFERS


def report_damage(path: Path) -> ExitCode:
    """Say which files of a run are not those of its manifest; a run without one has nothing to be held to."""
    from harness.manifest import damaged_files, read_manifest
    from harness.store import MANIFEST

    if not (path / MANIFEST).is_file():
        return ExitCode.OK
    problems = damaged_files(path, read_manifest(path))
    for sentence in problems:
        click.echo(f"damaged: {sentence}", err=True)
    return ExitCode.DIFFERS if problems else ExitCode.OK


def report_parting(first: Path, second: Path) -> None:
    """Print where two runs part, if their traces tell."""
    from harness.comparison import parting_sentence

    if (sentence := parting_sentence(first, second)) is not None:
        click.echo(f"  {sentence}")


def bisect_two(
    runs: tuple[str, str], runs_dir: Path, data_dirs: tuple[Path, ...], trace_only: bool, restores: bool
) -> Bisection:
    """Find where two runs part; `trace_only` carries no step out, `restores` rebuilds environments."""
    from harness.bisection import Side, bisect_runs
    from harness.cache import cache_folder
    from harness.lookup import find_run
    from harness.placing import executor_for_run
    from harness.recorded import load, locate_data
    from harness.replay import Replay, Stage, replay, set_stage
    from harness.screen import watching
    from harness.store import BEGUN, MANIFEST

    paths = [find_run(run, runs_dir) for run in runs]
    recorded = {path: load(path, MANIFEST if (path / MANIFEST).is_file() else BEGUN) for path in paths}
    stages: dict[Path, Stage] = {}

    def carry_out(side: Side, batch: int) -> Replay:
        run = recorded[side.path]
        try:
            if side.path not in stages:
                executor = executor_for_run(
                    side.name, run.manifest, None, None, tell_note, is_restored=restores
                )
                found = locate_data(run, folders_for_data(data_dirs), fetcher_of_data(may_download=False))
                stages[side.path] = set_stage(
                    run, executor, found, root=source_root(), cache=cache_folder(), restores=restores
                )
            with watching() as look:
                return replay(stages[side.path], side.lines, batch, look)
        except HarnessError as error:
            return Replay(problem=" ".join(str(error).splitlines()))

    first, second = (Side.read(path, recorded[path].manifest) for path in paths)
    return bisect_runs(first, second, None if trace_only else carry_out)
