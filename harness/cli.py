"""The command line: parse, call, print. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from harness.called import called, shown
from harness.code_capture import source_root
from harness.commands import close_run, fetch_scans, repeat_run, resolve_spec, restore_run
from harness.errors import ExitCode, HarnessError
from harness.golden_cli import golden
from harness.image_cli import image
from harness.images import last_words, refusals
from harness.judging import bisect_two, check_files, report_damage, report_parting
from harness.onward_cli import reconstruct_command, refine_command, resume_command
from harness.options import (
    data_dir_option,
    json_option,
    max_restarts_option,
    repeat_options,
    run_argument,
    runs_dir_option,
    set_option,
    spec_argument,
    spec_options,
)
from harness.reproduce_cli import reproduce_command
from harness.simulate_cli import simulate_command
from ptycho_torch.errors import ConfigError, DataError, ExactnessError, NotRunnableError, PtychoError

__all__ = ["cli", "main"]

_REFUSALS = (ConfigError, DataError, ExactnessError, NotRunnableError)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """From a YAML spec to a training run that repeats bit by bit.

    Exit codes: 0 done, 1 run failed, 2 bad input, 3 verification or re-run differs, 130 and 143 interrupted.
    """


@cli.command("run")
@spec_options
@runs_dir_option
@max_restarts_option
@click.option("--require", "required", multiple=True, metavar="METRIC>=VALUE", help="Fail below this figure.")
def run_command(runs_dir: Path, max_restarts: int, required: tuple[str, ...], **choice: Any) -> ExitCode:
    """Train and reconstruct what SPEC describes."""
    from harness.gate import read_requirements, unmet

    demands = read_requirements(required)
    executor, spec, resolved, inputs = resolve_spec(is_to_run=True, **choice)
    from harness.run import Job, run  # after the spec is known to be sound
    from harness.screen import watching

    with watching() as look:
        job = Job(resolved, spec.text, inputs)
        finished = run(job, executor, runs_dir, root=source_root(), look=look, max_restarts=max_restarts)
    code = close_run(finished)
    has_ended = finished.manifest.status in {"completed", "collapsed"}
    for sentence in unmet(demands, finished.manifest.metrics) if has_ended else ():
        click.echo(f"not good enough: {sentence}", err=True)
        code = code or ExitCode.RUN_FAILED
    return code


@cli.command("plan", short_help="Print what `run` would run, with an estimate; run nothing.")
@spec_options
@click.option("-v", "--verbose", "is_verbose", is_flag=True, help="List the worker's variables, too.")
@json_option
def plan_command(as_json: bool, is_verbose: bool, **choice: Any) -> None:
    """Print what `run` would run, with an estimate of time and memory; runs and writes nothing."""
    executor, _, resolved, inputs = resolve_spec(**choice)
    from harness.plan import make_plan
    from harness.report import plan_json, plan_lines

    plan = make_plan(
        resolved,
        "RUN_DIR",
        python=executor.python,
        packages=executor.packages,
        caller=executor.caller,
        inputs=inputs.values(),
    )
    told = (plan, resolved, inputs)
    _print(plan_json(*told) if as_json else plan_lines(*told, is_verbose=is_verbose))


@cli.command("explain", short_help="Say where the value of KEY comes from.")
@spec_options
@click.argument("key", required=False)
@json_option
def explain_command(key: str | None, as_json: bool, **choice: Any) -> None:
    """Say where the value of KEY comes from, and what it hides; without KEY, for every value."""
    _, _, resolved, _ = resolve_spec(**choice)
    from harness.report import explain_json, explain_lines

    _print(explain_json(resolved, key) if as_json else explain_lines(resolved, key))


@cli.command("fetch")
@spec_argument
@set_option
@data_dir_option
def fetch_command(**choice: Any) -> None:
    """Bring the data of SPEC here, checked by sha256.

    Afterwards `run` needs no network. `run`, `rerun` and the like fetch what is not here yet themselves.
    """
    fetch_scans(**choice)


@cli.command("new")
@click.argument("scan", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The spec to write; by default in this folder."
)
@set_option
def new_command(scan: Path, output: Path | None, sets: tuple[str, ...]) -> None:
    """Write a commented spec for the data file SCAN, ready to run."""
    from harness.new_spec import write_spec

    written = write_spec(scan, output, lambda sentence: click.echo(f"note: {sentence}", err=True), sets)
    click.echo(f"wrote {written}; next: {called('run', written)}")


@cli.command("rerun", short_help="Run RUN once more, from its folder alone.")
@repeat_options
@click.option("--restore", "is_restored", is_flag=True, help="First rebuild its code and environment.")
def rerun_command(is_restored: bool, **choice: Any) -> ExitCode:
    """Run RUN once more, from its folder alone; refuse when something it depends on has changed.

    The new run folder stands beside RUN, or in --runs-dir. The exit code is 3 when both runs came to their
    end and a compared result differs.
    """
    if is_restored:
        restore_run(**choice)
    from harness.repeat import rerun_exit_code
    from harness.verification import verdict_on

    recorded, finished, _ = repeat_run("rerun", **choice)
    close_run(finished)
    verdict = verdict_on((recorded.path, recorded.manifest), (finished.path, finished.manifest))
    click.echo(f"{'compared':<11}{verdict.headline}")
    report_parting(recorded.path, finished.path)
    return rerun_exit_code(recorded.manifest, finished, verdict)


@cli.command("verify", short_help="Train RUN again and judge: bitwise, or what differs.")
@repeat_options
@click.option("--files-only", is_flag=True, help="Only check the stored files and the data; train nothing.")
def verify_command(files_only: bool, **choice: Any) -> ExitCode:
    """Train RUN again in a new process and folder, and judge: bitwise, or where it diverged and what differs.

    The new run folder stands beside RUN, or in --runs-dir; the last line names it, and it is kept.
    A record that contradicts itself is refused. Where no bits are promised (another processor or card) and
    figures move as little as rounding was measured to move them: tolerance, exit code 0 as for bitwise.
    """
    from harness.verification import verdict_on, verification_exit_code, verification_lines

    if files_only:
        return check_files(choice["run_name"], choice["runs_dir"], choice["data_dirs"])
    recorded, finished, contradictions = repeat_run("verify", **choice)
    if finished.manifest.status not in {"completed", "collapsed"}:
        return close_run(finished)
    verdict = verdict_on(
        *((one.path, one.manifest) for one in (recorded, finished)), contradictions=contradictions
    )
    _print(verification_lines(verdict))
    report_parting(recorded.path, finished.path)
    click.echo(f"repeated in {shown(finished.path)}")
    return verification_exit_code(verdict)


@cli.command("compare", short_help="Say in what two runs differ.")
@click.argument("first", metavar="RUN")
@click.argument("second", metavar="OTHER_RUN")
@runs_dir_option
@json_option
def compare_runs_command(first: str, second: str, runs_dir: Path, as_json: bool) -> ExitCode:
    """Say in what two runs differ: values, data, code, environment, where their trainings part, results.

    A row gives its area, and RUN -> OTHER_RUN. `trace` names the first step and tensor that part: before it
    the trainings are the same. The exit code is 3 when a result differs.
    """
    from harness.comparison import compare_runs
    from harness.lookup import find_run
    from harness.manifest import read_manifest
    from harness.report import as_json as json_text
    from harness.report import comparison_lines

    paths = [find_run(run, runs_dir) for run in (first, second)]
    found = compare_runs(*((path, read_manifest(path)) for path in paths))
    _print(json_text(vars(found)) if as_json else comparison_lines(found))
    return ExitCode.OK if found.is_bitwise else ExitCode.DIFFERS


@cli.command("bisect", short_help="Name the first step where two runs part, and why.")
@click.argument("first", metavar="RUN")
@click.argument("second", metavar="OTHER_RUN")
@runs_dir_option
@data_dir_option
@click.option("--trace-only", is_flag=True, help="Carry nothing out once more: say what the traces say.")
@click.option(
    "--restore", "restores", is_flag=True, help="Rebuild a run's environment where another is here."
)
@json_option
def bisect_command(first: str, second: str, as_json: bool, **choice: Any) -> ExitCode:
    """Name the first step and tensor where two runs part, and what may be the cause, likeliest first.

    Each run is carried out once more up to that step, with its own code and data, unless its trace tells the
    tensor. The exit code is 3 when the runs part.
    """
    import dataclasses

    from harness.report import as_json as json_text
    from harness.report import bisection_lines

    if choice["trace_only"] and choice["restores"]:
        raise click.UsageError(
            "--restore rebuilds an environment to carry a run out in, and --trace-only carries none out: "
            "leave one of them out"
        )
    found = bisect_two((first, second), **choice)
    _print(json_text(dataclasses.asdict(found)) if as_json else bisection_lines(found))
    return ExitCode.OK if found.is_bitwise else ExitCode.DIFFERS


@cli.command("show", short_help="Show a run, also one that is running or died.")
@run_argument
@runs_dir_option
@json_option
def show_command(run_name: str, runs_dir: Path, as_json: bool) -> ExitCode:
    """Show a run: its manifest, or its journal where there is none (yet)."""
    from harness.listing import show_json, show_lines
    from harness.lookup import find_run

    path = find_run(run_name, runs_dir)
    _print(show_json(path) if as_json else show_lines(path))
    return report_damage(path)


@cli.command("list")
@runs_dir_option
@json_option
def list_command(runs_dir: Path, as_json: bool) -> None:
    """List all runs with their status."""
    from harness.listing import list_json, list_lines

    _print(list_json(runs_dir) if as_json else list_lines(runs_dir))


cli.add_command(golden)
cli.add_command(image)
cli.add_command(reconstruct_command)
cli.add_command(refine_command)
cli.add_command(reproduce_command)
cli.add_command(resume_command)
cli.add_command(simulate_command)


def _print(lines: Any) -> None:
    for line in [lines] if isinstance(lines, str) else lines:
        click.echo(line)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        answer = cli.main(args=arguments, prog_name="harness", standalone_mode=False)
        return int(answer) if isinstance(answer, int) else int(ExitCode.OK)
    except click.ClickException as error:
        error.show()
        return int(ExitCode.BAD_INPUT)
    except (click.Abort, KeyboardInterrupt):
        return int(ExitCode.INTERRUPTED)
    except HarnessError as error:
        click.echo(str(error), err=True)
        return int(error.exit_code)
    except PtychoError as error:
        click.echo(str(error), err=True)
        return int(ExitCode.BAD_INPUT if isinstance(error, _REFUSALS) else ExitCode.RUN_FAILED)
    except BrokenPipeError:
        sys.stderr.close()
        return int(ExitCode.RUN_FAILED)
    except refusals() as error:
        click.echo(f"the Docker engine refused: {last_words(error)}; see its log", err=True)
        return int(ExitCode.BAD_INPUT)
    except OSError as error:  # a full or broken disk; what a user named wrongly was refused before
        cure = f"mend it and try again; `{called('resume')}` continues a run that had begun"
        click.echo(f"the operating system refused ({error}): {cure}", err=True)
        return int(ExitCode.RUN_FAILED)
