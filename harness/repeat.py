"""A run once more, from its folder alone, in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.adapted import with_data, with_image
from harness.compare import Found
from harness.errors import ExitCode
from harness.manifest import Manifest, RepeatedRun
from harness.recorded import Recorded, code_held, refuse_what_differs
from harness.run import Finished, Job, exit_code, run
from harness.verdict import Verdict

if TYPE_CHECKING:
    from harness.executors.base import Executor

__all__ = ["job_again", "repeat", "rerun_exit_code"]

_CURE = "--regardless goes on all the same; rerun --restore rebuilds code and environment"


def repeat(
    recorded: Recorded,
    kind: Literal["rerun", "verify"],
    executor: Executor,
    *,
    runs_dir: Path,
    root: Path,
    found: Mapping[str, Found],
    regardless: bool,
    look: Callable[[Path], None],
    warn: Callable[[str], None],
) -> Finished:
    """Run a recorded run once more, in a folder of its own.

    Parameters
    ----------
    recorded
        The run.
    kind
        ``rerun`` or ``verify``; it is written into the new manifest.
    executor, runs_dir, root, look
        As in :func:`harness.run.run`.
    found
        The data that :func:`locate_data` found.
    regardless
        Go on although something differs; data that differ are then what the new run says it was made from.
        On another processor or card a verification goes on anyway.
    warn
        Told each difference that does not stop the run.

    Raises
    ------
    RefusedError
        Data, code or environment are not what they were; the message names every difference.
    AlteredError
        The run's own files or its data are among them.
    """
    refuse_what_differs(
        recorded,
        executor,
        root,
        found,
        verb="repeated",
        cure=_CURE,
        regardless=regardless,
        warn=warn,
        takes_other_hardware=kind == "verify",
    )
    origin = RepeatedRun(kind, recorded.path.name, recorded.manifest.manifest_digest)
    job = job_again(recorded, executor, found, root, origin)
    return run(job, executor, runs_dir, root=root, look=look)


def job_again(
    recorded: Recorded,
    executor: Executor,
    found: Mapping[str, Found],
    root: Path,
    origin: RepeatedRun | None = None,
) -> Job:
    """Make of a recorded run what is to be run.

    Parameters
    ----------
    recorded, executor, found, root
        As in :func:`repeat`.
    origin
        What the new run's record says of the run that it repeats.
    """
    inputs = {role: str(place.path) for role, place in found.items()}
    resolved = with_image(with_data(recorded.resolved, found), executor)
    return Job(resolved, recorded.manifest.spec, inputs, origin, code_held(recorded, executor, root))


def rerun_exit_code(recorded: Manifest, finished: Finished, verdict: Verdict) -> ExitCode:
    """Return the exit code of a re-run: that of any run, but 3 when both came to an end and results differ.

    Parameters
    ----------
    recorded
        What the run that was repeated has recorded.
    finished
        The re-run.
    verdict
        What was judged of the two.
    """
    have_ended = {recorded.status, finished.manifest.status} <= {"completed", "collapsed"}
    return exit_code(finished) if not have_ended or verdict.is_bitwise else ExitCode.DIFFERS
