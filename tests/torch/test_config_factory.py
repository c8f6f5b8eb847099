from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho_torch.config import SECTIONS, PyTorchExecutionConfig
from ptycho_torch.config_factory import (
    create_inference_payload,
    create_training_payload,
)
from ptycho_torch.config_keys import ENTRY_POINTS
from ptycho_torch.errors import ConfigError, DataError, DataFileNotFoundError
from ptycho_torch.layers import Shadowed, Value
from tests.torch.sample_payloads import HEADER, NORMALIZED, PLACE, problems_of, train
from tests.torch.sample_scans import project_arrays, save, save_project_scan, tike_arrays


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return save_project_scan(tmp_path / "scan.npz")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"weights")
    return path


class TestExecutionConfigOverrides:
    """How an execution configuration reaches a payload, and that it is on record there."""

    def test_training_payload_execution_config_not_none(self, scan: Path, tmp_path: Path) -> None:
        payload = create_training_payload(scan, tmp_path, {"n_groups": 512}, execution_config=None)
        assert isinstance(payload.execution_config, PyTorchExecutionConfig)

    def test_inference_payload_execution_config_not_none(
        self, scan: Path, model: Path, tmp_path: Path
    ) -> None:
        payload = create_inference_payload(model, scan, tmp_path, execution_config=None)
        assert isinstance(payload.execution_config, PyTorchExecutionConfig)

    def test_execution_config_defaults_applied(self, scan: Path, model: Path, tmp_path: Path) -> None:
        training = create_training_payload(scan, tmp_path, {"n_groups": 512})
        inference = create_inference_payload(model, scan, tmp_path)
        for execution in (training.execution_config, inference.execution_config):
            assert (execution.accelerator, execution.deterministic, execution.num_workers) == ("cpu", True, 0)
            assert dataclasses.replace(execution, inference_batch_size=None) == PyTorchExecutionConfig()

    def test_execution_config_explicit_instance_propagates(
        self, scan: Path, model: Path, tmp_path: Path
    ) -> None:
        wanted = PyTorchExecutionConfig(
            accelerator="gpu", deterministic=False, num_workers=4, learning_rate=5e-4, inference_batch_size=8
        )
        training = create_training_payload(scan, tmp_path, {"n_groups": 512}, execution_config=wanted)
        inference = create_inference_payload(model, scan, tmp_path, execution_config=wanted)
        assert training.execution_config == wanted
        assert inference.execution_config == wanted

    def test_execution_config_fields_accessible(self, scan: Path, tmp_path: Path) -> None:
        payload = create_training_payload(scan, tmp_path, {"n_groups": 512})
        names = {field.name for field in dataclasses.fields(PyTorchExecutionConfig)}
        assert len(names) == 22
        assert set(vars(payload.execution_config)) == names
        with pytest.raises(dataclasses.FrozenInstanceError):
            payload.execution_config.num_workers = 1  # type: ignore[misc]

    def test_overrides_applied_records_execution_knobs(self, scan: Path, model: Path, tmp_path: Path) -> None:
        wanted = PyTorchExecutionConfig(num_workers=2, learning_rate=5e-4)
        training = create_training_payload(scan, tmp_path, {"n_groups": 512}, execution_config=wanted)
        recorded = training.overrides_applied
        assert recorded["n_groups"] == 512
        assert {name: recorded[name] for name in vars(wanted)} == vars(training.execution_config)
        inference = create_inference_payload(model, scan, tmp_path, {"inference_batch_size": 32})
        for name in ("accelerator", "num_workers", "inference_batch_size", "middle_trim", "pad_eval"):
            assert inference.overrides_applied[name] == getattr(inference.execution_config, name)
        assert "learning_rate" not in inference.overrides_applied


