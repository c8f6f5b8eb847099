"""``harness golden``: compare a run with what it came to before, or accept what it comes to now."""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path
from typing import Any

import click

from harness.called import called
from harness.commands import close_run, run_twice
from harness.errors import ExitCode, HarnessError
from harness.options import runs_dir_option, spec_options

__all__ = ["golden", "way_to_accept"]

_file = click.Path(path_type=Path, dir_okay=False)
_golden_option = click.option(
    "--golden",
    "golden_file",
    type=_file,
    help="The golden file; by default golden/NAME.json beside the spec.",
)


class NotRepeatedError(HarnessError):
    """Two runs in a row are not the same."""

    exit_code = ExitCode.DIFFERS


@click.group()
def golden() -> None:
    """Compare a run with its golden, or accept a new one."""


def _kept_in(spec: Path, given: Path | None) -> Path:
    return given or spec.parent / "golden" / f"{spec.stem}.json"


def way_to_accept(
    spec_path: Path, golden_file: Path | None, sets: tuple[str, ...], runs_dir: Path | None
) -> str:
    """Return the command that accepts what a check has found.

    Parameters
    ----------
    spec_path, golden_file, sets, runs_dir
        As they were given to the check. Where the golden file cannot be written, as in an image, a copy of
        it in `runs_dir` is: with a file of nothing but the new golden, the others would be lost.
    """
    changed = (word for one in sets for word in ("--set", one))
    words = ["golden", "accept", str(spec_path), *changed]
    kept, before = _kept_in(spec_path, golden_file), ""
    folder = next(place for place in kept.absolute().parents if place.exists())
    if runs_dir is not None and not os.access(folder, os.W_OK):
        golden_file = runs_dir / kept.name
        before = f"{shlex.join(['cp', str(kept), str(golden_file)])} && " if kept.exists() else ""
    return before + called(shlex.join([*words, *(["--golden", str(golden_file)] if golden_file else [])]))


@golden.command("check", short_help="Run SPEC twice and compare it with its golden.")
@spec_options
@runs_dir_option
@_golden_option
@click.option("--junit", type=_file, help="Write the verdict as JUnit XML.")
@click.option("--json", type=_file, help="Write the verdict as JSON.")
@click.option("--markdown", type=_file, help="Write a summary in Markdown.")
def check_command(
    golden_file: Path | None, junit: Path | None, json: Path | None, markdown: Path | None, **choice: Any
) -> ExitCode:
    """Run SPEC twice and look at three lanes: the two runs, the golden of this key, the published figures.

    \b
    A/B        two runs in this job, bitwise
    golden     bitwise with the golden for this lock, profile, thread count and processor
    tolerance  published figures, within what rounding was measured to move them

    Exit codes: 0 all hold, 3 one differs, 2 there is no golden for this key (or bad input), 1 a run failed.
    """  # noqa: D301
    from harness.golden import read_goldens
    from harness.golden_report import report_lines, write_reports

    path = _kept_in(choice["spec_path"], golden_file)
    goldens = read_goldens(path)  # before anything is trained
    first, second = run_twice(**choice)
    if second is None:
        return close_run(first)
    from harness.golden import golden_of, key_of
    from harness.golden_check import Report, ab_lane, golden_lane, tolerance_lane
    from harness.spreads import figures_of
    from harness.verification import verdict_on

    key, manifest = key_of(first.manifest), first.manifest
    cure = way_to_accept(choice["spec_path"], golden_file, choice["sets"], choice["runs_dir"])
    report = Report(
        spec=str(choice["spec_path"]),
        golden_file=str(path),
        key=key,
        lanes=(
            ab_lane(verdict_on((first.path, manifest), (second.path, second.manifest))),
            golden_lane(goldens, key, golden_of(first.path, manifest), cure),
            tolerance_lane(goldens.published, figures_of(manifest)),
        ),
        runs=(str(first.path), str(second.path)),
    )
    write_reports(report, junit, json, markdown)
    for line in report_lines(report):
        click.echo(line)
    return report.exit_code


@golden.command("accept", short_help="Run SPEC twice and make that its golden.")
@spec_options
@runs_dir_option
@_golden_option
@click.option("--publish", "is_published", is_flag=True, help="Publish the figures anew, too.")
def accept_command(golden_file: Path | None, is_published: bool, **choice: Any) -> ExitCode:
    """Run SPEC twice, write its golden for this key, and say what moved and why.

    Published figures stay as they are, unless there are none yet or --publish is given: many small steps
    within the tolerance would otherwise add up unseen. Nothing is accepted that does not repeat.
    """
    from harness.golden import golden_of, key_of, publish, read_goldens, write_goldens
    from harness.golden_report import accepted_lines
    from harness.spreads import read_spreads, task_of
    from harness.verification import verdict_on

    path = _kept_in(choice["spec_path"], golden_file)
    goldens = read_goldens(path)
    first, second = run_twice(**choice)
    if second is None:
        return close_run(first)
    verdict = verdict_on((first.path, first.manifest), (second.path, second.manifest))
    if not verdict.is_bitwise:
        raise NotRepeatedError(
            f"nothing was accepted, because two runs in a row are not the same: {verdict.headline}"
        )
    key, now = key_of(first.manifest), golden_of(first.path, first.manifest)
    published = goldens.published
    measured = read_spreads().get(task_of(first.manifest))
    if (is_published or not published) and measured is not None:
        published = publish(first.manifest, measured)
    accepted = dataclasses.replace(goldens, published=published, goldens={**goldens.goldens, str(key): now})
    write_goldens(path, accepted)
    click.echo(f"{'accepted':<11}{key}, in {path}")
    for line in accepted_lines(key, goldens, accepted):
        click.echo(line)
    return ExitCode.OK
