"""A scan of a few simulated frames, and payloads of the smallest training there is."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from ptycho_torch.config import PyTorchExecutionConfig
from ptycho_torch.config_factory import create_training_payload
from ptycho_torch.data.simulate import simulate_scan
from ptycho_torch.payloads import TrainingPayload
from ptycho_torch.readers import Scan, read_scan, save_scan
from ptycho_torch.simulate_config import DeadLeaves, RasterScan, SimulateConfig
from tests.torch.small_training import SMALL, MakePayload


@pytest.fixture(scope="session")
def scan_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "scan.npz"
    config = SimulateConfig(scan=RasterScan(rows=5, columns=5), object=DeadLeaves(size_px=90))
    save_scan(path, simulate_scan(config))
    return path


@pytest.fixture(scope="session")
def scan(scan_file: Path) -> Scan:
    return read_scan(scan_file)


@pytest.fixture
def make_payload(scan_file: Path, tmp_path: Path) -> MakePayload:
    runs = itertools.count()

    def make(overrides: dict[str, Any] | None = None, **execution: Any) -> TrainingPayload:
        config = PyTorchExecutionConfig(**execution)
        output = tmp_path / f"run{next(runs)}"
        return create_training_payload(scan_file, output, SMALL | (overrides or {}), config)

    return make