class TestPrecedence:
    def test_case_1_the_commands_batch_size_wins_because_it_is_no_execution_knob(self) -> None:
        payload = train(execution_config=PyTorchExecutionConfig(num_workers=2))
        assert payload.training.batch_size == 4
        origin = payload.origins["training.batch_size"]
        assert (origin.layer, origin.shadowed) == ("entry point", (Shadowed(16, "canonical default"),))

    def test_case_2_overrides_and_execution_config_both_apply(self) -> None:
        execution = PyTorchExecutionConfig(accelerator="gpu")
        payload = create_training_payload(HEADER, "out", {"n_groups": 1024}, execution)
        assert (payload.training.n_groups, payload.execution_config.accelerator) == (1024, "gpu")
        assert payload.origins["execution.accelerator"].layer == "execution config"
        assert payload.origins["training.n_groups"].layer == "explicit override"

    def test_case_3_no_execution_config_makes_a_default_one(self) -> None:
        execution = train(execution_config=None).execution_config
        assert (execution.accelerator, execution.deterministic, execution.num_workers) == ("cpu", True, 0)

    def test_an_explicit_override_of_a_knob_beats_the_execution_config(self) -> None:
        payload = train({"num_workers": 1}, execution_config=PyTorchExecutionConfig(num_workers=3))
        assert payload.execution_config.num_workers == 1
        assert [lost.layer for lost in payload.origins["execution.num_workers"].shadowed] == [
            "execution config",
            "PyTorch default",
        ]

    def test_the_execution_config_beats_the_pytorch_default(self) -> None:
        payload = train(execution_config=PyTorchExecutionConfig(learning_rate=0.5))
        origin = payload.origins["execution.learning_rate"]
        assert payload.execution_config.learning_rate == 0.5
        assert origin.shadowed == (Shadowed(1e-3, "PyTorch default"),)

    def test_an_explicit_batch_size_beats_the_commands(self) -> None:
        payload = train({"batch_size": 32})
        assert payload.training.batch_size == 32
        assert [lost.value for lost in payload.origins["training.batch_size"].shadowed] == [4, 16]

    def test_the_photon_number_is_the_pytorch_default_and_shadows_the_canonical_one(self) -> None:
        payload = train(header=NORMALIZED)
        assert payload.data.nphotons == 1e5
        origin = payload.origins["data.nphotons"]
        assert (origin.layer, origin.shadowed) == ("PyTorch default", (Shadowed(1e9, "canonical default"),))

    def test_the_canonical_default_serves_what_nobody_else_names(self) -> None:
        payload = train()
        assert payload.model.n_filters_scale == 2
        assert payload.origins["model.n_filters_scale"].layer == "canonical default"

    def test_the_first_of_several_overrides_wins_and_the_other_is_on_record(self) -> None:
        payload = train({"training.epochs": 3}, {"epochs": Value(7, PLACE)})
        assert payload.training.epochs == 3
        assert Shadowed(7, "explicit override", PLACE) in payload.origins["training.epochs"].shadowed

    def test_no_command_has_defaults_for_execution_knobs(self) -> None:
        assert all(not key.startswith("execution.") for table in ENTRY_POINTS.values() for key in table)

    def test_every_field_has_an_origin(self) -> None:
        keys = {
            f"{name}.{field.name}" for name, kind in SECTIONS.items() for field in dataclasses.fields(kind)
        }
        assert set(train().origins) == keys


