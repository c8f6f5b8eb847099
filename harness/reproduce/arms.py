"""The runs of a recipe's arms: done ones are reused, those that were broken off go on, the rest is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.errors import HarnessError, UserError
from harness.lookup import run_folders
from harness.manifest import Manifest
from harness.outcome import ENDED
from harness.recorded import Recorded, differences, load, locate_data
from harness.reproduce.recipe import Arm, Recipe
from harness.resolve import resolve
from harness.resume import load_broken_off, resume
from harness.run import Job, run
from harness.sources import lacking_files
from harness.spec import read_spec
from harness.store import BEGUN, MANIFEST, RESOLVED, is_held, read_json

if TYPE_CHECKING:
    import signal

    from harness.executors.base import Executor
    from harness.fetch import Fetcher
    from harness.run import Finished
    from harness.spec import RunSpec

__all__ = ["ArmResult", "ArmRun", "Around", "run_arm"]


@dataclass(frozen=True)
class Around:
    """What runs are carried out with.

    Parameters
    ----------
    executor_for
        Returns the executor of a spec.
    runs_dir
        Folder that holds the run folders, those of earlier calls too.
    root
        Folder that holds the packages.
    folders, fetcher
        Where data are looked for, and what downloads them.
    look
        Called with the run folder a few times a second while a worker runs.
    tell
        Told what is done, and what was decided without being asked for.
    """

    executor_for: Callable[[RunSpec], Executor]
    runs_dir: Path
    root: Path
    folders: Sequence[Path]
    fetcher: Fetcher
    look: Callable[[Path], None]
    tell: Callable[[str], None]


@dataclass(frozen=True)
class ArmRun:
    """One run of an arm: its seed, folder and manifest, how it came about, and the signal that ended it."""

    seed: int
    path: Path
    manifest: Manifest
    how: Literal["run", "reused", "resumed"]
    stopped_by: signal.Signals | None = None

    @property
    def cpu_seconds(self) -> float:
        """Processor time that all its attempts are known to have spent."""
        return self.manifest.cpu_seconds or 0.0

    @property
    def was_stopped(self) -> bool:
        """Whether somebody asked to stop while it ran, even if it had nothing left to do by then."""
        return self.manifest.status == "interrupted" or self.stopped_by is not None


@dataclass(frozen=True)
class ArmResult:
    """What came of an arm: its runs, or why it was not run."""

    arm: Arm
    runs: tuple[ArmRun, ...] = ()
    not_run: str = ""

    @property
    def was_stopped(self) -> bool:
        """Whether somebody asked to stop while a run of it ran."""
        return any(one.was_stopped for one in self.runs)


def run_arm(recipe: Recipe, arm: Arm, around: Around) -> ArmResult:
    """Carry out an arm, a run for each seed; one during which somebody asks to stop is its last.

    Parameters
    ----------
    recipe
        Whose arm it is.
    arm
        The arm; of a fast run, with what that puts over it.
    around
        What its runs are carried out with.

    Raises
    ------
    SpecError
        The spec cannot be run here.
    """
    if arm.not_run is not None:
        return ArmResult(arm, not_run=arm.not_run)
    runs: list[ArmRun] = []
    for seed in arm.seeds:
        spec = read_spec(arm.spec, arm.sets(recipe.name, seed))
        lacking = lacking_files(spec, around.folders)
        if lacking:
            return ArmResult(arm, not_run=f"no data folder has {' and '.join(lacking)}")
        around.tell(f"{arm.name}, seed {seed}")
        runs.append(_run_seed(spec, seed, around))
        if runs[-1].was_stopped:
            break
    return ArmResult(arm, tuple(runs))


def _run_seed(spec: RunSpec, seed: int, around: Around) -> ArmRun:
    executor = around.executor_for(spec)
    resolution = resolve(spec, executor.inventory(), data_dirs=around.folders, fetch=around.fetcher)
    for note in resolution.run.notes:
        around.tell(note)
    for earlier in _same_runs(resolution.run.digest, around):
        name, is_done = earlier.path.name, earlier.manifest.status in ENDED
        found = locate_data(earlier, around.folders, around.fetcher)
        differing = [one for one in differences(earlier, executor, around.root, found) if one.matters]
        if differing:
            more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
            around.tell(f"{name} is not reused: {differing[0]}{more}")
        elif is_done:
            around.tell(f"{name} is reused: the same values, data, code and environment")
            return ArmRun(seed, earlier.path, earlier.manifest, "reused")
        else:
            around.tell(f"{name} was broken off, and is continued")
            finished = resume(
                earlier,
                executor,
                root=around.root,
                found=found,
                regardless=False,
                look=around.look,
                warn=around.tell,
                max_restarts=0,
            )
            return _of(finished, seed, "resumed")
    job = Job(resolution.run, spec.text, resolution.inputs)
    finished = run(job, executor, around.runs_dir, root=around.root, look=around.look)
    return _of(finished, seed, "run")


def _of(finished: Finished, seed: int, how: Literal["run", "resumed"]) -> ArmRun:
    return ArmRun(seed, finished.path, finished.manifest, how, finished.stopped_by)


def _same_runs(digest: str, around: Around) -> Iterator[Recorded]:
    """Yield the runs of the same values and data that have ended or can go on, the ended ones first."""
    broken_off: list[Recorded] = []
    for path in reversed(list(run_folders(around.runs_dir))):
        if not _is_of(path, digest):
            continue
        if is_held(path):
            around.tell(f"{path.name} is not reused: another process is running it")
            continue
        try:
            recorded = load(path) if (path / MANIFEST).is_file() else load_broken_off(path)
            if recorded.manifest.status in ENDED:
                yield recorded
            elif not (path / MANIFEST).is_file():
                broken_off.append(recorded)
            elif recorded.manifest.status == "interrupted" and (path / BEGUN).is_file():
                broken_off.append(load_broken_off(path))
        except HarnessError as error:
            around.tell(f"{path.name} is not reused: {error}")
    yield from broken_off


def _is_of(path: Path, digest: str) -> bool:
    try:
        told = read_json(path / RESOLVED)
    except UserError:  # it ended before it had begun
        return False
    return isinstance(told, dict) and told.get("digest") == digest
