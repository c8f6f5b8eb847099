"""Steps that a graphics card replays: the bits of the steps that were recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ptycho_torch.config_factory import create_training_payload
from ptycho_torch.exact.digest import tensor_digest
from ptycho_torch.headers import ScanHeader
from ptycho_torch.inference import on_its_device, predict_patches
from ptycho_torch.physics.probe import annular_probe
from ptycho_torch.readers.scan import Scan
from ptycho_torch.training import train_with_lightning

needs_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

FRAMES = 64
GROUPS = 21
"""One more than whole batches hold: the last batch of an epoch has a shape of its own."""


@pytest.fixture
def scan() -> Scan:
    random = np.random.Generator(np.random.PCG64(1))
    row, column = np.divmod(np.arange(FRAMES), 8)
    return Scan(
        diffraction=np.sqrt(random.poisson(5.0, (FRAMES, 64, 64)).astype(np.float32)),
        corners_px=np.stack([row, column], axis=1) * 4.0 + random.uniform(0, 1, (FRAMES, 2)),
        probe=annular_probe(64, pupil_radius_px=10, stop_fraction=0.4, defocus_waves=0.8),
        units="count_amplitude",
        mask=random.uniform(size=(64, 64)) > 0.01,
        object=None,
        source="made up",
    )


def _train(
    scan: Scan, folder: Path, *, is_recorded: bool, **settings: Any
) -> tuple[list[Any], str, dict[str, float]]:
    payload = create_training_payload(
        ScanHeader(file=None, N=64, n_frames=FRAMES, units="count_amplitude"),
        folder,
        {
            "n_groups": GROUPS,
            "epochs": 3,
            "batch_size": 4,
            "n_filters_scale": 1,
            "gradient_clip_val": 0.05,
            "validation_fraction": 0.1,
            "accelerator": "cuda",
            **settings,
        },
    )
    result = train_with_lightning(payload, scan, is_recorded=is_recorded)
    lines = [json.loads(line) for line in (folder / "trace.jsonl").read_text("ascii").splitlines()]
    return lines, tensor_digest(result.module.state_dict()), result.metrics


@needs_card
@pytest.mark.parametrize(
    "settings",
    [
        {"gridsize": 1, "attention": True},
        {"gridsize": 2, "attention": False, "object_big": False, "accum_steps": 3, "loss": "mae"},
        {"gridsize": 2, "object_big": False, "probe_big": True, "object_rim": "edge"},
        {"gridsize": 2, "attention": True, "probe_trainable": True},
    ],
)
def test_replayed_steps_have_the_bits_of_called_ones(
    scan: Scan, tmp_path: Path, settings: dict[str, Any]
) -> None:
    called, replayed, again = (
        _train(scan, tmp_path / name, is_recorded=is_recorded, **settings)
        for name, is_recorded in (("called", False), ("replayed", True), ("again", True))
    )
    assert len(called[0]) == 3 * 6
    assert replayed == called
    assert again == called


@needs_card
def test_after_a_training_on_a_card_the_network_predicts_on_the_card(scan: Scan, tmp_path: Path) -> None:
    payload = create_training_payload(
        ScanHeader(file=None, N=64, n_frames=FRAMES, units="count_amplitude"),
        tmp_path,
        {"n_groups": 4, "epochs": 1, "n_filters_scale": 1, "accelerator": "cuda"},
    )
    result = train_with_lightning(payload, scan)
    module = on_its_device(result.module)
    assert module.device.type == "cuda"
    once, again = (predict_patches(module, scan, module.scaling, batch_size=16).patches for _ in range(2))
    assert np.array_equal(once, again)
    on_cpu = predict_patches(module.cpu(), scan, module.scaling, batch_size=16).patches
    np.testing.assert_allclose(once, on_cpu, rtol=0, atol=1e-3 * np.abs(on_cpu).max())