class TestProblems:
    def test_everything_that_is_wrong_is_reported_together(self) -> None:
        with pytest.raises(ConfigError) as caught:
            create_training_payload(
                HEADER,
                "out",
                {"epocs": 1, "N": 128, "middle_trim": 3, "gridsize": 3},
                execution_layer={"num_workers": Value(-1, PLACE), "batch_size": Value(2)},
            )
        assert set(caught.value.keys) == {
            "epocs",
            "model.N",
            "execution.middle_trim",
            "model.gridsize",
            "execution.num_workers",
            "batch_size",
            "training.n_groups",
        }
        line = next(line for line in str(caught.value).splitlines() if "num_workers" in line)
        assert line == "run.yaml:7:3 execution.num_workers: must be at least 0, not -1"

    def test_the_number_of_groups_is_required(self) -> None:
        with pytest.raises(ConfigError, match=r"training\.n_groups: is required"):
            create_training_payload(HEADER, "out")

    @pytest.mark.parametrize(
        ("overrides", "key"),
        [
            ({"middle_trim": 66}, "execution.middle_trim"),
            ({"gridsize": 2, "neighbor_count": 2}, "data.neighbor_count"),
            ({"gridsize": 2, "n_subsample": 3}, "model.gridsize"),
            ({"n_subsample": 2001}, "data.n_subsample"),
            ({"stage_epochs": [3, 2]}, "training.stage_epochs"),
            ({"allow_tf32": True}, "model.allow_tf32"),
            ({"allow_tf32": True, "accelerator": "cpu"}, "model.allow_tf32"),
            ({"lr_warmup_epochs": 0.5}, "training.lr_warmup_epochs"),
            ({"lr_warmup_fraction": 0.1, "scheduler": "MultiStage"}, "training.lr_warmup_fraction"),
            ({"validate_every": 51, "checkpoint_monitor_metric": "train_loss"}, "training.validate_every"),
        ],
    )
    def test_values_that_are_legal_alone_but_not_together_are_refused(
        self, overrides: dict[str, Any], key: str
    ) -> None:
        assert set(problems_of(overrides)) == {key}

    @pytest.mark.parametrize(
        "overrides",
        [
            {"middle_trim": 64},
            {"gridsize": 2, "neighbor_count": 3},
            {"allow_tf32": True, "accelerator": "auto"},
            {"allow_tf32": True, "accelerator": "cuda"},
            {"allow_tf32": False, "accelerator": "cpu"},
            {"lr_warmup_epochs": 0.5, "scheduler": "WarmupCosine"},
            {"lr_warmup_epochs": 0.0, "lr_warmup_fraction": 0.0, "scheduler": "Exponential"},
            {"validate_every": 50, "checkpoint_monitor_metric": "train_loss"},
            {"validate_every": 51, "validation_fraction": 0.0},
        ],
    )
    def test_the_last_legal_value_is_taken(self, overrides: dict[str, Any]) -> None:
        applied = train(overrides).overrides_applied
        assert {name: applied[name] for name in overrides} == overrides

    def test_a_contradiction_across_layers_is_refused(self) -> None:
        execution = PyTorchExecutionConfig(accelerator="cuda", pin_memory=True)
        assert (
            "no pinned memory"
            in problems_of({"accelerator": "cpu"}, execution_config=execution)["execution.pin_memory"]
        )


