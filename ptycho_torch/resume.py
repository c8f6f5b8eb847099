"""Continue a training where it was broken off, to the bits that it would have had unbroken.

Lightning saves and restores its loops, the optimizer and the schedulers. What it does not keep is added here:
where in an epoch the samples stand, how long the files were that grow during a run, and a digest by which a
torn or altered checkpoint is told from a sound one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.types import STEP_OUTPUT

from ptycho_torch.durable import open_durably, sync_file, sync_folder
from ptycho_torch.errors import CheckpointError
from ptycho_torch.exact.checkpoint_io import DurableCheckpointIO, resume_position
from ptycho_torch.trace import TRACE

__all__ = [
    "DEFAULT_CADENCE",
    "Cadence",
    "Continuation",
    "ResumePoints",
    "find_continuation",
    "forget_states",
    "roll_back",
]

_PATTERN = "resume-*.ckpt"
_FILES = "files"
_KEPT = 2
_UNFINISHED = ".tmp"
_APPENDED_LOGS = ("csv", "tensorboard")
"""Loggers whose files are only ever appended to; the databases of the others go on with a repeat."""


@dataclasses.dataclass(frozen=True)
class Cadence:
    """How often a training saves a state to continue from; it changes no result.

    Parameters
    ----------
    every_steps
        Optimizer steps between two states; None counts no steps.
    every_seconds
        Seconds between two states; None looks at no clock.
    budget_mb
        Megabytes that these states may take; the newest two are kept in any case.
    """

    every_steps: int | None = None
    every_seconds: float | None = 60.0
    budget_mb: float = 1000.0


DEFAULT_CADENCE = Cadence()


@dataclasses.dataclass(frozen=True)
class Continuation:
    """A sound state to continue from, and what was found unsound before it.

    Parameters
    ----------
    path
        The checkpoint file.
    step, epoch, batch
        Optimizer steps done, and where the training stands: epoch, and batches of it done.
    files
        Length in bytes and sha256 of every file that grows during a run, by its path in the run's folder.
    passed_over
        One sentence for each newer state that is torn or altered.
    """

    path: Path
    step: int
    epoch: int
    batch: int
    files: dict[str, tuple[int, str]]
    passed_over: tuple[str, ...] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """Return where it goes on and what was passed over, in plain values."""
        return {
            "step": self.step,
            "epoch": self.epoch,
            "batch": self.batch,
            "passed_over": list(self.passed_over),
        }


class ResumePoints(Checkpoint):
    """Save states to continue from, between two optimizer steps.

    A state is saved where nothing is half done: after an optimizer step inside an epoch, or before the first
    step of an epoch; never between an epoch's last step and the next epoch's start, where validation,
    schedulers and other checkpoints have their turn.

    Parameters
    ----------
    folder
        Where the states go; it is a folder of the run's folder.
    cadence
        How often.
    continued
        The state that this training continues, if any.
    """

    def __init__(self, folder: Path, cadence: Cadence, continued: Continuation | None = None) -> None:
        self._folder = folder
        self._cadence = cadence
        self._continued = continued
        self._saved_at = time.monotonic()
        self._saved_step = continued.step if continued else 0
        self._is_saving = False

    def state_dict(self) -> dict[str, Any]:
        """Return length and sha256 of the files that grow during a run; nothing in other checkpoints."""
        if not self._is_saving:
            return {}
        output = self._folder.parent
        return {_FILES: {name: (_size(output / name), _digest(output / name)) for name in _growing(output)}}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let an epoch that is continued at its first step begin as any other."""
        if self._continued is not None and self._continued.batch == 0:
            trainer.fit_loop.epoch_loop.restarting = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the state before an epoch, when it is time."""
        if trainer.global_step > self._saved_step and self._is_due(trainer):
            self.save(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Save the state after an optimizer step, when it is time."""
        if self._continued is not None:
            # Goes on as any other: at the end of a restarted epoch Lightning asks no plateau scheduler.
            trainer.fit_loop.restarting = False
        if is_between_steps(trainer) and self._is_due(trainer):
            self.save(trainer)

    def save(self, trainer: Trainer) -> Path:
        """Save the state now, with its digest beside it, and remove the oldest beyond the budget."""
        for one in trainer.loggers:
            one.save()
        for name in _growing(self._folder.parent):
            sync_file(self._folder.parent / name)
        path = self._folder / f"resume-{trainer.global_step:09d}.ckpt"
        saving = path.with_name(f".{path.name}{_UNFINISHED}")
        self._is_saving = True
        trainer.save_checkpoint(saving, weights_only=False)
        self._is_saving = False
        # The digest first, the name last: a state that has its name is whole.
        with open_durably(_digest_file(path)) as stream:
            stream.write(_digest(saving).encode("ascii") + b"\n")
        saving.replace(path)
        sync_folder(self._folder)
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step
        self._prune()
        return path

    def _is_due(self, trainer: Trainer) -> bool:
        steps, seconds = self._cadence.every_steps, self._cadence.every_seconds
        by_steps = steps is not None and trainer.global_step - self._saved_step >= steps
        return by_steps or (seconds is not None and time.monotonic() - self._saved_at >= seconds)

    def _prune(self) -> None:
        total = 0
        for rank, path in enumerate(sorted(self._folder.glob(_PATTERN), reverse=True)):
            total += path.stat().st_size
            if rank >= _KEPT and total > self._cadence.budget_mb * 1e6:
                _remove(path)


