"""What a user's type checker sees: checked by mypy --strict, never run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_type

from ptycho_torch.config import (
    DataConfig,
    InferenceConfig,
    ModelConfig,
    PyTorchExecutionConfig,
    TrainingConfig,
)
from ptycho_torch.config_factory import (
    InferencePayload,
    TrainingPayload,
    create_inference_payload,
    create_training_payload,
)
from ptycho_torch.layers import Origin
from ptycho_torch.readers import Scan, read_scan
from ptycho_torch.training import TrainingResult, train_with_lightning

execution = PyTorchExecutionConfig(num_workers=2, persistent_workers=True)
assert_type(execution.prefetch_factor, int | None)
assert_type(dataclasses.replace(execution, learning_rate=1e-4), PyTorchExecutionConfig)
execution.num_workers = 4  # type: ignore[misc]
PyTorchExecutionConfig(num_worker=2)  # type: ignore[call-arg]
PyTorchExecutionConfig(accelerator="gpus")  # type: ignore[arg-type]
TrainingConfig()  # type: ignore[call-arg]

payload = create_training_payload("scan.npz", Path("out"), {"n_groups": 512}, execution)
assert_type(payload, TrainingPayload)
assert_type(payload.data, DataConfig)
assert_type(payload.model, ModelConfig)
assert_type(payload.training, TrainingConfig)
assert_type(payload.inference, InferenceConfig)
assert_type(payload.execution_config, PyTorchExecutionConfig)
assert_type(payload.overrides_applied, Mapping[str, Any])
assert_type(payload.origins, Mapping[str, Origin])
assert_type(create_inference_payload("last.ckpt", "scan.npz", "out"), InferencePayload)

scan = read_scan("scan.npz", positions="center")
assert_type(scan, Scan)
assert_type(train_with_lightning(payload, scan, seed=7), TrainingResult)
