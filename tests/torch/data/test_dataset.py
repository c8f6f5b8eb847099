from __future__ import annotations

import math
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch

from ptycho_torch.config import DataConfig, ModelConfig
from ptycho_torch.data.dataset import GroupDataset, measure_scaling
from ptycho_torch.errors import DataError
from tests.torch.made_up_scans import make_scan

FRAMES = np.arange(36)


def dataset(scan, groups=None, data=None):
    groups = np.arange(36).reshape(9, 4) if groups is None else groups
    data = DataConfig(units=scan.units) if data is None else data
    return GroupDataset(scan, groups, measure_scaling(scan, FRAMES, data, ModelConfig()))


def test_counts_come_back_from_their_roots():
    scan = make_scan()
    batch = dataset(scan).__getitems__([0, 5])
    counts = np.rint(scan.diffraction.astype(np.float64) ** 2)[[[0, 1, 2, 3], [20, 21, 22, 23]]]
    np.testing.assert_allclose(batch.measured_intensity.numpy(), counts, rtol=3e-7, atol=0)
    assert batch.measured_intensity.dtype == torch.float32


def test_the_networks_input_has_the_power_that_the_convention_gives_it():
    scan = make_scan()
    batch = dataset(scan).__getitems__(list(range(9)))
    mean_power = batch.input_amplitude.double().square().sum() / 36
    assert float(mean_power) == pytest.approx((8 / 2) ** 2, rel=1e-6)


def test_scales_are_measured_on_the_training_frames_only():
    scan = make_scan()
    train = np.arange(10)
    stack = scan.diffraction.copy()
    stack[10:] *= 100
    spoiled = replace(scan, diffraction=stack)
    data, model = DataConfig(units="count_amplitude"), ModelConfig()
    assert measure_scaling(scan, train, data, model) == measure_scaling(spoiled, train, data, model)
    assert measure_scaling(scan, FRAMES, data, model) != measure_scaling(spoiled, FRAMES, data, model)


def test_scales_do_not_depend_on_the_order_of_the_frames():
    scan = make_scan(rows=15, columns=10)
    frames = np.arange(150)
    shuffled = np.random.Generator(np.random.PCG64(1)).permutation(frames)
    arguments = (DataConfig(units="count_amplitude"), ModelConfig())
    assert measure_scaling(scan, frames, *arguments) == measure_scaling(scan, shuffled, *arguments)


def test_a_flat_patch_at_the_amplitude_level_explains_the_mean_frame():
    scan = make_scan(
        probe=np.random.Generator(np.random.PCG64(2))
        .normal(size=(3, 8, 16))
        .view(complex)
        .astype(np.complex64)
    )
    model = ModelConfig(amplitude_level=0.3)
    scaling = measure_scaling(scan, FRAMES, DataConfig(units="count_amplitude"), model)
    far_field = np.fft.fft2(0.3 * scan.probe.astype(complex), norm="ortho")
    predicted = scaling.intensity_scale * np.sum(np.abs(far_field) ** 2)
    measured = np.mean(np.sum(scan.diffraction.astype(np.float64) ** 2, axis=(1, 2)))
    assert predicted == pytest.approx(measured, rel=1e-6)
    assert scaling.mean_counts == pytest.approx(measured, rel=1e-12)


def test_the_scale_under_a_mask_is_that_of_the_probe_within_it():
    waves = np.random.Generator(np.random.PCG64(2)).normal(size=(1, 64, 128))
    scan = make_scan(side=64, probe=waves.view(complex).astype(np.complex64))
    scaling = measure_scaling(scan, FRAMES, DataConfig(units=scan.units), ModelConfig(probe_mask=True))
    inside = np.hypot(*(np.mgrid[:64, :64] - 31.5)) < 16
    power = np.sum(np.abs(scan.probe[:, inside].astype(complex)) ** 2)
    assert scaling.probe_power == pytest.approx(power, rel=1e-12)
    assert scaling.intensity_scale == pytest.approx(scaling.mean_counts / (power * 0.25), rel=1e-12)


def test_photons_are_measured_in_counts_whatever_the_configuration_says():
    scan = make_scan()
    scales = [
        measure_scaling(scan, FRAMES, DataConfig(units="count_amplitude", nphotons=nphotons), ModelConfig())
        for nphotons in (1e3, 1e9)
    ]
    assert scales[0] == scales[1]
    assert scales[0].counts_per_amplitude == 1.0


