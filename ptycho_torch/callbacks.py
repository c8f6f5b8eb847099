"""What a run does between its steps: keep checkpoints, write metrics, report progress, stop when asked."""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from ptycho_torch.errors import PtychoError
from ptycho_torch.resume import is_between_steps

METRICS_COLUMNS = ("epoch", "step", "learning_rate", "train_loss", "val_loss")
REPORT_INTERVAL_S = 0.5


class StopRequestedError(PtychoError):
    """Somebody asked the run to stop; the step in flight is done, and the state is saved if any is."""


class TrainingDivergedError(PtychoError):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class Progress:
    """How far a training is: epochs and batches done, of how many, and the last batch's loss."""

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float


class BestCheckpoints(ModelCheckpoint):
    """Keep the best checkpoints by a metric; its state holds file names, never a machine's paths."""

    def __init__(self, folder: Path, *, monitor: str, save_top_k: int) -> None:
        super().__init__(
            dirpath=folder,
            filename="epoch={epoch:03d}-step={step:06d}",
            auto_insert_metric_name=False,
            monitor=monitor,
            mode="min",
            save_top_k=save_top_k,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return Lightning's state with every path reduced to its file name."""
        state = super().state_dict()
        for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[key] = Path(state[key]).name if state[key] else ""
        state["best_k_models"] = {Path(path).name: score for path, score in state["best_k_models"].items()}
        return state | {"dirpath": ""}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state in this callback's own folder, wherever the run stood when it was saved."""
        folder = Path(str(self.dirpath))
        state = dict(state_dict)
        for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[key] = str(folder / state[key]) if state[key] else ""
        state["best_k_models"] = {str(folder / name): score for name, score in state["best_k_models"].items()}
        super().load_state_dict(state | {"dirpath": self.dirpath})


class LastCheckpoint(Callback):
    """Keep ``last.ckpt``, the state at the end of the latest epoch or at the step where the run stopped."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "last.ckpt"

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the state."""
        trainer.save_checkpoint(self.path, weights_only=False)


class MetricsFile(Callback):
    """Append one line per epoch to ``metrics.csv``, durably, floats in full precision."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._learning_rate = math.nan

    def state_dict(self) -> dict[str, Any]:
        """Return the rate of the present epoch's first step."""
        return {"learning_rate": self._learning_rate}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up an epoch in its middle."""
        self._learning_rate = state_dict["learning_rate"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the file, unless the run continues one."""
        if not self.path.exists():
            self._append(METRICS_COLUMNS)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the rate that the epoch's first step uses."""
        self._learning_rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch's line and refuse to go on from a loss that is not a number."""
        metrics = metrics_of_epoch(trainer, trainer.current_epoch + 1)
        losses = [repr(metrics[name]) if name in metrics else "" for name in ("train_loss", "val_loss")]
        self._append((trainer.current_epoch, trainer.global_step, repr(self._learning_rate), *losses))
        if not math.isfinite(metrics["train_loss"]):
            raise TrainingDivergedError(
                f"the training loss is {metrics['train_loss']} after epoch {trainer.current_epoch + 1}: "
                "try a lower execution.learning_rate or set execution.gradient_clip_val"
            )

    def _append(self, row: tuple[object, ...]) -> None:
        with self.path.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(row)
            file.flush()
            os.fsync(file.fileno())


def metrics_of_epoch(trainer: Trainer, number: int) -> dict[str, float]:
    """Return the metrics at the end of an epoch, counted from 1; one of an earlier epoch is left out."""
    metrics = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
    if number % (trainer.check_val_every_n_epoch or 1):
        metrics.pop("val_loss", None)
    return metrics


class Reporter(Callback):
    """Tell somebody how far the training is, and stop it after the step in flight when asked to.

    Parameters
    ----------
    report
        Called at most twice a second, and at the end of every epoch.
    should_stop
        Asked after every batch; obeyed as soon as nothing is half done.
    save
        Saves the state before the training stops.
    """

    def __init__(
        self,
        report: Callable[[Progress], None],
        should_stop: Callable[[], bool],
        save: Callable[[Trainer], object],
    ) -> None:
        self._report = report
        self._should_stop = should_stop
        self._save = save
        self._reported_at = -math.inf

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Report, and leave the training when asked to."""
        now = time.monotonic()
        if now - self._reported_at >= REPORT_INTERVAL_S or batch_idx + 1 == trainer.num_training_batches:
            self._reported_at = now
            share = outputs["loss"] if isinstance(outputs, dict) else outputs
            loss = float(share) if isinstance(share, Tensor) else math.nan
            self._report(
                Progress(
                    epoch=trainer.current_epoch,
                    epochs=int(trainer.max_epochs or 0),
                    batch=batch_idx + 1,
                    batches=int(trainer.num_training_batches),
                    loss=loss * trainer.accumulate_grad_batches,
                )
            )
        if is_between_steps(trainer):
            self._stop_if_asked(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the training between two epochs when asked to."""
        if trainer.global_step > 0:
            self._stop_if_asked(trainer)

    def _stop_if_asked(self, trainer: Trainer) -> None:
        if self._should_stop():
            self._save(trainer)
            raise StopRequestedError(
                f"stopped on request in epoch {trainer.current_epoch + 1} after step {trainer.global_step}"
            )
