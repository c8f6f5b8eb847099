from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from ptycho_torch.data.dataset import Scaling
from ptycho_torch.errors import DataError
from ptycho_torch.module import PtychoModule
from ptycho_torch.reconstruction import trained_scaling
from tests.torch.simulated_truth import simulated, small_module


def trained_with(power: float, **model: object) -> PtychoModule:
    scaling = Scaling(
        input_scale=0.5, intensity_scale=3.0, counts_per_amplitude=1.0, mean_counts=10.0, probe_power=power
    )
    return small_module(simulated(), scaling, **model)


def test_the_scales_of_a_training_are_kept_bit_by_bit_under_its_own_probe() -> None:
    scan = simulated()
    power = trained_scaling(trained_with(1.0), scan).probe_power
    kept = trained_scaling(trained_with(power), scan)
    assert (kept.intensity_scale, kept.input_scale, kept.probe_power) == (3.0, 0.5, power)


def test_a_probe_on_another_scale_takes_the_object_on_another() -> None:
    scan = simulated()
    power = trained_scaling(trained_with(1.0), scan).probe_power
    brighter = dataclasses.replace(scan, probe=2 * scan.probe)
    kept = trained_scaling(trained_with(power), brighter)
    assert kept.intensity_scale == pytest.approx(3.0 / 4)
    assert kept.input_scale == 0.5


def test_an_intensity_scale_that_was_learnt_takes_the_place_of_the_frozen_one() -> None:
    scan = simulated()
    power = trained_scaling(trained_with(1.0), scan).probe_power
    module = trained_with(power, intensity_scale_trainable=True)
    assert trained_scaling(module, scan).intensity_scale == 3.0
    with torch.no_grad():
        module.forward_model.log_intensity_gain.fill_(math.log(1.3))
    kept = trained_scaling(module, scan)
    assert kept.intensity_scale == pytest.approx(3.9, rel=1e-6)
    assert kept.input_scale == 0.5


def test_frames_of_another_side_are_refused() -> None:
    smaller = dataclasses.replace(
        simulated(), diffraction=np.ones((1, 32, 32), np.float32), probe=np.ones((1, 32, 32), np.complex64)
    )
    with pytest.raises(DataError, match="32 pixels wide, the network's are 64"):
        trained_scaling(trained_with(1.0), smaller)