@pytest.mark.parametrize("nphotons", [1e4, 1e9])
def test_normalized_amplitudes_are_scaled_to_the_photons_of_the_configuration(nphotons):
    scan = make_scan(units="normalized_amplitude")
    batch = dataset(scan, data=DataConfig(nphotons=nphotons)).__getitems__(list(range(9)))
    mean_total = batch.measured_intensity.double().sum() / 36
    assert float(mean_total) == pytest.approx(nphotons, rel=1e-6)


def test_normalized_amplitudes_are_not_rounded():
    scan = make_scan(units="normalized_amplitude")
    batch = dataset(scan, data=DataConfig(nphotons=10.0))[0]
    intensity = batch.measured_intensity
    assert not torch.equal(intensity, intensity.round())


def test_the_scale_of_stored_normalized_amplitudes_does_not_matter():
    scan = make_scan(units="normalized_amplitude")
    smaller = replace(scan, diffraction=scan.diffraction * np.float32(2**-9))
    first, second = (dataset(one, data=DataConfig(nphotons=1e5))[3] for one in (scan, smaller))
    assert torch.equal(first.measured_intensity, second.measured_intensity)
    assert torch.equal(first.input_amplitude, second.input_amplitude)


def test_offsets_are_row_and_column_from_the_groups_mean():
    corners_px = make_scan().corners_px
    batch = dataset(make_scan())[1]
    expected = corners_px[4:8] - corners_px[4:8].mean(axis=0)
    np.testing.assert_allclose(batch.offsets_px[0].numpy(), expected, atol=1e-6)
    assert float(batch.offsets_px.sum(dim=1).abs().max()) < 1e-5


def test_a_single_frame_has_no_offset():
    batch = dataset(make_scan(), groups=np.arange(36)[:, None]).__getitems__([3, 4])
    assert not batch.offsets_px.any()
    assert batch.input_amplitude.shape == (2, 1, 8, 8)


def test_masked_pixels_reach_neither_network_nor_loss_nor_scales():
    mask = np.ones((8, 8), dtype=bool)
    mask[2, 3] = False
    stack = make_scan().diffraction.copy()
    stack[:, 2, 3] = 0
    spoiled = stack.copy()
    spoiled[:, 2, 3] = np.nan
    clean, hot = (dataset(make_scan(diffraction=frames, mask=mask)) for frames in (stack, spoiled))
    for ours, theirs in zip(clean[2].__dict__.values(), hot[2].__dict__.values(), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(hot[2].mask, torch.from_numpy(mask))


def test_the_stack_is_neither_copied_nor_changed():
    scan = make_scan()
    scan.diffraction.setflags(write=False)
    before = scan.diffraction.copy()
    samples = dataset(scan)
    batch = samples[0]
    batch.measured_intensity.zero_()
    batch.input_amplitude.zero_()
    assert np.shares_memory(samples._diffraction, scan.diffraction)
    assert np.array_equal(scan.diffraction, before)


def test_a_memory_map_serves_as_stack(tmp_path):
    scan = make_scan()
    np.save(tmp_path / "stack.npy", scan.diffraction)
    mapped = replace(scan, diffraction=np.load(tmp_path / "stack.npy", mmap_mode="r"))
    mapped.check()
    assert torch.equal(dataset(mapped)[4].input_amplitude, dataset(scan)[4].input_amplitude)


def test_a_sample_does_not_depend_on_its_batch_or_epoch():
    samples = dataset(make_scan())
    together = samples.__getitems__([(7, 8), (7, 2), (7, 5)])
    alone = samples[(0, 2)]
    assert torch.equal(together.input_amplitude[1], alone.input_amplitude[0])
    assert torch.equal(together.offsets_px[1], alone.offsets_px[0])
    assert together.index.tolist() == [8, 2, 5]


def test_a_batch_is_frozen_and_travels_between_processes():
    batch = dataset(make_scan())[0]
    with pytest.raises(FrozenInstanceError):
        batch.index = torch.zeros(1)
    copied = pickle.loads(pickle.dumps(batch)).to("cpu")
    assert torch.equal(copied.input_amplitude, batch.input_amplitude)
    assert copied.mask is None


def test_dark_or_absent_training_frames_are_refused():
    scan = make_scan()
    with pytest.raises(DataError, match="no training frames"):
        measure_scaling(scan, np.arange(0), DataConfig(), ModelConfig())
    dark = replace(scan, diffraction=np.zeros_like(scan.diffraction))
    with pytest.raises(DataError, match="dark"):
        measure_scaling(dark, FRAMES, DataConfig(), ModelConfig())


def test_scales_are_plain_finite_numbers():
    scaling = measure_scaling(make_scan(), FRAMES, DataConfig(units="count_amplitude"), ModelConfig())
    assert all(
        type(value) is float and math.isfinite(value) and value > 0 for value in vars(scaling).values()
    )
