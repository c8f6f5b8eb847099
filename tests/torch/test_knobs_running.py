"""What the knobs of hardware and logging change, seen while a training runs and in what it leaves behind."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.mpi import MPIEnvironment
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ptycho_torch.errors import ConfigError, NotRunnableError
from ptycho_torch.exact.digest import tensor_digest
from ptycho_torch.readers import Scan
from tests.torch.small_training import ONE_STEP, MakePayload, column, epochs_of, fit

ROOT = Path(__file__).parents[2]
NEEDS_A_CARD = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no graphics card here")
BARE = {"enable_checkpointing": False}

UNDER_DDP = """
import sys
import torch.distributed
from ptycho_torch.config import PyTorchExecutionConfig
from ptycho_torch.config_factory import create_training_payload
from ptycho_torch.exact.digest import tensor_digest
from ptycho_torch.readers import read_scan
from tests.torch.small_training import ONE_STEP, SMALL, fit

seen = []
def look(progress):
    group = torch.distributed
    seen.append(f"{group.get_backend()} {group.get_world_size()}" if group.is_initialized() else "alone")

for strategy in ("auto", "ddp"):
    execution = PyTorchExecutionConfig(strategy=strategy)
    payload = create_training_payload(sys.argv[1], f"{sys.argv[2]}/{strategy}", SMALL | ONE_STEP, execution)
    module = fit(payload, read_scan(sys.argv[1]), report=look).module
    print(*seen, tensor_digest(module.state_dict()), sep=", ")
    seen.clear()
