"""A small simulated scan inverted through the training's own physics, and its image judged: no network.

``python -m tests.quality_gate SEED`` prints the figures. Groups, offsets, merging, probe modes, loss, scales,
stitching and evaluation are those of a training; in the network's place stand the patches themselves, which
the loss shapes in seconds as sharply as the physics allows.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim import Adam

from ptycho_torch.config_factory import create_training_payload
from ptycho_torch.data.datamodule import PtychoDataModule
from ptycho_torch.data.simulate import simulate_scan
from ptycho_torch.evaluation import evaluate
from ptycho_torch.headers import ScanHeader
from ptycho_torch.inference import Predictions, stitch_patches, synchronise
from ptycho_torch.losses import LOSSES
from ptycho_torch.payloads import TrainingPayload
from ptycho_torch.physics.forward import ForwardModel
from ptycho_torch.readers.scan import Scan
from ptycho_torch.simulate_config import AnnularProbe, DeadLeaves, RasterScan, SimulateConfig

ROUNDS = 60
RATE = 0.08
GROUPS_AT_ONCE = 5


def simulated(seed: int) -> Scan:
    """Simulate a scan whose probe has as many modes as a group has members: no shape gives an error away."""
    return simulate_scan(
        SimulateConfig(
            object=DeadLeaves(size_px=92, min_radius_px=4, blur_px=1, max_phase_rad=1.2),
            probe=AnnularProbe(n_modes=4),
            scan=RasterScan(rows=5, columns=5, step_px=5),
            nphotons=1e6,
            seed=seed,
        )
    )


def told(scan: Scan) -> TrainingPayload:
    """Resolve a training of groups of four on every frame of the scan."""
    header = ScanHeader(file=None, N=scan.side_px, n_frames=scan.n_frames, units=scan.units)
    overrides = {
        "n_groups": scan.n_frames,
        "gridsize": 2,
        "positions": "center",
        "validation_fraction": 0.0,
    }
    return create_training_payload(header, ".", overrides)


def invert(
    payload: TrainingPayload, data: PtychoDataModule, scan: Scan
) -> tuple[NDArray[np.complex64], float]:
    """Shape a flat patch for every frame by the gradient of a training's loss; return the loss, too."""
    scaling, (groups, _), (dataset, _) = data.scaling, data.groups, data.datasets
    physics = ForwardModel(scan.probe, scaling.intensity_scale, max_offset_px=data.max_offset_px)
    loss = LOSSES[payload.training.loss](mean_counts=scaling.mean_counts)
    parts = torch.zeros(scan.n_frames, scan.side_px, scan.side_px, 2)
    parts[..., 0] = payload.model.amplitude_level
    parts.requires_grad_()
    optimizer = Adam([parts], lr=RATE, fused=True)
    total = 0.0
    for number in range(ROUNDS):
        optimizer.param_groups[0]["lr"] = RATE * (1 - number / ROUNDS)
        optimizer.zero_grad()
        total = 0.0
        for first in range(0, len(dataset), GROUPS_AT_ONCE):
            index = range(first, min(first + GROUPS_AT_ONCE, len(dataset)))
            batch = dataset.__getitems__(index)
            patches = torch.view_as_complex(parts)[torch.from_numpy(groups[index])]
            share = loss(physics(patches, batch.offsets_px), batch.measured_intensity, batch.mask)
            share = share * (len(index) / len(dataset))
            share.backward()
            total += float(share.detach())
        optimizer.step()
    scale = np.float32(np.sqrt(scaling.intensity_scale))
    return torch.view_as_complex(parts.detach()).numpy() * scale, total


def measure(seed: int) -> dict[str, float]:
    """Invert the scan of this seed and return the figures of its image."""
    torch.set_num_threads(1)
    scan = simulated(seed)
    payload = told(scan)
    data = PtychoDataModule(payload, scan, None, seed)
    patches, loss = invert(payload, data, scan)
    predictions = synchronise(
        Predictions(patches, scan.corners_px, 1),
        scan,
        payload.inference,
        middle_trim=payload.execution_config.middle_trim,
    )
    image = stitch_patches(predictions, scan, payload.execution_config)
    judged = evaluate(
        scan=scan,
        train_frames=data.frames[0],
        counts_per_amplitude=data.scaling.counts_per_amplitude,
        loss_name=payload.training.loss,
        mean_counts=data.scaling.mean_counts,
        train_loss=loss,
        predictions=predictions,
        reconstruction=image,
        whole=image,
    )
    return judged.metrics


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(int(sys.argv[1]))) + "\n")
