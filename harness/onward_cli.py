"""The commands that go on from a recorded run: resume it, refine its image, turn its network on a scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.code_capture import source_root
from harness.commands import close_run, resume_run
from harness.errors import ExitCode
from harness.given import fetcher_of_data, folders_for_data, tell_note
from harness.options import (
    beside_run_option,
    data_dir_option,
    device_option,
    executor_option,
    max_restarts_option,
    run_argument,
    runs_dir_option,
)

__all__ = ["reconstruct_command", "refine_command", "resume_command"]

_set_option = click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a value of the new run, over what it has from RUN.",
)


@click.command("resume", short_help="Continue RUN, which was broken off, where it stood.")
@run_argument
@runs_dir_option
@data_dir_option
@executor_option
@click.option("--regardless", is_flag=True, help="Go on although code or environment differ.")
@max_restarts_option
def resume_command(**choice: Any) -> ExitCode:
    """Continue RUN, which was broken off, in its own folder, to the bits of an unbroken run.

    It goes on from the last sound state that it saved, in the middle of an epoch too (`checkpoints:` in the
    spec says how often it saves one); without a state it starts anew.
    """
    return close_run(resume_run(**choice))


@click.command("reconstruct", short_help="Turn the network that RUN has trained on another SCAN.")
@run_argument
@click.argument("data", metavar="SCAN")
@_set_option
@device_option
@beside_run_option
@data_dir_option
@executor_option
def reconstruct_command(
    run_name: str,
    data: str,
    sets: tuple[str, ...],
    device: str | None,
    runs_dir: Path | None,
    data_dirs: tuple[Path, ...],
    executor_name: str | None,
) -> ExitCode:
    """Turn the network that RUN has trained on another SCAN; the memory does not grow with its frames.

    It is a run of its own, with its own folder and manifest, and is repeated and verified like any other.
    """
    from harness.lookup import find_run
    from harness.placing import executor_for_spec
    from harness.reconstruct import options_of, reconstruction_job
    from harness.recorded import load
    from harness.run import run
    from harness.screen import watching

    trained = load(find_run(run_name, runs_dir))
    spec = options_of(trained, data, sets, device)
    executor = executor_for_spec(spec, executor_name)
    job = reconstruction_job(trained, data, spec, executor.inventory(), folders_for_data(data_dirs))
    for sentence in job.resolved.notes:
        tell_note(sentence)
    with watching() as look:
        finished = run(job, executor, runs_dir or trained.path.parent, root=source_root(), look=look)
    return close_run(finished)


@click.command("refine", short_help="Refine the image of RUN by the physics alone.")
@run_argument
@_set_option
@beside_run_option
@data_dir_option
@executor_option
def refine_command(
    run_name: str,
    sets: tuple[str, ...],
    runs_dir: Path | None,
    data_dirs: tuple[Path, ...],
    executor_name: str | None,
) -> ExitCode:
    """Refine the image of RUN by the physics alone, in a run folder of its own; nothing is trained.

    Options are given with `--set`, such as `--set products.refine.passes=40`. What is not given is as RUN was
    told, by `--set` or by its spec's block `products: {refine: {...}}`. The network's image stays as it is,
    and is kept beside the refined one.
    """
    from harness.lookup import find_run
    from harness.placing import executor_for_run
    from harness.recorded import load, locate_data
    from harness.refine import refine_run
    from harness.screen import watching

    recorded = load(find_run(run_name, runs_dir))
    executor = executor_for_run(recorded.path.name, recorded.manifest, executor_name, None, tell_note)
    found = locate_data(recorded, folders_for_data(data_dirs), fetcher_of_data(may_download=True))
    root = source_root()
    with watching() as look:
        into = runs_dir or recorded.path.parent
        finished = refine_run(recorded, sets, executor, runs_dir=into, root=root, found=found, look=look)
    return close_run(finished)
