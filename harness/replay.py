"""A recorded run, carried out once more up to one batch under its own conditions, to look into that batch."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.compare import Found
from harness.contents import saved_states
from harness.errors import HarnessError
from harness.examined import ask_for_batch, read_examination
from harness.executors.local import LocalExecutor
from harness.outcome import read_outcome
from harness.plan import make_plan
from harness.recorded import Recorded, data_problems, differences
from harness.repeat import job_again
from harness.restore import restore_environment, restore_tree
from harness.run import lay_out
from harness.store import create_run
from harness.supervision import Supervised, noticing_signals
from ptycho_torch.trace import TRACE, Parting, TraceLine, find_parting, read_trace

if TYPE_CHECKING:
    from harness.executors.base import Executor

__all__ = ["Replay", "Stage", "can_look_into_batches", "replay", "set_stage"]

_GROWING = (TRACE, "metrics.csv", "logs/csv", "logs/tensorboard")


@dataclass(frozen=True)
class Replay:
    """What a run showed when it was carried out once more up to a batch.

    Parameters
    ----------
    start
        Where it started, in words.
    seen
        Name to digest of every tensor of the batch, in the order of computation; empty where it did not come
        so far.
    parting
        Where its trace parts from the run's own record; None where it repeats it.
    conditions
        What was not as it was when the run was made.
    problem
        Why it could not be carried out; empty when it was.
    """

    start: str = ""
    seen: Mapping[str, str] = field(default_factory=dict)
    parting: Parting | None = None
    conditions: tuple[str, ...] = ()
    problem: str = ""

    @property
    def repeats(self) -> bool:
        """Whether it did what the run has recorded, bit by bit, so that what it shows is what happened."""
        return bool(self.seen) and self.parting is None and not self.problem


@dataclass(frozen=True)
class Stage:
    """Where a run is carried out once more: an executor with its code, its data, what is not as it was."""

    recorded: Recorded
    executor: Executor
    found: Mapping[str, Found]
    root: Path
    conditions: tuple[str, ...] = ()


def can_look_into_batches(files: Mapping[str, str]) -> bool:
    """Tell from a run's source files whether its worker can look into a batch."""
    return "harness/examined.py" in files


def set_stage(
    recorded: Recorded,
    executor: Executor,
    found: Mapping[str, Found],
    *,
    root: Path,
    cache: Path,
    restores: bool,
) -> Stage:
    """Bring together what a run was made with: its code, rebuilt where it is not what stands here; its data.

    Parameters
    ----------
    recorded
        The run.
    executor
        Where it was made.
    found
        Its data, from :func:`harness.recorded.locate_data`.
    root
        Folder that holds the packages, and a repository in which the run's commit is looked for.
    cache
        Folder for rebuilt trees and environments.
    restores
        Rebuild the environment too when it is not what stands here; that takes minutes and perhaps a network.

    Raises
    ------
    HarnessError
        Its code cannot look into a batch, code or environment cannot be rebuilt, or its data are not here.
    """
    manifest, name = recorded.manifest, recorded.path.name
    if not can_look_into_batches(manifest.code.files):
        raise HarnessError(f"the code of {name} cannot look into a batch yet")
    lost = data_problems(recorded, found)
    if lost:
        raise HarnessError("; ".join(lost))
    if isinstance(executor, LocalExecutor):
        executor = _native(recorded, executor, root, cache.resolve(), restores=restores)
    differing = differences(recorded, executor, root, found)
    kept = (one for one in differing if one.matters and one.area in {"code", "environment"})
    return Stage(recorded, executor, found, root, tuple(str(one) for one in kept))


def _native(
    recorded: Recorded, executor: LocalExecutor, repository: Path, cache: Path, *, restores: bool
) -> LocalExecutor:
    path, manifest, root, python = recorded.path, recorded.manifest, executor.root, executor.python
    if executor.source_files() != manifest.code.files or restores:
        root = restore_tree(path, manifest.code, repository, cache)
    if restores and executor.environment()[0].packages_digest != manifest.environment.packages_digest:
        python = str(restore_environment(path, manifest, root, cache, executor.caller))
    return executor.moved(python, root)


def replay(
    stage: Stage, lines: Sequence[TraceLine], batch: int, look: Callable[[Path], None] = lambda path: None
) -> Replay:
    """Carry a run out once more up to a batch, look into it, and hold what it did against its record.

    It starts at the newest state that the run has kept from before that batch, else at its beginning.

    Parameters
    ----------
    stage
        Where.
    lines
        The run's trace.
    batch
        Number of the batch, counted from the training's first one.
    look
        Called with the scratch folder a few times a second.
    """
    recorded, executor = stage.recorded, stage.executor
    job = job_again(recorded, executor, stage.found, stage.root)
    with (
        tempfile.TemporaryDirectory(prefix="bisect-") as scratch,
        create_run(Path(scratch), "replay") as held,
    ):
        path = held.path.resolve()
        lay_out(job, path)
        ask_for_batch(path, batch)
        done = lines[batch - 1].step if batch else 0
        start = _take_states(recorded.path, path, done)
        plan = make_plan(
            job.resolved,
            str(path),
            python=executor.python,
            packages=executor.packages,
            caller=executor.caller,
            inputs=job.inputs.values(),
        )
        supervision = Supervised(held.lock_fd, lambda: look(path))
        with noticing_signals(supervision):
            executor.execute(plan, supervision)
        if supervision.signals:
            raise KeyboardInterrupt
        seen, outcome = read_examination(path), read_outcome(path)
        again = read_trace(path / TRACE)
    parting, problem = find_parting(lines[: batch + 1], again[: batch + 1]), ""
    if not seen and (parting is None or parting.kind == "length"):
        problem = f"its worker did not come so far: {outcome.error if outcome else 'it left no word'}"
    return Replay(start, seen, parting, stage.conditions, problem)


def _take_states(run_dir: Path, into: Path, done: int) -> str:
    steps = saved_states(run_dir)
    usable = sorted(step for step in steps if step <= done)
    for step in usable:
        for path in (steps[step], steps[step].with_name(f"{steps[step].name}.sha256")):
            if path.is_file():
                shutil.copy2(path, into / "checkpoints" / path.name)
    for name in _GROWING if usable else ():
        source = run_dir / name
        if source.is_dir():
            shutil.copytree(source, into / name, dirs_exist_ok=True)
        elif source.is_file():
            shutil.copy2(source, into / name)
    return f"the state after step {usable[-1]}" if usable else "the beginning"
