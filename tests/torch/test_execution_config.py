from __future__ import annotations

import dataclasses
import inspect
import pickle
from typing import Any

import pytest

from ptycho_torch import config
from ptycho_torch.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_torch.config_defaults import CANONICAL_DEFAULTS
from ptycho_torch.errors import ConfigError

DEFAULTS = {
    "accelerator": "cpu",
    "strategy": "auto",
    "n_devices": 1,
    "deterministic": True,
    "num_workers": 0,
    "pin_memory": False,
    "persistent_workers": False,
    "prefetch_factor": None,
    "learning_rate": 1e-3,
    "scheduler": "Default",
    "gradient_clip_val": None,
    "accum_steps": 1,
    "enable_checkpointing": True,
    "checkpoint_save_top_k": 1,
    "checkpoint_monitor_metric": "val_loss",
    "early_stop_patience": 100,
    "enable_progress_bar": False,
    "logger_backend": None,
    "disable_mlflow": False,
    "inference_batch_size": None,
    "middle_trim": 0,
    "pad_eval": False,
}

LEGAL: list[dict[str, Any]] = [
    *({"accelerator": name} for name in ("auto", "cpu", "gpu", "cuda", "mps", "tpu")),
    *({"strategy": name} for name in ("auto", "ddp", "fsdp", "deepspeed")),
    *(
        {"scheduler": n}
        for n in ("Default", "Exponential", "MultiStage", "WarmupCosine", "ReduceLROnPlateau")
    ),
    *({"logger_backend": name} for name in ("csv", "tensorboard", "mlflow", "wandb", None)),
    *({"checkpoint_save_top_k": k} for k in (-1, 0, 5)),
    {"num_workers": 2, "persistent_workers": True, "prefetch_factor": 4},
    {"accelerator": "cuda", "pin_memory": True},
    {"accelerator": "auto", "pin_memory": True},
    {"disable_mlflow": True, "logger_backend": "csv"},
    {"checkpoint_monitor_metric": "train_loss"},
    {"middle_trim": 32, "pad_eval": True, "inference_batch_size": 64},
    {"learning_rate": 1, "gradient_clip_val": 0.5, "accum_steps": 4},
]

ILLEGAL: list[tuple[dict[str, Any], str]] = [
    ({"accelerator": "cqu"}, "accelerator"),
    ({"strategy": "dp"}, "strategy"),
    ({"n_devices": 0}, "n_devices"),
    ({"n_devices": True}, "n_devices"),
    ({"deterministic": "yes"}, "deterministic"),
    ({"deterministic": 1}, "deterministic"),
    ({"num_workers": -1}, "num_workers"),
    ({"num_workers": "2"}, "num_workers"),
    ({"num_workers": 2.0}, "num_workers"),
    ({"pin_memory": True}, "pin_memory"),
    ({"persistent_workers": True}, "persistent_workers"),
    ({"prefetch_factor": 2}, "prefetch_factor"),
    ({"prefetch_factor": 0, "num_workers": 1}, "prefetch_factor"),
    ({"learning_rate": 0.0}, "learning_rate"),
    ({"learning_rate": float("nan")}, "learning_rate"),
    ({"learning_rate": float("inf")}, "learning_rate"),
    ({"learning_rate": None}, "learning_rate"),
    ({"scheduler": "default"}, "scheduler"),
    ({"gradient_clip_val": 0}, "gradient_clip_val"),
    ({"accum_steps": 0}, "accum_steps"),
    ({"enable_checkpointing": None}, "enable_checkpointing"),
    ({"checkpoint_save_top_k": -2}, "checkpoint_save_top_k"),
    ({"checkpoint_monitor_metric": "loss"}, "checkpoint_monitor_metric"),
    ({"early_stop_patience": 0}, "early_stop_patience"),
    ({"enable_progress_bar": 0}, "enable_progress_bar"),
    ({"logger_backend": "stdout"}, "logger_backend"),
    ({"logger_backend": "mlflow", "disable_mlflow": True}, "disable_mlflow"),
    ({"inference_batch_size": 0}, "inference_batch_size"),
    ({"middle_trim": 3}, "middle_trim"),
    ({"middle_trim": -2}, "middle_trim"),
    ({"pad_eval": "false"}, "pad_eval"),
]


def test_there_are_22_fields_with_the_documented_defaults() -> None:
    assert len(DEFAULTS) == 22
    assert dataclasses.asdict(PyTorchExecutionConfig()) == DEFAULTS


