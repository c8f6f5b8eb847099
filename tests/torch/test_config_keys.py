from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho_torch.config import PyTorchExecutionConfig
from ptycho_torch.errors import ConfigError
from ptycho_torch.layers import Value
from tests.torch.sample_payloads import PLACE, problems_of, train


@pytest.mark.parametrize("key", ["epochs", "training.epochs", "nepochs", "training.nepochs"])
def test_a_key_may_be_flat_dotted_or_ptychopinns(key: str) -> None:
    assert train({key: 9}).training.epochs == 9


def test_an_alias_is_on_record() -> None:
    origin = train({"nepochs": Value(9, PLACE)}).origins["training.epochs"]
    assert (origin.note, origin.place) == ("alias nepochs", PLACE)


@pytest.mark.parametrize("twice", [("epochs", "nepochs"), ("epochs", "training.epochs")])
def test_one_field_under_two_keys_is_an_error(twice: tuple[str, str]) -> None:
    assert "given twice" in problems_of(dict.fromkeys(twice, 9))["training.epochs"]


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("epocs", "did you mean 'epochs'?"),
        ("training.batchsize", "did you mean 'training.batch_size'?"),
        ("trainig.epochs", "write training.epochs"),
        ("data.batch_size", "write training.batch_size"),
        ("zzz", "legal sections: data, model, training, inference, execution"),
    ],
)
def test_an_unknown_key_is_an_error_with_a_hint(key: str, hint: str) -> None:
    assert hint in problems_of({key: 1})[key]


@pytest.mark.parametrize("key", ["batch_size", "n_groups", "nphotons", "nepochs", "N"])
def test_a_canonical_key_in_the_execution_layer_is_an_error(key: str) -> None:
    found = problems_of(execution_layer={key: Value(1, PLACE)})
    assert "is no execution knob but belongs to" in found[key]


def test_an_execution_layer_keeps_the_places_of_its_values() -> None:
    payload = train(execution_layer={"num_workers": Value(0, PLACE)})
    origin = payload.origins["execution.num_workers"]
    assert (origin.layer, origin.place) == ("execution config", PLACE)


def test_an_instance_and_a_layer_of_execution_knobs_cannot_both_be_given() -> None:
    with pytest.raises(ConfigError, match="both given"):
        train(execution_config=PyTorchExecutionConfig(), execution_layer={})


@pytest.mark.parametrize("value", [{"a": 1}, np.int64(4), Path("x"), float("inf"), [1, object()]])
def test_a_value_that_is_not_plain_is_an_error(value: Any) -> None:
    assert set(problems_of({"epochs": value})) == {"training.epochs"}


def test_an_unknown_entry_point_is_an_error() -> None:
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        train(entry_point="trian")
