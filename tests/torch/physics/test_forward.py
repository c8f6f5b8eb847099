from __future__ import annotations

import numpy as np
import pytest
import torch

from ptycho_torch.errors import DataError
from ptycho_torch.losses.poisson import PoissonLoss
from ptycho_torch.physics.forward import ForwardModel
from ptycho_torch.physics.patches import extract
from ptycho_torch.physics.probe import annular_probe, gaussian_probe
from ptycho_torch.physics.simulation import object_patches, simulate_frames

N = 64


@pytest.fixture(scope="module")
def probe() -> np.ndarray:
    return annular_probe(N, pupil_radius_px=10, stop_fraction=0.4, defocus_waves=0.8)


@pytest.fixture(scope="module")
def obj() -> np.ndarray:
    x = np.arange(100)
    phase = np.sin(0.3 * x)[:, None] * np.cos(0.21 * x)[None, :]
    amplitude = 0.8 + 0.2 * np.cos(0.17 * x)[:, None] * np.sin(0.26 * x)[None, :]
    return (amplitude * np.exp(1j * phase)).astype(np.complex64)


def _group(obj: np.ndarray, offsets: np.ndarray) -> torch.Tensor:
    corners = (obj.shape[0] - N) / 2 + offsets
    return torch.from_numpy(np.stack(list(object_patches(obj, corners, N)))[None].astype(np.complex64))


OFFSETS = np.array([[-2.0, -1.5], [2.25, -2.5], [-1.25, 2.0], [1.0, 2.0]])


def test_true_patches_of_a_group_explain_their_patterns_through_the_merged_object(probe, obj):
    patches = _group(obj, OFFSETS)
    offsets = torch.from_numpy(OFFSETS.astype(np.float32))[None]
    model = ForwardModel(probe, 1.0, max_offset_px=3.0)
    alone = ForwardModel(probe, 1.0)
    predicted = model(patches, offsets)
    measured = torch.cat([alone(patches[:, [c]], offsets[:, [c]]) for c in range(4)], dim=1)
    error = (predicted - measured).abs().sum() / measured.sum()
    assert error < 0.02


