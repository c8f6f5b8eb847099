"""What a run does between its steps, on the smallest network that can be trained."""

from __future__ import annotations

import csv
import math
import warnings
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader

from ptycho_torch import callbacks
from ptycho_torch.callbacks import (
    METRICS_COLUMNS,
    BestCheckpoints,
    MetricsFile,
    Progress,
    Reporter,
    TrainingDivergedError,
)

BATCHES = 5


class OneWeight(pl.LightningModule):
    """Logs the loss that the test wants to see in each epoch."""

    def __init__(self, losses: list[float]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.losses = losses

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = (self.weight * self.losses[self.current_epoch]).sum()
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=1)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def fit(folder: Path, losses: list[float], *watching: Callback) -> Trainer:
    trainer = Trainer(
        max_epochs=len(losses),
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(callback, BestCheckpoints) for callback in watching),
        callbacks=list(watching),
        default_root_dir=folder,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        trainer.fit(OneWeight(losses), DataLoader(torch.zeros(BATCHES, 1)))
    return trainer


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_a_loss_that_is_no_number_ends_the_run_once_its_line_is_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    with pytest.raises(TrainingDivergedError, match=r"is nan after epoch 2.*learning_rate"):
        fit(tmp_path, [1.0, math.nan, 1.0], MetricsFile(path))
    assert [row[3] for row in rows(path)[1:]] == ["1.0", "nan"]


def test_a_run_that_continues_appends_to_its_metrics(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    fit(tmp_path, [3.0], MetricsFile(path))
    fit(tmp_path, [2.0], MetricsFile(path))
    assert rows(path)[0] == list(METRICS_COLUMNS)
    assert [row[3] for row in rows(path)[1:]] == ["3.0", "2.0"]


@pytest.mark.parametrize(("interval_s", "reported"), [(1e9, [1, 5, 5]), (0.0, [1, 2, 3, 4, 5] * 2)])
def test_progress_is_reported_now_and_then_and_at_the_end_of_every_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interval_s: float, reported: list[int]
) -> None:
    monkeypatch.setattr(callbacks, "REPORT_INTERVAL_S", interval_s)
    seen: list[Progress] = []
    fit(tmp_path, [2.0, 1.0], Reporter(seen.append, lambda: False, lambda trainer: None))
    assert [progress.batch for progress in seen] == reported
    assert seen[-1] == Progress(epoch=1, epochs=2, batch=5, batches=5, loss=1.0)


def test_the_state_of_the_best_checkpoints_can_be_moved_to_another_folder(tmp_path: Path) -> None:
    best = BestCheckpoints(tmp_path / "here", monitor="train_loss", save_top_k=2)
    fit(tmp_path, [3.0, 1.0, 2.0], best)
    state = best.state_dict()
    assert str(tmp_path) not in repr(state)
    moved = BestCheckpoints(tmp_path / "there", monitor="train_loss", save_top_k=2)
    moved.load_state_dict(state)
    names = {Path(path).name: float(score) for path, score in best.best_k_models.items()}
    assert names == {"epoch=001-step=000010.ckpt": 1.0, "epoch=002-step=000015.ckpt": 2.0}
    assert {path: float(score) for path, score in moved.best_k_models.items()} == {
        str(tmp_path / "there" / name): score for name, score in names.items()
    }
    assert moved.best_model_path == str(tmp_path / "there" / "epoch=001-step=000010.ckpt")
    assert Path(str(moved.dirpath)) == tmp_path / "there"
