from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho_torch.config_factory import create_inference_payload, create_training_payload
from ptycho_torch.errors import ConfigError
from ptycho_torch.layers import Place, Value
from ptycho_torch.payloads import InferencePayload, TrainingPayload
from tests.torch.sample_payloads import HEADER, train
from tests.torch.sample_scans import save_project_scan

counts = st.integers(min_value=1, max_value=10**12)
positive = st.floats(min_value=1e-300, max_value=1e300, exclude_min=True)
rates = st.floats(min_value=1e-300, max_value=1)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(n_groups=counts, nphotons=positive, learning_rate=rates, line=counts)
def test_a_training_payload_survives_json_to_the_last_bit(
    n_groups: int, nphotons: float, learning_rate: float, line: int
) -> None:
    place = Place('läufe/ein "spec".yaml', line, 1)
    overrides = {
        "n_groups": n_groups,
        "nphotons": Value(nphotons, place),
        "learning_rate": learning_rate,
        "stage_epochs": [3, 4],
        "logger_backend": "csv",
    }
    payload = create_training_payload(HEADER, "out", overrides)
    written = json.dumps(payload.to_json_dict(), allow_nan=False)
    read = TrainingPayload.from_json_dict(json.loads(written))
    assert read == payload
    assert json.dumps(read.to_json_dict()) == written
    assert repr(read) == repr(payload)


def test_an_inference_payload_survives_json(tmp_path: Path) -> None:
    scan = save_project_scan(tmp_path / "scan.npz")
    payload = create_inference_payload(scan, scan, "out", trained=train())
    written = json.dumps(payload.to_json_dict(), allow_nan=False)
    assert InferencePayload.from_json_dict(json.loads(written)) == payload


def test_what_was_not_written_by_a_payload_is_refused() -> None:
    good = train().to_json_dict()
    with pytest.raises(ConfigError, match="surprise: does not exist"):
        TrainingPayload.from_json_dict(good | {"surprise": 1})
    with pytest.raises(ConfigError, match="output_dir: is required"):
        TrainingPayload.from_json_dict({key: good[key] for key in good if key != "output_dir"})
    without_loss = {key: value for key, value in good["training"].items() if key != "loss"}
    with pytest.raises(ConfigError, match=r"training\.loss: is required"):
        TrainingPayload.from_json_dict(good | {"training": without_loss})
    with pytest.raises(ConfigError, match=r"training\.n_groups: must be at least 1"):
        TrainingPayload.from_json_dict(good | {"training": good["training"] | {"n_groups": 0}})
    impossible = good["execution_config"] | {"pin_memory": True}
    with pytest.raises(ConfigError, match="no pinned memory"):
        TrainingPayload.from_json_dict(good | {"execution_config": impossible})


def test_a_payload_cannot_be_changed_but_copied_and_pickled() -> None:
    payload = train()
    with pytest.raises(dataclasses.FrozenInstanceError):
        payload.output_dir = "elsewhere"  # type: ignore[misc]
    with pytest.raises(TypeError):
        payload.overrides_applied["n_groups"] = 1  # type: ignore[index]
    assert copy.deepcopy(payload) == pickle.loads(pickle.dumps(payload)) == payload


def test_a_payload_from_before_a_field_came_is_read_with_its_default() -> None:
    payload = train()
    plain = payload.to_json_dict()
    del plain["model"]["probe_mask"]
    assert TrainingPayload.from_json_dict(plain) == payload