def test_an_offset_with_the_wrong_sign_does_not_explain_the_patterns(probe, obj):
    patches = _group(obj, OFFSETS)
    offsets = torch.from_numpy(OFFSETS.astype(np.float32))[None]
    model = ForwardModel(probe, 1.0, max_offset_px=3.0)
    right = model.overlap(patches, offsets) - patches
    flipped = model.overlap(patches, -offsets) - patches
    window = slice(N // 4, -N // 4)
    assert right[..., window, window].abs().mean() * 10 < flipped[..., window, window].abs().mean()


def test_a_shared_patch_is_seen_at_every_offset(probe, obj):
    offsets = torch.from_numpy(OFFSETS.astype(np.float32))[None]
    shared = _group(obj, np.zeros((1, 2)))
    seen = ForwardModel(probe, 1.0, max_offset_px=3.0).overlap(shared, offsets)
    window = slice(N // 4, -N // 4)
    truth = _group(obj, OFFSETS)
    torch.testing.assert_close(seen[..., window, window], truth[..., window, window], atol=0.02, rtol=0)


def test_a_shared_patch_goes_on_with_its_outermost_pixels_where_they_are_repeated(obj):
    wide = gaussian_probe(N, fwhm_px=40, curvature_waves=0)
    offsets = torch.from_numpy(np.round(OFFSETS).astype(np.float32))[None]
    shared, truth = _group(obj, np.zeros((1, 2))), _group(obj, np.round(OFFSETS))
    models = [ForwardModel(wide, 1e4, max_offset_px=3.0, is_edge_repeated=is_it) for is_it in (False, True)]
    frames = ForwardModel(wide, 1e4)(truth.transpose(0, 1), torch.zeros(4, 1, 2))[:, 0].sqrt()
    blank, repeated = (
        float((model(shared, offsets)[0].sqrt() - frames).abs().sum() / frames.sum()) for model in models
    )
    assert repeated * 5 < blank
    seen, cut = models[1].overlap(shared, offsets), models[0].overlap(shared, offsets)
    assert torch.equal(seen[..., 3:-3, 3:-3], cut[..., 3:-3, 3:-3])
    first_row = -int(offsets[0, 0, 0])  # of the first pattern, which lies higher than its group's middle
    assert torch.equal(seen[0, 0, :first_row, 3:-3], seen[0, 0, [first_row], 3:-3].expand(first_row, -1))
    assert not cut[0, 0, :first_row].any()


def test_one_pattern_alone_is_not_interpolated(probe, obj):
    patch = _group(obj, np.zeros((1, 2)))
    offsets = torch.zeros(1, 1, 2)
    field = torch.fft.fftshift(torch.fft.fft2(patch[0, 0] * torch.from_numpy(probe[0]), norm="ortho"))
    predicted = ForwardModel(probe, 3.0)(patch, offsets)[0, 0]
    torch.testing.assert_close(predicted, 3.0 * field.abs().square())


def test_a_transparent_object_gives_the_counts_of_the_probe(probe):
    predicted = ForwardModel(probe, 500.0)(
        torch.ones(2, 1, N, N, dtype=torch.complex64), torch.zeros(2, 1, 2)
    )
    torch.testing.assert_close(predicted.sum(dim=(-2, -1)), torch.full((2, 1), 500.0))


def test_two_equal_modes_double_the_counts_of_one(probe):
    patches = torch.ones(3, 1, N, N, dtype=torch.complex64)
    one = ForwardModel(probe, 1.0)(patches, torch.zeros(3, 1, 2))
    two = ForwardModel(np.concatenate([probe, probe]), 1.0)(patches, torch.zeros(3, 1, 2))
    torch.testing.assert_close(two, 2 * one)


def test_the_simulation_is_the_forward_model_run_on_the_object(probe, obj):
    corners = 10.0 + OFFSETS
    frames, scale = simulate_frames(obj, probe, corners, 1e8, np.random.default_rng(1))
    counts = np.stack(list(frames))
    patches = torch.from_numpy(np.stack(list(object_patches(obj, corners, N))).astype(np.complex64))[:, None]
    predicted = ForwardModel(probe, scale)(patches, torch.zeros(4, 1, 2))[:, 0].numpy()
    assert predicted.sum(axis=(1, 2)).mean() == pytest.approx(1e8, rel=1e-4)
    bright = predicted > 1e3
    z = (counts - predicted)[bright] / np.sqrt(predicted[bright])
    assert abs(z.mean()) < 0.1
    assert z.std() == pytest.approx(1.0, abs=0.05)


def test_object_patches_of_the_simulation_are_those_of_the_training_canvas(obj):
    offset = np.array([[0.4, -1.3]])
    simulated = _group(obj, offset)[0, 0]
    extracted = extract(torch.from_numpy(obj), torch.from_numpy(offset[0].astype(np.float32)), N)
    torch.testing.assert_close(simulated, extracted, atol=1e-5, rtol=0)


def test_a_probe_without_mode_axis_is_refused(probe):
    with pytest.raises(DataError, match="modes as"):
        ForwardModel(probe[0], 1.0)


def test_patches_that_leave_the_object_are_refused(obj):
    with pytest.raises(DataError, match="leave the object"):
        list(object_patches(obj, np.array([[0.0, 5.0]]), N))


def test_a_scale_that_is_wrong_by_a_factor_is_learnt_back(probe, obj):
    corners = 10.0 + OFFSETS
    frames, scale = simulate_frames(obj, probe, corners, 1e8, np.random.default_rng(1))
    counts = torch.from_numpy(np.stack(list(frames)).astype(np.float32))[:, None]
    patches = torch.from_numpy(np.stack(list(object_patches(obj, corners, N))).astype(np.complex64))[:, None]
    model = ForwardModel(probe, scale / 1.3, is_scale_trainable=True)
    loss, optimizer = PoissonLoss(mean_counts=1e8), torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        loss(model(patches, torch.zeros(4, 1, 2)), counts).backward()
        optimizer.step()
    assert float(model.counts_per_unit.detach()) / scale == pytest.approx(1.0, abs=1e-3)
    assert float(model.intensity_scale) == pytest.approx(scale / 1.3, rel=1e-6)


def test_a_scale_that_is_trained_begins_with_the_very_counts_of_the_frozen_one(probe, obj):
    patch, offsets = _group(obj, np.zeros((1, 2))), torch.zeros(1, 1, 2)
    frozen, trained = ForwardModel(probe, 7.7), ForwardModel(probe, 7.7, is_scale_trainable=True)
    assert torch.equal(trained(patch, offsets), frozen(patch, offsets))
    assert set(trained.state_dict()) - set(frozen.state_dict()) == {"log_intensity_gain"}
    assert not list(frozen.parameters())
