"""What execution knobs change in a run of the command line, seen in its folder and its manifest."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from ptycho_torch.data.simulate import simulate_scan
from ptycho_torch.exact.digest import tensor_digest
from ptycho_torch.simulate_config import DeadLeaves, RasterScan, SimulateConfig

ROOT = Path(__file__).parents[2]
N, ROWS, COLUMNS, SIZE_PX = 64, 5, 6, 96
KNOBS = {
    "accelerator": "auto",
    "deterministic": False,
    "enable_checkpointing": False,
    "enable_progress_bar": True,
    "inference_batch_size": 7,
    "logger_backend": "csv",
    "middle_trim": 20,
    "pad_eval": True,
}
SPEC = {
    "name": "knobs",
    "data": {
        "train": {"simulate": {"object": {"size_px": SIZE_PX}, "scan": {"rows": ROWS, "columns": COLUMNS}}}
    },
    "model": {"n_filters_scale": 1, "attention": False, "probe_big": False},
    "training": {"n_groups": 8, "epochs": 2, "batch_size": 4},
    "execution": KNOBS,
    "products": {"pictures": False},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("knobs")
    (folder / "knobs.yaml").write_text(json.dumps(SPEC))
    command = [sys.executable, "-m", "harness", "run", "knobs.yaml", "--runs-dir", "runs"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    [path] = (folder / "runs").iterdir()
    return path


@pytest.fixture(scope="module")
def manifest(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "manifest.json").read_text())
    assert found["status"] in {"completed", "collapsed"}, found["error"]
    return found


def test_every_knob_is_recorded_as_it_was_used(manifest: dict[str, Any]) -> None:
    used = {name: manifest["overrides_applied"][name] for name in KNOBS}
    assert used == KNOBS | {"accelerator": used["accelerator"]}
    assert len(manifest["overrides_applied"]) >= 22


def test_auto_is_resolved_to_a_device_and_the_request_stays_on_record(manifest: dict[str, Any]) -> None:
    leaf = manifest["resolved"]["execution.accelerator"]
    assert leaf["value"] in {"cpu", "cuda"}
    assert leaf["shadowed"][0]["value"] == "auto"


def test_what_does_not_repeat_was_allowed_in_the_training_process(manifest: dict[str, Any]) -> None:
    assert manifest["exactness"]["observed"]["deterministic_algorithms"] is False


def test_without_checkpoints_the_final_weights_are_a_product_with_their_tensor_digest(
    run: Path, manifest: dict[str, Any]
) -> None:
    assert manifest["checkpoints"] == []
    assert not list(run.rglob("*.ckpt"))
    weights = load_file(run / "products" / "weights.safetensors")
    assert tensor_digest(weights) == manifest["compared"]["final_tensor_digest"]


def test_lightnings_bar_stands_in_the_log(run: Path) -> None:
    assert "Epoch 1" in (run / "logs" / "worker.log").read_text()


def test_the_logger_wrote_into_the_run_folder_what_the_runs_own_file_says(run: Path) -> None:
    def losses(path: Path) -> list[float]:
        with path.open(newline="") as file:
            return [float(row["train_loss"]) for row in csv.DictReader(file) if row["train_loss"]]

    assert losses(run / "logs" / "csv" / "metrics.csv") == pytest.approx(losses(run / "metrics.csv"))


def test_the_frames_were_predicted_in_so_many_batches(manifest: dict[str, Any]) -> None:
    assert manifest["metrics"]["inference_batches"] == math.ceil(ROWS * COLUMNS / 7)


def test_the_image_is_as_large_as_whole_patches_and_not_as_their_windows(run: Path) -> None:
    config = SimulateConfig(object=DeadLeaves(size_px=SIZE_PX), scan=RasterScan(rows=ROWS, columns=COLUMNS))
    corners = simulate_scan(config).corners_px
    with np.load(run / "products" / "reconstruction.npz") as made:
        sides, coverage = made["object"].shape, made["coverage"]
    assert np.abs(np.array(sides) - (np.ptp(corners, axis=0) + N)).max() < 6
    assert (coverage > 0).mean() > 0.5