"""


class TestHardware:
    def test_on_the_cpu_the_weights_stay_in_main_memory(self, make_payload: MakePayload, scan: Scan) -> None:
        result = fit(make_payload(ONE_STEP, accelerator="cpu", **BARE), scan)
        assert str(result.trainer.strategy.root_device) == "cpu"
        assert {str(weight.device) for weight in result.module.parameters()} == {"cpu"}

    def test_no_launcher_of_a_cluster_is_looked_for(
        self, make_payload: MakePayload, scan: Scan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "of somebody else's job")
        asked: list[str] = []
        monkeypatch.setattr(MPIEnvironment, "detect", lambda: asked.append("MPI"))
        result = fit(make_payload(ONE_STEP, **BARE), scan)
        assert asked == []
        used = result.trainer._accelerator_connector.cluster_environment
        assert type(used) is LightningEnvironment

    @NEEDS_A_CARD
    def test_on_a_graphics_card_the_steps_are_made_there(self, make_payload: MakePayload, scan: Scan) -> None:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.max_memory_allocated()
        result = fit(make_payload(ONE_STEP, accelerator="cuda", **BARE), scan)
        assert result.trainer.strategy.root_device.type == "cuda"
        assert torch.cuda.max_memory_allocated() > before

    @pytest.mark.parametrize("accelerator", ["gpu", "cuda", "mps", "tpu"])
    def test_a_device_that_is_not_there_is_refused_by_name(
        self, make_payload: MakePayload, scan: Scan, accelerator: str
    ) -> None:
        if accelerator in {"gpu", "cuda"} and torch.cuda.is_available():
            pytest.skip("there is a graphics card here, so there is nothing to refuse")
        if accelerator in {"gpu", "mps"} and torch.backends.mps.is_available():
            pytest.skip("there is an Apple GPU here, so there is nothing to refuse")
        payload = make_payload(ONE_STEP, accelerator=accelerator)
        with pytest.raises(NotRunnableError, match=rf"execution\.accelerator is '{accelerator}'.*use cpu"):
            fit(payload, scan)
        assert not Path(payload.output_dir).exists()

    @pytest.mark.slow
    def test_ddp_on_one_device_makes_a_process_group_and_the_same_bits(
        self, scan_file: Path, tmp_path: Path
    ) -> None:
        done = subprocess.run(
            [sys.executable, "-c", UNDER_DDP, scan_file, tmp_path],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said = [line.split(", ") for line in done.stdout.splitlines() if line.count(", ") == 1]
        assert [where for where, _ in said] == ["alone", "gloo 1"]
        assert len({digest for _, digest in said}) == 1

    @pytest.mark.parametrize("strategy", ["fsdp", "deepspeed"])
    def test_a_strategy_that_shards_weights_is_refused_by_name(
        self, make_payload: MakePayload, scan: Scan, strategy: str
    ) -> None:
        with pytest.raises(NotRunnableError, match=rf"execution\.strategy is '{strategy}'.*use auto or ddp"):
            fit(make_payload(ONE_STEP, strategy=strategy), scan)

    def test_several_devices_are_refused_because_samples_are_not_divided(
        self, make_payload: MakePayload, scan: Scan
    ) -> None:
        payload = make_payload(ONE_STEP, n_devices=2)
        assert payload.execution_config.strategy == "ddp"
        with pytest.raises(NotRunnableError, match=r"execution\.n_devices is 2.*not divided.*set it to 1"):
            fit(payload, scan)

    @pytest.mark.parametrize("deterministic", [True, False])
    def test_while_it_trains_torch_refuses_or_allows_what_does_not_repeat(
        self, make_payload: MakePayload, scan: Scan, deterministic: bool
    ) -> None:
        observed: set[tuple[bool, bool]] = set()

        def look(progress: object) -> None:
            # Deterministic algorithms also fill memory that nobody has written; so much of it is the
            # system's own zeros, and never what an earlier training has filled.
            is_filled = bool(torch.empty(1 << 24).isnan().all())
            observed.add((torch.are_deterministic_algorithms_enabled(), is_filled))

        before = torch.are_deterministic_algorithms_enabled()
        try:
            fit(make_payload(ONE_STEP, deterministic=deterministic, **BARE), scan, report=look)
        finally:
            torch.use_deterministic_algorithms(before)
        assert observed == {(deterministic, deterministic)}

    def test_equal_seeds_give_equal_bits(self, make_payload: MakePayload, scan: Scan) -> None:
        once, again = (fit(make_payload(ONE_STEP, **BARE), scan).module for _ in range(2))
        assert tensor_digest(once.state_dict()) == tensor_digest(again.state_dict())


class TestProgressBar:
    @pytest.mark.parametrize("is_wanted", [True, False])
    def test_the_bar_is_drawn_only_when_asked_for(
        self, make_payload: MakePayload, scan: Scan, capfd: pytest.CaptureFixture[str], is_wanted: bool
    ) -> None:
        fit(make_payload(ONE_STEP | {"epochs": 2}, enable_progress_bar=is_wanted, **BARE), scan)
        drawn = "".join(capfd.readouterr())
        assert ("Epoch 1" in drawn) is is_wanted


class TestLoggers:
    def test_without_a_backend_there_are_the_runs_own_files_only(
        self, make_payload: MakePayload, scan: Scan
    ) -> None:
        payload = make_payload(ONE_STEP, **BARE)
        fit(payload, scan)
        names = sorted(path.name for path in Path(payload.output_dir).rglob("*"))
        assert names == ["metrics.csv", "trace.jsonl"]
        assert len(epochs_of(payload)) == 1

    def test_the_csv_logger_writes_the_losses_of_every_epoch(
        self, make_payload: MakePayload, scan: Scan
    ) -> None:
        payload = make_payload({"epochs": 2, "n_groups": 4}, logger_backend="csv", **BARE)
        fit(payload, scan)
        with (Path(payload.output_dir) / "logs" / "csv" / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        for name in ("train_loss", "val_loss"):
            written = [float(row[name]) for row in rows if row[name]]
            assert written == pytest.approx(column(payload, name))

    def test_the_tensorboard_logger_writes_the_losses_of_every_epoch(
        self, make_payload: MakePayload, scan: Scan
    ) -> None:
        payload = make_payload({"epochs": 2, "n_groups": 4}, logger_backend="tensorboard", **BARE)
        fit(payload, scan)
        events = EventAccumulator(str(Path(payload.output_dir) / "logs" / "tensorboard"))
        events.Reload()
        for name in ("train_loss", "val_loss"):
            written = [event.value for event in events.Scalars(name)]
            assert written == pytest.approx(column(payload, name))

    def test_mlflow_asked_for_and_disabled_is_refused(self, make_payload: MakePayload) -> None:
        with pytest.raises(ConfigError, match="disable_mlflow.*while logger_backend is 'mlflow'"):
            make_payload(ONE_STEP, logger_backend="mlflow", disable_mlflow=True)


def test_epochs_are_validated_as_often_as_asked_for(make_payload: MakePayload, scan: Scan) -> None:
    monitored = {"checkpoint_monitor_metric": "train_loss", **BARE}
    for epochs, seen in ((4, [False, True, False, True]), (3, [False, True, False]), (2, [False, True])):
        settings = {"epochs": epochs, "n_groups": 4, "validate_every": 2}
        payload = make_payload(settings, **monitored)
        result = fit(payload, scan)
        assert [row["val_loss"] != "" for row in epochs_of(payload)] == seen
        assert ("val_loss" in result.metrics) == seen[-1]


@pytest.mark.parametrize("held_out", [0.0, 0.2])
def test_patience_counts_epochs_however_often_they_are_validated(
    make_payload: MakePayload, scan: Scan, held_out: float
) -> None:
    still = {
        "checkpoint_monitor_metric": "train_loss",
        "early_stop_patience": 2,
        "learning_rate": 1e-30,
        **BARE,
    }
    ended = []
    for every in (1, 5):
        settings = {"epochs": 9, "n_groups": 4, "validation_fraction": held_out, "validate_every": every}
        ended.append(fit(make_payload(settings, **still), scan).epochs)
    assert ended[0] == ended[1] < 9


def test_what_is_never_validated_may_be_so_as_rarely_as_one_likes(make_payload: MakePayload) -> None:
    payload = make_payload({"epochs": 4, "validation_fraction": 0.0, "validate_every": 2})
    assert payload.execution_config.checkpoint_monitor_metric == "train_loss"


def test_a_metric_that_is_monitored_is_wanted_after_every_epoch(make_payload: MakePayload) -> None:
    with pytest.raises(ConfigError, match="validate_every: is 2, but .* 'val_loss'.* set that to train_loss"):
        make_payload({"epochs": 4, "validate_every": 2}, checkpoint_monitor_metric="val_loss")
