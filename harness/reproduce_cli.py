"""``harness reproduce``: run a published recipe and hold what comes out against its figures."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from harness.called import called, shown
from harness.code_capture import source_root
from harness.errors import ExitCode, UserError
from harness.given import fetcher_of_data, folders_for_data, tell_note
from harness.options import data_dir_option, executor_option, json_option, runs_dir_option

if TYPE_CHECKING:
    from harness.reproduce.arms import ArmResult
    from harness.reproduce.recipe import Recipe

__all__ = ["reproduce_command"]


@click.command("reproduce", short_help="Run a published recipe and judge its figures.")
@click.argument("name", required=False)
@click.option("--fast", "is_fast", is_flag=True, help="Only the recipe's fast row: at most ten minutes.")
@click.option("--list", "is_list", is_flag=True, help="List the recipes.")
@runs_dir_option
@data_dir_option
@executor_option
@json_option
def reproduce_command(
    name: str | None,
    is_fast: bool,
    is_list: bool,
    runs_dir: Path,
    data_dirs: tuple[Path, ...],
    executor_name: str | None,
    as_json: bool,
) -> ExitCode:
    """Run the recipe NAME, or one in a file, and say of each published figure whether it is reproduced.

    Each arm is a run of its own for each seed. One that the folder of runs holds already, with the same
    values, data, code and environment, is reused; one that was broken off goes on: call it again after an
    interruption. Exit code 0: every comparable figure is reproduced, 3: one is not.
    """
    from harness.reproduce.reading import find_recipe, read_recipe, recipe_paths
    from harness.run import code_of_stop

    folder = source_root() / "runs" / "published"
    if is_list:
        for path in recipe_paths(folder):
            recipe = read_recipe(path)
            click.echo(f"{recipe.name:<18}{recipe.title}: {', '.join(recipe.arms)}")
        return ExitCode.OK
    if name is None:
        raise UserError(f"name a recipe: `{called('reproduce --list')}` lists them")
    recipe = read_recipe(find_recipe(name, folder))
    results = _run_arms(recipe, is_fast, runs_dir, data_dirs, executor_name)
    if results[-1].was_stopped:
        again = called(shlex.join(("reproduce", name, *_options_given(click.get_current_context()))))
        click.echo(f"stopped; `{again}` goes on where it stood", err=True)
        return code_of_stop(results[-1].runs[-1].stopped_by)
    return _report(recipe, results, is_fast, runs_dir, as_json)


def _run_arms(
    recipe: Recipe, is_fast: bool, runs_dir: Path, data_dirs: tuple[Path, ...], executor_name: str | None
) -> tuple[ArmResult, ...]:
    from harness.placing import executor_for_spec
    from harness.reproduce.arms import Around, run_arm
    from harness.screen import watching

    results: list[ArmResult] = []
    with watching() as look:
        around = Around(
            executor_for=functools.partial(executor_for_spec, name=executor_name),
            runs_dir=runs_dir,
            root=source_root(),
            folders=folders_for_data(data_dirs),
            fetcher=fetcher_of_data(may_download=True),
            look=look,
            tell=tell_note,
        )
        for arm in recipe.chosen(is_fast=is_fast):
            results.append(run_arm(recipe, arm, around))
            if results[-1].was_stopped:
                break
    return tuple(results)


def _options_given(context: click.Context) -> Iterator[str]:
    """Yield the options of a command as they were typed."""
    for option in context.command.params:
        name = option.name or ""
        is_typed = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if not isinstance(option, click.Option) or not is_typed:
            continue
        if option.is_flag:
            yield option.opts[0]
            continue
        value = context.params[name]
        for one in value if option.multiple else (value,):
            yield from (option.opts[0], str(one))


def _report(
    recipe: Recipe, results: tuple[ArmResult, ...], is_fast: bool, runs_dir: Path, as_json: bool
) -> ExitCode:
    from harness.report import as_json as json_text
    from harness.reproduce.tables import Reproduction, as_plain, text_lines, write_reproduction
    from harness.reproduce.verdicts import exit_code_of, judge_figure
    from harness.store import utc_now

    by_name = {result.arm.name: result for result in results}
    shortened = recipe.shortened(is_fast=is_fast)
    figures = [figure for figure in recipe.figures if not is_fast or figure.told.arm in by_name]
    rows = tuple(judge_figure(figure, by_name, shortened) for figure in figures)
    made = Reproduction(recipe, results, rows, is_fast, shortened, utc_now())
    paths = write_reproduction(made, runs_dir)
    if as_json:
        click.echo(json_text(as_plain(made)))
    else:
        for line in text_lines(made):
            click.echo(line)
        for label, path in zip(("result", "page"), paths, strict=True):
            click.echo(f"{label:<11}{shown(path)}")
    code = exit_code_of(rows, results)
    if code == ExitCode.BAD_INPUT:
        click.echo("no arm could be run: --data-dir names a folder that has their files", err=True)
    return code
