"""What the knobs of checkpoints and early stop change, seen in the folder and in ``metrics.csv``."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptycho_torch.exact.checkpoint_io import DurableCheckpointIO
from ptycho_torch.payloads import TrainingPayload
from ptycho_torch.readers import Scan
from ptycho_torch.training import TrainingResult
from tests.torch.small_training import ONE_STEP, MakePayload, column, epochs_of, fit

EPOCHS = 4
UNSETTLED = {"epochs": EPOCHS, "n_groups": 4, "batch_size": 1, "validation_fraction": 0.04}
"""With so few samples the loss of validation rises and falls: the best epochs are not simply the last."""
BOLD, NO_PROGRESS = 1e-3, 1e-30


def folder(payload: TrainingPayload) -> Path:
    return Path(payload.output_dir) / "checkpoints"


def kept_epochs(result: TrainingResult) -> dict[int, float]:
    """Return the epoch of every ranked checkpoint, as the file itself says, and its recorded metric."""
    return {
        int(DurableCheckpointIO().load_checkpoint(kept.path)["epoch"]): kept.metric
        for kept in result.checkpoints
        if kept.metric is not None
    }


@pytest.mark.parametrize(("top_k", "count"), [(-1, EPOCHS), (0, 0), (1, 1), (2, 2)])
def test_so_many_checkpoints_are_kept_and_they_are_the_best(
    make_payload: MakePayload, scan: Scan, top_k: int, count: int
) -> None:
    payload = make_payload(UNSETTLED, checkpoint_save_top_k=top_k, learning_rate=BOLD)
    result = fit(payload, scan)
    losses = column(payload, "val_loss")
    best = sorted(range(EPOCHS), key=losses.__getitem__)
    assert len(set(losses)) == EPOCHS, "epochs are equally good: the choice shows nothing"
    assert best != list(reversed(range(EPOCHS))), "every epoch is better: the choice shows nothing"
    assert kept_epochs(result) == {epoch: pytest.approx(losses[epoch]) for epoch in best[:count]}
    assert len(list(folder(payload).iterdir())) == count + 1
    assert (folder(payload) / "last.ckpt").is_file()


@pytest.mark.parametrize("metric", ["train_loss", "val_loss"])
def test_checkpoints_are_ranked_by_the_metric_that_was_named(
    make_payload: MakePayload, scan: Scan, metric: str
) -> None:
    payload = make_payload(UNSETTLED, checkpoint_monitor_metric=metric, learning_rate=BOLD)
    result = fit(payload, scan)
    losses = column(payload, metric)
    best = min(range(EPOCHS), key=losses.__getitem__)
    assert kept_epochs(result) == {best: pytest.approx(losses[best])}
    assert column(payload, "train_loss") != column(payload, "val_loss")


def test_without_validation_data_the_metric_resolves_to_the_training_loss_and_the_record_says_so(
    make_payload: MakePayload, scan: Scan
) -> None:
    payload = make_payload(UNSETTLED | {"validation_fraction": 0.0}, learning_rate=BOLD)
    origin = payload.origins["execution.checkpoint_monitor_metric"]
    assert payload.overrides_applied["checkpoint_monitor_metric"] == "train_loss"
    assert "no validation data" in origin.note
    assert [lost.value for lost in origin.shadowed] == ["val_loss"]
    result = fit(payload, scan)
    assert {row["val_loss"] for row in epochs_of(payload)} == {""}
    losses = column(payload, "train_loss")
    best = min(range(EPOCHS), key=losses.__getitem__)
    assert kept_epochs(result) == {best: pytest.approx(losses[best])}


@pytest.mark.parametrize("patience", [1, 3])
def test_a_run_stops_after_so_many_epochs_without_progress(
    make_payload: MakePayload, scan: Scan, patience: int
) -> None:
    settings = ONE_STEP | {"epochs": 6}
    payload = make_payload(settings, early_stop_patience=patience, learning_rate=NO_PROGRESS)
    result = fit(payload, scan)
    assert len(set(column(payload, "val_loss"))) == 1
    assert [int(row["epoch"]) for row in epochs_of(payload)] == list(range(1 + patience))
    assert result.epochs == 1 + patience


def test_a_run_that_makes_progress_is_not_stopped(make_payload: MakePayload, scan: Scan) -> None:
    settings = ONE_STEP | {"epochs": 4, "validation_fraction": 0.0}
    payload = make_payload(settings, early_stop_patience=1, learning_rate=1e-5)
    fit(payload, scan)
    losses = column(payload, "train_loss")
    assert losses == sorted(losses, reverse=True)
    assert len(losses) == 4


def test_without_checkpointing_nothing_is_kept_and_the_metrics_are_written_all_the_same(
    make_payload: MakePayload, scan: Scan
) -> None:
    payload = make_payload(ONE_STEP, enable_checkpointing=False)
    result = fit(payload, scan)
    assert result.checkpoints == ()
    assert not list(Path(payload.output_dir).rglob("*.ckpt"))
    assert len(epochs_of(payload)) == 1