@pytest.mark.parametrize("name", DEFAULTS)
def test_no_field_can_be_assigned(name: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(PyTorchExecutionConfig(), name, DEFAULTS[name])


@pytest.mark.parametrize("values", LEGAL, ids=str)
def test_a_legal_value_is_taken_as_it_is(values: dict[str, Any]) -> None:
    made = dataclasses.asdict(PyTorchExecutionConfig(**values))
    assert made == DEFAULTS | values


@pytest.mark.parametrize(("values", "key"), ILLEGAL, ids=str)
def test_an_illegal_value_is_refused_by_its_field_name(values: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PyTorchExecutionConfig(**values)
    assert caught.value.keys == [key]
    assert caught.value.problems[0].startswith(f"PyTorchExecutionConfig.{key}: ")


def test_every_field_has_an_illegal_value_in_this_file() -> None:
    assert {key for _, key in ILLEGAL} == set(DEFAULTS)


def test_all_that_is_wrong_stands_in_one_error_contradictions_included() -> None:
    with pytest.raises(ConfigError) as caught:
        PyTorchExecutionConfig(accum_steps=0, num_wokers=1, pin_memory=True, persistent_workers=True)  # type: ignore[call-arg]
    assert sorted(caught.value.keys) == ["accum_steps", "num_wokers", "persistent_workers", "pin_memory"]
    assert "did you mean 'num_workers'?" in str(caught.value)


def test_a_contradiction_between_legal_values_is_not_invented_from_an_illegal_one() -> None:
    with pytest.raises(ConfigError) as caught:
        PyTorchExecutionConfig(persistent_workers=True, num_workers="2")  # type: ignore[arg-type]
    assert caught.value.keys == ["num_workers"]


def test_a_misspelt_choice_gets_the_legal_ones_and_a_hint() -> None:
    with pytest.raises(ConfigError, match=r"'cpu', 'gpu', .* not 'cudaa', did you mean 'cuda'\?"):
        PyTorchExecutionConfig(accelerator="cudaa")  # type: ignore[arg-type]


def test_a_config_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="n_devices"):
        PyTorchExecutionConfig(n_devices=-3)


def test_replacing_a_field_validates_again() -> None:
    config_with_workers = PyTorchExecutionConfig(num_workers=1, persistent_workers=True)
    with pytest.raises(ConfigError, match="persistent_workers"):
        dataclasses.replace(config_with_workers, num_workers=0)


def test_equal_values_make_equal_configurations_also_through_pickle() -> None:
    made = PyTorchExecutionConfig(num_workers=2, learning_rate=3e-4)
    assert pickle.loads(pickle.dumps(made)) == made
    assert made != PyTorchExecutionConfig()


def test_the_docstring_states_groups_torch_version_scope_and_where_to_read_on() -> None:
    text = inspect.getdoc(PyTorchExecutionConfig) or ""
    for group in (
        "Hardware",
        "Data loading",
        "Optimisation",
        "Checkpoints and early stop",
        "Logging",
        "Inference",
    ):
        assert f"*{group}" in text
    for name in DEFAULTS:
        assert name in text
    assert "lowest torch that is tested is 2.13" in text
    assert "run-time behaviour and never the model's topology or the data" in text
    assert "docs/workflows/pytorch.md" in text


def test_the_modules_classes_stand_in_alphabetical_order_and_in_all() -> None:
    source = inspect.getsource(config)
    classes = [
        name
        for name, member in inspect.getmembers(config, inspect.isclass)
        if member.__module__ == config.__name__
    ]
    in_file_order = sorted(classes, key=lambda name: source.index(f"\nclass {name}"))
    assert in_file_order == sorted(classes)
    assert set(classes) <= set(config.__all__)
    assert len(classes) == 5


def test_no_field_name_occurs_in_two_sections() -> None:
    names = [field.name for section in config.SECTIONS.values() for field in dataclasses.fields(section)]
    assert len(names) == len(set(names))


def test_every_canonical_default_is_a_legal_value_of_an_existing_field() -> None:
    for key, value in CANONICAL_DEFAULTS.items():
        section, field = key.split(".")
        kind = config.SECTIONS[section]
        required = {"n_groups": 1} if kind is TrainingConfig else {}
        assert getattr(kind(**required, **{field: value}), field) == value


@pytest.mark.parametrize("lookalike", [True, 1.0])
def test_a_choice_of_integers_takes_integers_only(lookalike: Any) -> None:
    with pytest.raises(ConfigError, match="gridsize: must be a whole number"):
        ModelConfig(gridsize=lookalike)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({}, "n_groups"),
        ({"n_groups": 1, "stage_epochs": [5]}, "stage_epochs"),
        ({"n_groups": 1, "stage_epochs": [5, 5]}, "stage_epochs"),
        ({"n_groups": 1, "stage_epochs": [5, 9], "epochs": 9}, "stage_epochs"),
        ({"n_groups": 1, "lr_warmup_epochs": 51}, "lr_warmup_epochs"),
        ({"n_groups": 1, "loss": "poison"}, "loss"),
    ],
)
def test_a_training_that_cannot_be_meant_is_refused(values: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainingConfig(**values)
    assert caught.value.keys == [key]


def test_stages_may_be_given_as_a_list_and_are_kept_as_a_tuple() -> None:
    made = TrainingConfig(n_groups=1, stage_epochs=[5, 9], epochs=10)  # type: ignore[arg-type]
    assert made.stage_epochs == (5, 9)
