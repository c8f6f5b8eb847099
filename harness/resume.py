"""A run that was broken off, continued in its own folder from the last state that it saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.called import called
from harness.code_capture import work_tree
from harness.compare import Found
from harness.errors import UserError
from harness.manifest import read_manifest
from harness.outcome import ENDED, read_outcome
from harness.record import attempts_of, known_cpu_seconds
from harness.recorded import (
    Recorded,
    RefusedError,
    code_held,
    data_problems,
    load,
    refuse_what_differs,
)
from harness.run import Finished, Job, carry_out, write_inputs
from harness.store import (
    BEGUN,
    JOURNAL,
    MANIFEST,
    OUTCOME,
    append_event,
    hold_run,
    is_held,
    read_events,
    remove_durably,
)

if TYPE_CHECKING:
    from harness.executors.base import Executor

__all__ = ["load_broken_off", "resume"]

_REGARDLESS = (
    "--regardless goes on all the same, and the result is then another than that of one unbroken run"
)


def load_broken_off(run_dir: Path) -> Recorded:
    """Read a run that was broken off from its folder.

    Raises
    ------
    UserError
        The run is running, has come to its end, or was broken off before anything was known of it; or its
        journal is damaged.
    """
    if is_held(run_dir):
        hold_run(run_dir).release()
    _refuse_what_has_ended(run_dir)
    if not (run_dir / BEGUN).is_file():
        raise UserError(
            f"{run_dir.name} was broken off before its code and environment were known: run its spec again"
        )
    recorded = load(run_dir, BEGUN)
    _refuse_a_damaged_journal(run_dir)
    return recorded


def _refuse_a_damaged_journal(run_dir: Path) -> None:
    # Its attempts enter the manifest when the run has ended, and then it would be too late to find this.
    events = read_events(run_dir)
    try:
        attempts_of(events)
        is_whole = bool(events) and events[0]["event"] == "created"
    except (KeyError, TypeError, ValueError):
        is_whole = False
    if not is_whole:
        raise UserError(
            f"{run_dir / JOURNAL} is damaged: it does not tell how the run was made and started; put it "
            "back as it was, or run the spec again"
        )


def _refuse_what_has_ended(run_dir: Path) -> None:
    if not (run_dir / MANIFEST).is_file():
        return
    status = read_manifest(run_dir).status
    if status in ENDED:
        cure = called("rerun", run_dir)
        raise UserError(f"{run_dir.name} is {status}: there is nothing left to do; run it again by `{cure}`")


def _cure(recorded: Recorded, root: Path) -> str:
    commit, now = recorded.manifest.code.commit, work_tree(root)
    has_moved = None not in {commit, now} and commit != now
    return (f"git checkout {commit} brings the run's commit back; " if has_moved else "") + _REGARDLESS


def resume(
    recorded: Recorded,
    executor: Executor,
    *,
    root: Path,
    found: Mapping[str, Found],
    regardless: bool,
    look: Callable[[Path], None],
    warn: Callable[[str], None],
    max_restarts: int,
) -> Finished:
    """Continue a run in its own folder, to the bits that it would have had unbroken.

    Parameters
    ----------
    recorded
        The run, from :func:`load_broken_off`.
    executor, root, look, max_restarts
        As in :func:`harness.run.run`.
    found
        The data that :func:`harness.recorded.locate_data` found.
    regardless
        Go on although code or environment differ; the manifest says so. Other data are refused in any case.
    warn
        Told each difference that does not stop the run.

    Raises
    ------
    RefusedError
        Data, code or environment are not what they were; nothing in the folder is touched.
    """
    differing = refuse_what_differs(
        recorded,
        executor,
        root,
        found,
        verb="continued",
        cure=_cure(recorded, root),
        regardless=regardless,
        warn=warn,
    )
    changed = data_problems(recorded, found)
    if changed:  # groups and scales follow from the data, so no state of another scan can go on with them
        raise RefusedError(f"{recorded.path.name} cannot be continued with other data: {'; '.join(changed)}")
    path, manifest = recorded.path, recorded.manifest
    inputs = {role: str(place.path) for role, place in found.items()}
    code = code_held(recorded, executor, root)
    job = Job(recorded.resolved, manifest.spec, inputs, manifest.rerun_of, code)
    with hold_run(path) as held:
        _refuse_what_has_ended(path)
        outcome = read_outcome(path)
        differences = [str(one) for one in differing if one.matters]
        append_event(
            path, "resumed", differences=differences, cpu_seconds=known_cpu_seconds(path, outcome)
        )  # of a worker that died with its host; the host has noted what any other had spent
        has_ended = outcome is not None and outcome.has_ended
        for name in (MANIFEST, *(() if has_ended else (OUTCOME,))):
            remove_durably(path / name)
        write_inputs(path, inputs)
        return carry_out(held, job, executor, root=root, look=look, max_restarts=max_restarts)
