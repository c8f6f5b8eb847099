"""The arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from harness.lookup import RUNS_DIR

__all__ = [
    "beside_run_option",
    "data_dir_option",
    "device_option",
    "executor_option",
    "json_option",
    "max_restarts_option",
    "repeat_options",
    "run_argument",
    "runs_dir_option",
    "set_option",
    "spec_argument",
    "spec_options",
]

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

_path = click.Path(path_type=Path)


def _options(*options: Callable[[CommandT], CommandT]) -> Callable[[CommandT], CommandT]:
    def decorate(command: CommandT) -> CommandT:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


runs_dir_option: Callable[[Any], Any] = click.option(
    "--runs-dir",
    type=_path,
    default=RUNS_DIR,
    show_default=True,
    help="Folder that holds the run folders.",
)
beside_run_option: Callable[[Any], Any] = click.option(
    "--runs-dir",
    type=_path,
    help="Folder in which RUN is looked for by its name (else runs/_out), and that gets the new run folder "
    "(else it stands beside RUN, wherever that is).",
)
data_dir_option: Callable[[Any], Any] = click.option(
    "--data-dir",
    "data_dirs",
    type=_path,
    multiple=True,
    help="Folder to look for data in; may be given several times. HARNESS_DATA adds more.",
)
set_option: Callable[[Any], Any] = click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a value of the spec; a field's bare name will do where one block alone has it.",
)
device_option: Callable[[Any], Any] = click.option(
    "--device", metavar="cpu|cuda[:COUNT]", help="Short for the accelerator and how many devices, not which."
)
executor_option: Callable[[Any], Any] = click.option(
    "--executor",
    "executor_name",
    metavar="local|docker",
    help="Where the run executes; by default in a container where the spec, or the run, names an image.",
)
max_restarts_option: Callable[[Any], Any] = click.option(
    "--max-restarts",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="How often a worker that was killed (SIGKILL, lack of memory) is started again where it stood.",
)
json_option: Callable[[Any], Any] = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
run_argument: Callable[[Any], Any] = click.argument("run_name", metavar="RUN")
spec_argument: Callable[[Any], Any] = click.argument("spec_path", metavar="SPEC", type=_path)
spec_options = _options(spec_argument, set_option, device_option, data_dir_option, executor_option)
repeat_options = _options(
    run_argument,
    beside_run_option,
    data_dir_option,
    executor_option,
    click.option("--image", metavar="cpu|cuda|DIGEST", help="Another image than the one RUN was made in."),
    click.option("--regardless", is_flag=True, help="Go on although data, code or environment differ."),
)