class TestData:
    def test_the_side_is_inferred_and_recorded_as_inferred(self, tmp_path: Path) -> None:
        scan = save(tmp_path / "wide.npz", project_arrays(n_frames=4, side=128))
        payload = create_training_payload(scan, tmp_path, {"n_groups": 4})
        origin = payload.origins["model.N"]
        assert (payload.model.N, payload.overrides_applied["N"]) == (128, 128)
        assert (origin.layer, origin.note) == ("inferred from data", "inferred from wide.npz")
        assert origin.shadowed == (Shadowed(64, "canonical default"),)

    def test_a_side_that_is_given_and_agrees_is_recorded_as_given(self) -> None:
        assert train({"N": 64}).origins["model.N"].layer == "explicit override"

    def test_a_side_that_contradicts_the_data_is_an_error_at_its_place(self) -> None:
        with pytest.raises(ConfigError, match=r"^run.yaml:7:3 model\.N: is 128, but .* 64 x 64 pixels"):
            train({"model.N": Value(128, PLACE)})

    def test_a_side_that_no_network_takes_is_an_error_that_names_the_file(self, tmp_path: Path) -> None:
        scan = save(tmp_path / "odd.npz", project_arrays(n_frames=4, side=32))
        with pytest.raises(
            ConfigError, match=r"model\.N: must be 64, 128 or 256, not 32 \(inferred from odd\.npz\)"
        ):
            create_training_payload(scan, tmp_path, {"n_groups": 4})

    def test_units_are_inferred_and_may_be_overridden_when_the_file_does_not_state_them(
        self, scan: Path
    ) -> None:
        inferred = create_training_payload(scan, "out", {"n_groups": 4})
        assert inferred.data.units == "count_amplitude"
        assert inferred.origins["data.units"].note == "inferred from scan.npz"
        stated = create_training_payload(scan, "out", {"n_groups": 4, "units": "normalized_amplitude"})
        assert stated.data.units == "normalized_amplitude"

    def test_what_the_file_states_cannot_be_overridden(self, tmp_path: Path) -> None:
        scan = save_project_scan(
            tmp_path / "scan.npz", units=np.array("count_amplitude"), positions=np.array("center")
        )
        assert create_training_payload(scan, "out", {"n_groups": 4}).data.positions == "center"
        wishes = {"n_groups": 4, "units": "normalized_amplitude", "positions": "ptychopinn"}
        with pytest.raises(ConfigError) as caught:
            create_training_payload(scan, "out", wishes)
        assert set(caught.value.keys) == {"data.units", "data.positions"}

    def test_units_that_nobody_knows_must_be_stated(self) -> None:
        unknown = dataclasses.replace(HEADER, units=None)
        assert "cannot be told" in problems_of(header=unknown)["data.units"]
        assert train({"units": "count_amplitude"}, header=unknown).data.units == "count_amplitude"

    def test_a_tike_file_trains_in_counts(self, tmp_path: Path) -> None:
        star = save(tmp_path / "star.npz.bz2", tike_arrays())
        payload = create_training_payload(star, "out", {"n_groups": 4})
        assert payload.data.units == "count_intensity"

    def test_a_missing_file_is_a_file_not_found_error(self, scan: Path, model: Path, tmp_path: Path) -> None:
        absent = tmp_path / "absent"
        with pytest.raises(DataFileNotFoundError):
            create_training_payload(absent, "out", {"n_groups": 4})
        with pytest.raises(FileNotFoundError, match="absent"):
            create_training_payload(scan, "out", {"n_groups": 4}, test_data_file=absent)
        with pytest.raises(FileNotFoundError, match="absent"):
            create_inference_payload(model, absent, "out")
        with pytest.raises(FileNotFoundError, match="no such model"):
            create_inference_payload(absent, scan, "out")

    def test_a_broken_file_is_refused_before_any_configuration(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="missing are xcoords"):
            create_training_payload(save_project_scan(tmp_path / "scan.npz", xcoords=None), "out")

    @pytest.mark.parametrize(
        ("change", "key"), [({"N": 128}, "model.N"), ({"units": "normalized_amplitude"}, "data.units")]
    )
    def test_a_test_scan_must_suit_the_training_scan(self, change: dict[str, Any], key: str) -> None:
        assert set(problems_of(test_data_file=dataclasses.replace(HEADER, **change))) == {key}

    def test_a_test_scan_is_held_against_the_units_that_are_told_of_the_training_scan(self) -> None:
        counts = dataclasses.replace(HEADER, units="count_intensity")
        assert train({"units": "count_intensity"}, test_data_file=counts).data.units == "count_intensity"
        assert (
            "is count_intensity in"
            in problems_of({"units": "count_intensity"}, test_data_file=HEADER)["data.units"]
        )


