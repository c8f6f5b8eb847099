"""A simulated scan with the patches that a perfect network would predict for it."""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray

from ptycho_torch.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_torch.data.dataset import Scaling
from ptycho_torch.data.simulate import simulate_scan
from ptycho_torch.exact.torch_seeding import seed_everything
from ptycho_torch.module import PtychoModule
from ptycho_torch.physics.simulation import object_patches
from ptycho_torch.readers.scan import Scan
from ptycho_torch.simulate_config import DeadLeaves, RasterScan, SimulateConfig


@functools.cache
def simulated() -> Scan:
    """Simulate a scan of 8 rows and 9 columns whose positions are no whole pixels."""
    config = SimulateConfig(
        object=DeadLeaves(size_px=110), scan=RasterScan(rows=8, columns=9), nphotons=1e6, seed=1
    )
    scan = simulate_scan(config)
    for array in (scan.diffraction, scan.corners_px):
        array.setflags(write=False)
    return scan


@functools.cache
def true_patches() -> NDArray[np.complex64]:
    """Cut the patches of :func:`simulated` out of its object."""
    scan = simulated()
    assert scan.object is not None
    patches = np.array(list(object_patches(scan.object, scan.corners_px, scan.side_px)), dtype=np.complex64)
    patches.setflags(write=False)
    return patches


def small_module(scan: Scan, scaling: Scaling, **model: object) -> PtychoModule:
    """Make a network for a scan, as small as it gets, whose output depends on its input."""
    seed_everything(5)
    small = {"n_filters_scale": 1, "attention": False, "probe_big": False}
    module = PtychoModule(
        model=ModelConfig(**(small | model)),
        training=TrainingConfig(n_groups=8),
        execution=PyTorchExecutionConfig(),
        probe=scan.probe,
        scaling=scaling,
        max_offset_px=6.0,
    )
    with torch.no_grad():
        for name, parameter in module.generator.named_parameters():
            if name.endswith(".centre.weight"):
                parameter.mul_(50)
    return module
