"""One run, from what was resolved to its manifest. Re-runs and verification runs are the same function."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.code_capture import Code, capture_code, copy_code
from harness.contents import remove_leftovers, sync_files
from harness.environment import LOCK_COPY
from harness.errors import ExitCode
from harness.manifest import Manifest, RepeatedRun, read_manifest, write_manifest
from harness.outcome import Outcome, OutcomeError, plain, read_outcome
from harness.plan import PASSED_ON, Plan, make_plan
from harness.record import (
    Circumstances,
    attempts_of,
    compose,
    explained,
    known_cpu_seconds,
    missing_outcome,
    with_last_fault,
)
from harness.store import (
    BEGUN,
    INPUTS,
    PROGRESS,
    RESOLVED,
    SPEC,
    HeldRun,
    append_event,
    create_run,
    read_events,
    remove_durably,
    utc_now,
    write_durably,
    write_json,
)
from harness.supervision import Supervised, noticing_signals

if TYPE_CHECKING:
    from harness.executors.base import Executor
    from harness.resolved import ResolvedRun

__all__ = ["Finished", "Job", "carry_out", "code_of_stop", "exit_code", "lay_out", "run", "write_inputs"]


@dataclass(frozen=True)
class Job:
    """What is to be run.

    Parameters
    ----------
    resolved
        The run as resolved.
    spec
        The spec's text, verbatim.
    inputs
        Role to the absolute path of the data on this machine.
    repeats
        The run that this one repeats, if any.
    code_of
        The run folder, and its record, whose code the executor holds; None: it is the checkout's.
    """

    resolved: ResolvedRun
    spec: str
    inputs: Mapping[str, str]
    repeats: RepeatedRun | None = None
    code_of: tuple[Path, Code] | None = None


@dataclass(frozen=True)
class Finished:
    """A run that has ended: its folder, its manifest, and the signal that asked it to stop, if any."""

    path: Path
    manifest: Manifest
    stopped_by: signal.Signals | None


def run(
    job: Job,
    executor: Executor,
    runs_dir: Path,
    *,
    root: Path,
    look: Callable[[Path], None] = lambda path: None,
    max_restarts: int = 0,
) -> Finished:
    """Run a job in a folder of its own and commit it with a manifest.

    Parameters
    ----------
    job
        What to run.
    executor
        Where to run it.
    runs_dir
        Folder that receives the run folder.
    root
        Folder that holds the packages.
    look
        Called with the run folder a few times a second while the worker runs.
    max_restarts
        How often a worker that died without a word is started again, to continue where it stood.

    Returns
    -------
    Finished
        The run, whatever its status.
    """
    with create_run(runs_dir, job.resolved.name) as held:
        lay_out(job, held.path)
        return carry_out(held, job, executor, root=root, look=look, max_restarts=max_restarts)


def carry_out(
    held: HeldRun,
    job: Job,
    executor: Executor,
    *,
    root: Path,
    look: Callable[[Path], None],
    max_restarts: int,
) -> Finished:
    """Carry out a job in the folder that was laid out for it, from its beginning or from where it stands.

    Parameters
    ----------
    held
        The run folder.
    job, executor, root, look, max_restarts
        As in :func:`run`.
    """
    path = held.path.resolve()
    supervision = Supervised(held.lock_fd, lambda: look(path))
    with noticing_signals(supervision), _journalled(path):
        plan = make_plan(
            job.resolved,
            str(path),
            python=executor.python,
            packages=executor.packages,
            caller=executor.caller,
            inputs=job.inputs.values(),
        )
        # Described while the worker imports; it tells what it runs itself, and the two are compared.
        with ThreadPoolExecutor(1) as beside:
            supervision.surroundings = beside.submit(_surroundings, job, executor, plan, path, root)
            outcome = _attempts(plan, executor, supervision, path, max_restarts)
            around = supervision.surroundings.result()
        if outcome.has_ended:  # its worker may have died before it could
            remove_leftovers(path)
        environment = dataclasses.replace(around.environment, process=plain(outcome.environment))
        attempts, finished = attempts_of(read_events(path)), utc_now()
        outcome = with_last_fault(outcome, attempts)
        around = dataclasses.replace(around, environment=environment, attempts=attempts, finished=finished)
        append_event(path, "ended", status=outcome.status, finished=finished)
        composed = compose(path, job.resolved, outcome, around)
        # The manifest vouches for these files, so none may be lost where it is kept.
        sync_files(path, composed.files)
        manifest = write_manifest(path, composed)
    return Finished(path, manifest, supervision.signals[0] if supervision.signals else None)


@contextlib.contextmanager
def _journalled(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        append_event(path, "failed", error=f"{type(error).__name__}: {error}")
        raise


def lay_out(job: Job, path: Path) -> None:
    """Write into a run folder what its worker reads.

    Parameters
    ----------
    job
        What is to be run.
    path
        The folder.
    """
    for folder in ("checkpoints", "products", "logs"):
        (path / folder).mkdir()
    write_durably(path / SPEC, job.spec.encode("utf-8"))
    write_json(path / RESOLVED, job.resolved.to_json())
    write_inputs(path, job.inputs)


def write_inputs(run_dir: Path, inputs: Mapping[str, str]) -> None:
    """Write down where a run's data lie on this machine.

    Parameters
    ----------
    run_dir
        The run folder.
    inputs
        Role to absolute path; kept relative, so that folder and data may move together.
    """
    write_json(run_dir / INPUTS, {role: os.path.relpath(place, run_dir) for role, place in inputs.items()})


def _surroundings(job: Job, executor: Executor, plan: Plan, path: Path, root: Path) -> Circumstances:
    code = capture_code(root, path) if job.code_of is None else copy_code(*job.code_of, path)
    environment, lock = executor.environment()
    if lock is not None:
        write_durably(path / LOCK_COPY, lock)
    has_begun = (path / BEGUN).is_file()
    around = Circumstances(
        spec=job.spec,
        created=read_manifest(path, BEGUN).created if has_begun else read_events(path)[0]["time"],
        code=code,
        environment=environment,
        attempts=(),
        repeats=job.repeats,
        recorded=_recorded(executor, plan),
    )
    # Kept from now on: a run that is killed is continued on what it began on, or not in silence.
    write_manifest(path, compose(path, job.resolved, Outcome("interrupted"), around, is_begun=True), BEGUN)
    return around


def _attempts(
    plan: Plan, executor: Executor, supervision: Supervised, path: Path, max_restarts: int
) -> Outcome:
    spoken = read_outcome(path)
    if spoken is not None and spoken.has_ended:  # an earlier host died before it could write the manifest
        return spoken
    for restarts_left in range(max_restarts, -1, -1):
        if supervision.signals:
            break
        outcome, has_spoken = _attempt(plan, executor, supervision, path)
        if has_spoken or supervision.signals or restarts_left == 0:
            return outcome
        append_event(path, "restarting", error=outcome.error)
    return missing_outcome(path, 0, supervision.stops_asked())


def _attempt(plan: Plan, executor: Executor, supervision: Supervised, path: Path) -> tuple[Outcome, bool]:
    remove_durably(path / PROGRESS)  # of an earlier attempt: what this one has spent is told there
    append_event(path, "started", executor=executor.name, argv=list(plan.argv[1:-1]))
    ending = executor.execute(plan, supervision)
    try:
        spoken = read_outcome(path)
    except OutcomeError as error:
        spoken = Outcome("failed", str(error))
    spent = known_cpu_seconds(path, spoken)
    append_event(path, "worker ended", exit_status=ending.exit_status, cpu_seconds=spent)
    outcome = spoken or missing_outcome(path, ending.exit_status, supervision.stops_asked())
    return explained(outcome, ending.reason), spoken is not None


def _recorded(executor: Executor, plan: Plan) -> dict[str, object]:
    return {
        "host": platform.node(),
        "executor": executor.name,
        "worker_environment": {
            name: value for name, value in plan.environment.items() if name not in PASSED_ON
        },
        "estimate": {
            "cpu_seconds": round(plan.estimate.cpu_seconds, 1),
            "memory_gb": round(plan.estimate.memory_gb, 2),
        },
    }


def exit_code(finished: Finished) -> ExitCode:
    """Return the exit code that stands for a finished run."""
    if finished.manifest.status == "completed":
        return ExitCode.OK
    if finished.manifest.status == "interrupted":
        return code_of_stop(finished.stopped_by)
    return ExitCode.RUN_FAILED


def code_of_stop(stopped_by: signal.Signals | None) -> ExitCode:
    """Return the exit code that stands for what was asked to stop."""
    return ExitCode.INTERRUPTED if stopped_by == signal.SIGINT else ExitCode.TERMINATED