class TestResolving:
    def test_without_validation_data_the_training_loss_is_monitored_and_the_record_says_so(self) -> None:
        payload = train({"validation_fraction": 0.0})
        origin = payload.origins["execution.checkpoint_monitor_metric"]
        assert payload.execution_config.checkpoint_monitor_metric == "train_loss"
        assert payload.overrides_applied["checkpoint_monitor_metric"] == "train_loss"
        assert (origin.layer, origin.shadowed[0].value) == ("resolved", "val_loss")
        assert "no validation data" in origin.note

    @pytest.mark.parametrize("keywords", [{}, {"test_data_file": HEADER}])
    def test_with_validation_data_the_metric_stays(self, keywords: dict[str, Any]) -> None:
        fraction = {} if not keywords else {"validation_fraction": 0.0}
        assert train(fraction, **keywords).execution_config.checkpoint_monitor_metric == "val_loss"

    def test_auto_strategy_is_ddp_above_one_device_and_only_there(self) -> None:
        assert train().execution_config.strategy == "auto"
        assert train({"n_devices": 2}).execution_config.strategy == "ddp"
        assert train({"n_devices": 2, "strategy": "fsdp"}).execution_config.strategy == "fsdp"

    def test_the_inference_batch_is_the_training_batch_unless_given(self) -> None:
        assert train({"batch_size": 24}).execution_config.inference_batch_size == 24
        assert train({"inference_batch_size": 7}).execution_config.inference_batch_size == 7

    def test_what_the_machine_answered_beats_even_an_explicit_request(self) -> None:
        payload = train({"accelerator": "auto"}, resolved={"accelerator": Value("cpu")})
        assert payload.execution_config.accelerator == "cpu"
        assert payload.origins["execution.accelerator"].shadowed[0].layer == "explicit override"

    def test_what_the_machine_answered_beats_the_request_which_stays_on_record(self) -> None:
        payload = train(
            execution_layer={"accelerator": Value("auto", PLACE)},
            resolved={"accelerator": Value("cpu", note="the executor has no accelerator")},
        )
        origin = payload.origins["execution.accelerator"]
        assert payload.execution_config.accelerator == "cpu"
        assert origin.note == "the executor has no accelerator"
        assert origin.shadowed[0] == Shadowed("auto", "execution config", PLACE)


class TestInference:
    def test_the_trained_model_fixes_the_model_and_gives_the_batch(self, model: Path) -> None:
        trained = train({"gridsize": 2, "batch_size": 24, "nphotons": 3e4, "n_subsample": 100})
        payload = create_inference_payload(model, HEADER, "out", trained=trained)
        assert payload.model == trained.model
        assert payload.data.nphotons == 3e4
        assert payload.data.n_subsample is None
        assert payload.execution_config.inference_batch_size == 24
        assert payload.origins["model.gridsize"].layer == "trained model"

    def test_another_model_than_the_trained_one_is_an_error(self, model: Path) -> None:
        with pytest.raises(ConfigError, match=r"model\.gridsize: is 2, but the model was trained with 1"):
            create_inference_payload(model, HEADER, "out", {"gridsize": 2}, trained=train())

    def test_data_of_another_side_than_the_trained_one_are_an_error(self, model: Path) -> None:
        wide = dataclasses.replace(HEADER, N=128)
        with pytest.raises(ConfigError, match=r"model\.N: is 64, but .* 128 x 128"):
            create_inference_payload(model, wide, "out", trained=train())

    def test_counts_and_arbitrary_units_are_never_mixed(self, model: Path) -> None:
        with pytest.raises(ConfigError, match="never mixed"):
            create_inference_payload(model, NORMALIZED, "out", trained=train())
        intensity = dataclasses.replace(HEADER, units="count_intensity")
        assert (
            create_inference_payload(model, intensity, "out", trained=train()).data.units == "count_intensity"
        )

    def test_a_training_key_has_no_part_in_inference(self, model: Path) -> None:
        with pytest.raises(ConfigError, match="epochs: belongs to training, which has no part in this"):
            create_inference_payload(model, HEADER, "out", {"epochs": 3})


def test_the_factories_load_neither_torch_nor_numpy() -> None:
    program = (
        "import sys, ptycho_torch.config_factory;"
        "assert not {'torch', 'lightning', 'numpy', 'h5py', 'yaml'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