def is_between_steps(trainer: Trainer) -> bool:
    """Tell, at the end of a batch, whether nothing is half done: gradients are spent, the epoch goes on."""
    loop = trainer.fit_loop.epoch_loop
    return not loop._should_accumulate() and not loop._num_ready_batches_reached()


def find_continuation(output: Path) -> Continuation | None:
    """Find the newest sound state of a broken-off training.

    Parameters
    ----------
    output
        The run's folder.

    Returns
    -------
    Continuation or None
        None where no state was saved.

    Raises
    ------
    CheckpointError
        There are states, but none is sound.
    """
    passed_over: list[str] = []
    for path in sorted((output / "checkpoints").glob(_PATTERN), reverse=True):
        try:
            return _read(output, path, tuple(passed_over))
        except CheckpointError as error:
            passed_over.append(str(error))
    if passed_over:
        raise CheckpointError(f"no state of this run is sound: {'; '.join(passed_over)}: run its spec again")
    return None


def _read(output: Path, path: Path, passed_over: tuple[str, ...]) -> Continuation:
    recorded = _digest_file(path)
    if not recorded.is_file():
        raise CheckpointError(f"{path.name}: its digest {recorded.name} is missing")
    if recorded.read_bytes().decode("ascii", "replace").strip() != _digest(path):
        raise CheckpointError(f"{path.name}: it was altered, its sha256 is not what {recorded.name} says")
    content = DurableCheckpointIO().load_checkpoint(path)
    epoch, batch = resume_position(content)
    files = content["callbacks"][ResumePoints.__qualname__][_FILES]
    for name, (size, digest) in sorted(files.items()):
        if not (output / name).is_file() or _digest(output / name, size) != digest:
            raise CheckpointError(
                f"{path.name}: {name} no longer begins with the {size} bytes that it held then, so going on "
                "would leave a gap in it"
            )
    return Continuation(path, int(content["global_step"]), epoch, batch, dict(files), passed_over)


def forget_states(output: Path) -> None:
    """Remove the states of a run that needs them no more."""
    for path in (output / "checkpoints").glob(_PATTERN):
        _remove(path)


def _remove(path: Path) -> None:
    for one in (path, _digest_file(path)):
        DurableCheckpointIO().remove_checkpoint(one)


def roll_back(output: Path, continuation: Continuation | None) -> None:
    """Bring every file that grows during a run to the length that it had when the state was saved.

    What a death left unfinished, and states that were passed over, are removed. It may be broken off itself
    and done again.

    Parameters
    ----------
    output
        The run's folder.
    continuation
        The state; None removes the files, for a training that starts anew.
    """
    kept = continuation.files if continuation is not None else {}
    folder = output / "checkpoints"
    for path in (*folder.glob(f".*{_UNFINISHED}"), *folder.glob(_PATTERN)):
        if continuation is None or path.name.startswith(".") or path.name > continuation.path.name:
            _remove(path)
    for name in _growing(output):
        path = output / name
        if name not in kept:
            path.unlink()
        elif _size(path) > kept[name][0]:
            os.truncate(path, kept[name][0])


def _growing(output: Path) -> list[str]:
    logs = (path for folder in _APPENDED_LOGS for path in (output / "logs" / folder).rglob("*"))
    found = (path for path in (output / "metrics.csv", output / TRACE, *logs) if path.is_file())
    return sorted(path.relative_to(output).as_posix() for path in found)


def _digest_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _size(path: Path) -> int:
    return path.stat().st_size


def _digest(path: Path, size: int | None = None) -> str:
    if size is not None:
        with path.open("rb") as stream:
            return hashlib.sha256(stream.read(size)).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
