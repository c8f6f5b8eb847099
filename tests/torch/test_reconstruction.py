from __future__ import annotations

import dataclasses

import pytest

from ptycho_torch.errors import DataError
from ptycho_torch.reconstruction import trained_scaling
from tests.torch.simulated_truth import simulated


def checkpoint_of(power: float, side: int = 64) -> dict:
    scaling = {
        "input_scale": 0.5,
        "intensity_scale": 3.0,
        "counts_per_amplitude": 1.0,
        "mean_counts": 10.0,
        "probe_power": power,
    }
    return {"hyper_parameters": {"model": {"N": side}, "scaling": scaling}}


def test_the_scales_of_a_training_are_kept_bit_by_bit_under_its_own_probe() -> None:
    scan = simulated()
    power = trained_scaling(checkpoint_of(1.0), scan).probe_power
    kept = trained_scaling(checkpoint_of(power), scan)
    assert (kept.intensity_scale, kept.input_scale, kept.probe_power) == (3.0, 0.5, power)


def test_a_probe_on_another_scale_takes_the_object_on_another() -> None:
    scan = simulated()
    power = trained_scaling(checkpoint_of(1.0), scan).probe_power
    brighter = dataclasses.replace(scan, probe=2 * scan.probe)
    kept = trained_scaling(checkpoint_of(power), brighter)
    assert kept.intensity_scale == pytest.approx(3.0 / 4)
    assert kept.input_scale == 0.5


def test_frames_of_another_side_are_refused() -> None:
    with pytest.raises(DataError, match="64 pixels wide, the network's are 128"):
        trained_scaling(checkpoint_of(1.0, side=128), simulated())
