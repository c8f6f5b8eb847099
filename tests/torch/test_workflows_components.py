"""What a payload's execution configuration becomes: Trainer, loaders, callbacks, loggers, files."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from ptycho_torch.callbacks import Progress, StopRequestedError
from ptycho_torch.config import PyTorchExecutionConfig
from ptycho_torch.data.datamodule import PtychoDataModule
from ptycho_torch.errors import NotRunnableError
from ptycho_torch.exact.checkpoint_io import DurableCheckpointIO
from ptycho_torch.exact.digest import tensor_digest
from ptycho_torch.loggers import build_logger
from ptycho_torch.payloads import TrainingPayload
from ptycho_torch.physics.patches import canvas_side_px
from ptycho_torch.readers import Scan
from ptycho_torch.training import TrainingResult, build_trainer, train_with_lightning
from tests.torch.small_training import MakePayload


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def train(payload: TrainingPayload, scan: Scan, **more: Any) -> TrainingResult:
    return train_with_lightning(payload, scan, seed=7, **more)


class TestTrainer:
    def test_every_trainer_knob_reaches_the_trainer(self, tmp_path: Path) -> None:
        execution = PyTorchExecutionConfig(
            gradient_clip_val=0.5, accum_steps=3, deterministic=True, enable_checkpointing=False
        )
        trainer = build_trainer(execution, 4, tmp_path, [])
        assert trainer.max_epochs == 4
        assert trainer.gradient_clip_val == 0.5
        assert trainer.accumulate_grad_batches == 3
        assert trainer.num_devices == 1
        assert trainer.accelerator.__class__.__name__ == "CPUAccelerator"
        assert not trainer.checkpoint_callbacks
        assert trainer.progress_bar_callback is None
        assert trainer.loggers == []

    def test_checkpoints_go_through_the_durable_writer(self, tmp_path: Path) -> None:
        trainer = build_trainer(PyTorchExecutionConfig(), 1, tmp_path, [])
        assert isinstance(trainer.strategy.checkpoint_io, DurableCheckpointIO)

    def test_the_progress_bar_is_there_when_asked_for(self, tmp_path: Path) -> None:
        trainer = build_trainer(PyTorchExecutionConfig(enable_progress_bar=True), 1, tmp_path, [])
        assert trainer.progress_bar_callback is not None

    def test_two_devices_mean_ddp(self, tmp_path: Path) -> None:
        trainer = build_trainer(PyTorchExecutionConfig(n_devices=2), 1, tmp_path, [])
        assert trainer.strategy.__class__.__name__ == "DDPStrategy"
        assert trainer.num_devices == 2

    def test_accumulation_makes_fewer_steps_and_the_uneven_window_still_steps(
        self, make_payload: MakePayload, scan: Scan
    ) -> None:
        # 3 batches an epoch, 2 to a step: 2 steps an epoch, the second from one batch.
        result = train(make_payload(accum_steps=2), scan)
        assert result.steps == 4

    def test_the_canvas_on_which_groups_are_merged_is_as_wide_as_their_offsets_ask(
        self, make_payload: MakePayload, scan: Scan
    ) -> None:
        payload = make_payload({"epochs": 1, "n_groups": 4, "gridsize": 2, "neighbor_count": 3})
        result = train(payload, scan)
        widest = result.datamodule.max_offset_px
        assert 2 < widest < 20
        assert result.module.forward_model.canvas_side_px == canvas_side_px(64, widest)


class TestLoaders:
    def test_the_loader_is_built_as_configured(self, make_payload: MakePayload, scan: Scan) -> None:
        payload = make_payload(num_workers=2, prefetch_factor=3, persistent_workers=True)
        loader = PtychoDataModule(payload, scan, None, seed=1).train_dataloader()
        assert isinstance(loader, DataLoader)
        assert (loader.num_workers, loader.prefetch_factor, loader.persistent_workers) == (2, 3, True)
        assert loader.pin_memory is False
        assert len(loader) == 3

    @pytest.mark.skipif(
        not os.access("/dev/shm", os.W_OK),
        reason="worker processes need a writable /dev/shm, and there is none",
    )
    def test_training_is_bitwise_the_same_for_any_number_of_workers(
        self, make_payload: MakePayload, scan: Scan
    ) -> None:
        ways = [
            {},
            {"num_workers": 1},
            {"num_workers": 2},
            {"num_workers": 2, "persistent_workers": True},
        ]
        digests = {tensor_digest(train(make_payload(**way), scan).module.state_dict()) for way in ways}
        assert len(digests) == 1

    def test_another_seed_gives_a_network_that_starts_elsewhere(
        self, make_payload: MakePayload, scan: Scan
    ) -> None:
        one, other = (
            train_with_lightning(make_payload({"epochs": 1}, learning_rate=1e-9), scan, seed=seed).module
            for seed in (1, 2)
        )
        apart = [
            float((first - second).detach().abs().max())
            for first, second in zip(one.parameters(), other.parameters(), strict=True)
            if first.ndim > 1
        ]
        assert min(apart) > 1e-4


class TestCallbacks:
    def test_checkpoint_and_early_stop_watch_the_configured_metric(
        self, make_payload: MakePayload, scan: Scan
    ) -> None:
        payload = make_payload(
            {"epochs": 1},
            checkpoint_monitor_metric="train_loss",
            early_stop_patience=9,
            checkpoint_save_top_k=2,
        )
        trainer = train(payload, scan).trainer
        [best] = [callback for callback in trainer.callbacks if isinstance(callback, ModelCheckpoint)]
        [stop] = [callback for callback in trainer.callbacks if isinstance(callback, EarlyStopping)]
        assert (best.monitor, best.save_top_k, best.mode) == ("train_loss", 2, "min")
        assert (stop.monitor, stop.patience, stop.mode) == ("train_loss", 9, "min")

    @pytest.mark.parametrize(("top_k", "kept"), [(0, 0), (1, 1), (2, 2), (-1, 3)])
    def test_as_many_best_checkpoints_are_kept_as_asked_for_and_always_the_last(
        self, make_payload: MakePayload, scan: Scan, top_k: int, kept: int
    ) -> None:
        payload = make_payload({"epochs": 3}, checkpoint_save_top_k=top_k)
        result = train(payload, scan)
        folder = Path(payload.output_dir) / "checkpoints"
        files = sorted(path.name for path in folder.iterdir())
        assert len(files) == kept + 1
        assert files[-1] == "last.ckpt"
        assert sorted(checkpoint.path.name for checkpoint in result.checkpoints) == files

    def test_the_last_checkpoint_is_the_final_state(self, make_payload: MakePayload, scan: Scan) -> None:
        result = train(make_payload(), scan)
        stored = DurableCheckpointIO().load_checkpoint(result.checkpoints[-1].path)
        assert tensor_digest(stored["state_dict"]) == tensor_digest(result.module.state_dict())
        assert stored["global_step"] == result.steps == 6

    def test_a_checkpoint_names_no_folder_of_this_machine(
        self, make_payload: MakePayload, scan: Scan
    ) -> None:
        result = train(make_payload({"epochs": 1}), scan)
        folder = result.checkpoints[-1].path.parent
        for kept in result.checkpoints:
            assert str(folder).encode() not in kept.path.read_bytes()

    def test_without_checkpointing_there_are_none(self, make_payload: MakePayload, scan: Scan) -> None:
        payload = make_payload({"epochs": 1}, enable_checkpointing=False)
        assert train(payload, scan).checkpoints == ()
        assert not (Path(payload.output_dir) / "checkpoints").exists()

    def test_a_request_to_stop_ends_after_the_step_in_flight_with_its_state_saved(
        self, make_payload: MakePayload, scan: Scan
    ) -> None:
        payload = make_payload({"epochs": 5})
        seen: list[Progress] = []
        with pytest.raises(StopRequestedError, match="after step 1"):
            train(payload, scan, report=seen.append, should_stop=lambda: True)
        stored = DurableCheckpointIO().load_checkpoint(Path(payload.output_dir) / "checkpoints" / "last.ckpt")
        assert stored["global_step"] == 1
        assert (seen[0].batch, seen[0].batches, seen[0].epochs) == (1, 3, 5)


class TestMetricsFile:
    def test_it_has_one_line_per_epoch_in_full_precision(self, make_payload: MakePayload, scan: Scan) -> None:
        payload = make_payload()
        result = train(payload, scan)
        rows = lines(Path(payload.output_dir) / "metrics.csv")
        assert [(row["epoch"], row["step"]) for row in rows] == [("0", "3"), ("1", "6")]
        assert float(rows[-1]["train_loss"]) == result.metrics["train_loss"]
        assert float(rows[-1]["val_loss"]) == result.metrics["val_loss"]

    def test_the_rate_follows_the_scheduler(self, make_payload: MakePayload, scan: Scan) -> None:
        payload = make_payload(
            {"epochs": 3, "exponential_gamma": 0.5}, scheduler="Exponential", learning_rate=0.002
        )
        train(payload, scan)
        rates = [float(row["learning_rate"]) for row in lines(Path(payload.output_dir) / "metrics.csv")]
        assert rates == pytest.approx([0.002, 0.001, 0.0005])


class TestLoggers:
    def test_no_backend_means_no_logger(self, tmp_path: Path) -> None:
        assert build_logger(None, tmp_path) is None

    def test_the_csv_logger_writes_the_losses(self, make_payload: MakePayload, scan: Scan) -> None:
        payload = make_payload(logger_backend="csv")
        result = train(payload, scan)
        assert isinstance(result.trainer.logger, CSVLogger)
        rows = lines(Path(payload.output_dir) / "logs" / "csv" / "metrics.csv")
        written = [row["train_loss"] for row in rows if row["train_loss"]]
        assert len(written) == 2
        assert float(written[-1]) == pytest.approx(result.metrics["train_loss"])

    @pytest.mark.parametrize("backend", ["mlflow", "wandb"])
    def test_an_absent_package_is_refused_by_name(self, tmp_path: Path, backend: str) -> None:
        import importlib.util

        if importlib.util.find_spec(backend) is not None:
            pytest.skip(f"{backend} is installed, so there is nothing to refuse")
        with pytest.raises(NotRunnableError, match=rf"'{backend}'.*\[{backend}\]"):
            build_logger(backend, tmp_path)
