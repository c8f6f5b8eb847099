"""From a network to one image, and from the image back to the frames."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ptycho_torch.config import DataConfig, InferenceConfig, ModelConfig, PyTorchExecutionConfig
from ptycho_torch.data.dataset import GroupDataset, Scaling, measure_scaling
from ptycho_torch.inference import (
    Predictions,
    predict_patches,
    probe_intensity,
    reproject,
    stitch_patches,
    synchronise,
    with_trained_probe,
)
from ptycho_torch.metrics import poisson_r_factor, r_factor
from ptycho_torch.readers.scan import Scan
from ptycho_torch.stitching import Reconstruction
from tests.torch.simulated_truth import simulated, small_module, true_patches

PADDED = PyTorchExecutionConfig(pad_eval=True)


def scaling_of(scan: Scan) -> Scaling:
    return measure_scaling(scan, np.arange(scan.n_frames), DataConfig(), ModelConfig())


def with_weaker_probe() -> Scan:
    """Have the network's scale matter: in this scan a patch of ones does not explain the counts."""
    return dataclasses.replace(simulated(), probe=simulated().probe / np.float32(20))


def first_frames(scan: Scan, number: int) -> Scan:
    return dataclasses.replace(
        scan, diffraction=scan.diffraction[:number], corners_px=scan.corners_px[:number]
    )


def true_predictions() -> Predictions:
    return Predictions(true_patches(), simulated().corners_px, 1)


def true_image() -> Reconstruction:
    return stitch_patches(true_predictions(), simulated(), PADDED)


def excess_over_the_floor(image: Reconstruction, scan: Scan) -> float:
    predicted = reproject(image, scan)
    return r_factor(predicted, np.square(scan.diffraction)) / poisson_r_factor(predicted)


class TestReproject:
    def test_the_true_patches_stitched_explain_the_frames_but_for_photon_noise(self) -> None:
        scan = simulated()
        assert (np.abs(scan.corners_px - np.round(scan.corners_px)) > 0.1).mean() > 0.5
        assert excess_over_the_floor(true_image(), scan) < 1.04
        assert reproject(true_image(), scan).sum() == pytest.approx(1e6 * scan.n_frames, rel=1e-3)

    @pytest.mark.parametrize("axis", [0, 1])
    def test_half_a_pixel_beside_the_true_positions_it_explains_them_worse(self, axis: int) -> None:
        corners = simulated().corners_px + 0.5 * np.eye(2)[axis]
        assert excess_over_the_floor(true_image(), dataclasses.replace(simulated(), corners_px=corners)) > 1.1

    def test_a_frame_is_predicted_alike_whatever_frames_stand_beside_it(self) -> None:
        scan, image = simulated(), true_image()
        whole = reproject(image, scan)
        far = np.array([[-300.0, 2.5], [1.25, 400.0], [-7.5, -90.0], [500.0, 500.0]])
        joined = dataclasses.replace(
            scan,
            diffraction=np.concatenate([scan.diffraction, scan.diffraction[:4]]),
            corners_px=np.concatenate([scan.corners_px, far]),
        )
        np.testing.assert_allclose(reproject(image, joined)[:-4], whole, rtol=1e-4, atol=1e-3)

    @pytest.mark.parametrize("corner", [(-300.0, 20.5), (20.5, 300.0)])
    def test_nothing_is_transmitted_where_the_object_is_not_covered(
        self, corner: tuple[float, float]
    ) -> None:
        away = dataclasses.replace(first_frames(simulated(), 1), corners_px=np.array([corner]))
        assert not reproject(true_image(), away).any()

    def test_modes_of_the_probe_add_in_intensity(self) -> None:
        scan = first_frames(simulated(), 3)
        modes = np.concatenate([scan.probe, scan.probe[:, ::-1] * np.complex64(0.5j)])
        parts = [
            reproject(true_image(), dataclasses.replace(scan, probe=part))
            for part in (modes[:1], modes[1:], modes)
        ]
        np.testing.assert_allclose(parts[0] + parts[1], parts[2], rtol=1e-4, atol=1e-2)
        both = dataclasses.replace(scan, probe=modes)
        np.testing.assert_allclose(probe_intensity(both), (np.abs(modes) ** 2).sum(axis=0), rtol=1e-5)


class TestPredictPatches:
    def test_the_patches_are_on_the_scale_on_which_the_diffraction_is_in_counts(self) -> None:
        scan = with_weaker_probe()
        scaling = scaling_of(scan)
        assert scaling.intensity_scale > 100
        module = small_module(scan, scaling)
        patches = predict_patches(module, scan, scaling, batch_size=30).patches
        field = np.fft.fftshift(np.fft.fft2(scan.probe * patches, norm="ortho"), axes=(-2, -1))
        groups = np.arange(scan.n_frames)[:, None]
        batch = GroupDataset(scan, groups, scaling).__getitems__(range(scan.n_frames))
        with torch.inference_mode():
            counts = module.forward_model(module(batch.input_amplitude), batch.offsets_px)[:, 0].numpy()
        np.testing.assert_allclose(np.abs(field) ** 2, counts, rtol=1e-3, atol=1e-5 * counts.max())

    @pytest.mark.parametrize("batch_size", [5, 8, 100])
    def test_a_frames_patch_does_not_depend_on_the_batch_and_every_batch_is_counted_and_reported(
        self, batch_size: int
    ) -> None:
        scan = first_frames(simulated(), 24)
        scaling = scaling_of(scan)
        module = small_module(scan, scaling)
        seen: list[tuple[int, int]] = []
        made = predict_patches(
            module,
            scan,
            scaling,
            batch_size=batch_size,
            report=lambda done, total: seen.append((done, total)),
        )
        alone = predict_patches(module, first_frames(scan, 1), scaling, batch_size=1)
        together = predict_patches(module, scan, scaling, batch_size=scan.n_frames)
        np.testing.assert_allclose(made.patches, together.patches, rtol=0, atol=2e-4)
        np.testing.assert_allclose(made.patches[:1], alone.patches, rtol=0, atol=2e-4)
        assert np.ptp(np.abs(together.patches), axis=0).max() > 0.1
        assert made.num_batches == len(seen) == math.ceil(scan.n_frames / batch_size)
        assert seen[-1] == (scan.n_frames, scan.n_frames)
        assert seen[0] == (min(batch_size, scan.n_frames), scan.n_frames)

    def test_the_network_does_not_see_masked_pixels(self) -> None:
        mask = np.ones((64, 64), dtype=bool)
        mask[28:31, 30:36] = False
        plain = first_frames(simulated(), 4)
        scaling = scaling_of(plain)
        module = small_module(plain, scaling)

        def predicted(value: float) -> NDArray[np.complex64]:
            diffraction = plain.diffraction.copy()
            diffraction[:, ~mask] = value
            scan = dataclasses.replace(plain, diffraction=diffraction, mask=mask)
            return predict_patches(module, scan, scaling, batch_size=4).patches

        zero = dataclasses.replace(plain, diffraction=plain.diffraction * mask)
        expected = predict_patches(module, zero, scaling, batch_size=4).patches
        assert np.abs(predict_patches(module, plain, scaling, batch_size=4).patches - expected).max() > 0.01
        for value in (0.0, 1e6, math.nan):
            np.testing.assert_array_equal(predicted(value), expected)

    def test_it_leaves_scan_and_network_as_they_were(self) -> None:
        scan = first_frames(simulated(), 2)
        scaling = scaling_of(scan)
        for is_training in (True, False):
            module = small_module(scan, scaling).train(is_training)
            before = scan.diffraction.copy()
            predict_patches(module, scan, scaling, batch_size=2)
            assert module.training is is_training
            assert np.array_equal(scan.diffraction, before)

    def test_a_network_that_merges_patches_predicts_one_for_every_frame(self) -> None:
        scan = first_frames(simulated(), 6)
        scaling = scaling_of(scan)
        module = small_module(scan, scaling, gridsize=2, object_big=True)
        made = predict_patches(module, scan, scaling, batch_size=4)
        assert made.patches.shape == (6, 64, 64)
        assert np.array_equal(made.corners_px, scan.corners_px)

    def test_a_network_with_one_patch_per_group_puts_it_at_the_groups_mean_corner(self) -> None:
        scan = first_frames(simulated(), 20)
        scaling = scaling_of(scan)
        module = small_module(scan, scaling, gridsize=2, object_big=False)
        made = predict_patches(module, scan, scaling, batch_size=7)
        assert made.patches.shape == (20, 64, 64)
        for frame in (0, 13, 19):
            distance = np.hypot(*(scan.corners_px - scan.corners_px[frame]).T)
            members = [frame, *sorted(np.argsort(distance)[1:4])]
            assert made.corners_px[frame] == pytest.approx(scan.corners_px[members].mean(axis=0))
            seen = torch.from_numpy(scan.diffraction[members][None] * np.float32(scaling.input_scale))
            with torch.inference_mode():
                patch = module.predict_patches(seen)[0, 0].numpy() * math.sqrt(scaling.intensity_scale)
            np.testing.assert_allclose(made.patches[frame], patch, rtol=0, atol=2e-4)

    def test_a_network_that_was_shown_squares_sees_every_square_once(self) -> None:
        corners_px = np.stack(np.divmod(np.arange(20), 5), axis=1) * 3.0
        scan = dataclasses.replace(first_frames(simulated(), 20), corners_px=corners_px)
        scaling = scaling_of(scan)
        module = small_module(scan, scaling, gridsize=2, object_big=False, grouping="square")
        made = predict_patches(module, scan, scaling, batch_size=5)
        assert made.patches.shape == (12, 64, 64)
        lowest = corners_px.reshape(4, 5, 2)[:-1, :-1].reshape(-1, 2)
        assert np.array_equal(made.corners_px, lowest + 1.5)
        seen = torch.from_numpy(scan.diffraction[[6, 7, 11, 12]][None] * np.float32(scaling.input_scale))
        with torch.inference_mode():
            patch = module.predict_patches(seen)[0, 0].numpy() * math.sqrt(scaling.intensity_scale)
        np.testing.assert_allclose(made.patches[5], patch, rtol=0, atol=2e-4)


class TestStitchPatches:
    @pytest.mark.parametrize("pad", [False, True])
    @pytest.mark.parametrize(("middle_trim", "window"), [(0, 32), (20, 20), (64, 64)])
    def test_the_canvas_is_the_hull_of_the_windows_or_padded_of_the_patches(
        self, pad: bool, middle_trim: int, window: int
    ) -> None:
        execution = PyTorchExecutionConfig(pad_eval=pad, middle_trim=middle_trim)
        image = stitch_patches(true_predictions(), simulated(), execution)
        span = np.ptp(simulated().corners_px, axis=0) + (64 if pad else window)
        assert np.abs(np.array(image.object.shape) - span).max() < 5
        assert (image.accepted, image.total) == (72, 72)


class TestSynchronise:
    @pytest.fixture
    def scattered(self) -> Predictions:
        phases = np.exp(1j * np.random.default_rng(2).uniform(-np.pi, np.pi, (72, 1, 1)))
        patches = (true_patches() * phases).astype(np.complex64)
        return dataclasses.replace(true_predictions(), patches=patches, num_batches=9)

    def test_patches_of_unrelated_phases_are_brought_to_one_when_asked(self, scattered: Predictions) -> None:
        asked = InferenceConfig(sync_phases=True)
        image = stitch_patches(
            synchronise(scattered, simulated(), asked, middle_trim=32), simulated(), PADDED
        )
        apart = stitch_patches(scattered, simulated(), PADDED)
        assert excess_over_the_floor(image, simulated()) < 1.1
        assert excess_over_the_floor(apart, simulated()) > 2

    def test_all_but_the_phases_stays(self, scattered: Predictions) -> None:
        made = synchronise(scattered, simulated(), InferenceConfig(sync_phases=True), middle_trim=32)
        np.testing.assert_allclose(np.abs(made.patches), np.abs(scattered.patches), rtol=1e-5)
        assert made.num_batches == 9
        assert made.corners_px is scattered.corners_px

    def test_nothing_is_touched_when_not_asked(self, scattered: Predictions) -> None:
        before = scattered.patches.copy()
        made = synchronise(scattered, simulated(), InferenceConfig(sync_phases=False), middle_trim=32)
        assert np.array_equal(made.patches, before)

    def test_the_rounds_are_those_asked_for(self, scattered: Predictions) -> None:
        none, some = (
            synchronise(
                scattered,
                simulated(),
                InferenceConfig(sync_phases=True, sync_rounds=rounds),
                middle_trim=32,
            ).patches
            for rounds in (1, 4)
        )
        assert not np.array_equal(none, some)


class TestTrainedProbe:
    def test_a_trained_probe_takes_the_place_of_the_scans(self) -> None:
        scan = first_frames(simulated(), 3)
        module = small_module(scan, scaling_of(scan), probe_trainable=True)
        with torch.no_grad():
            module.forward_model.probe_parts.mul_(2.0)
        trained = with_trained_probe(module, scan)
        np.testing.assert_allclose(trained.probe, 2 * scan.probe, rtol=1e-5)
        assert trained.probe.dtype == np.complex64
        np.testing.assert_allclose(
            reproject(true_image(), trained), 4 * reproject(true_image(), scan), rtol=1e-3, atol=1e-2
        )

    def test_a_probe_that_was_not_trained_stays_the_scans_own(self) -> None:
        scan = first_frames(simulated(), 3)
        assert with_trained_probe(small_module(scan, scaling_of(scan)), scan) is scan

    def test_a_masked_probe_takes_the_place_of_the_scans(self) -> None:
        scan = first_frames(simulated(), 3)
        module = small_module(scan, scaling_of(scan), probe_mask=True)
        inside = np.hypot(*(np.mgrid[:64, :64] - 31.5)) < 16
        np.testing.assert_array_equal(with_trained_probe(module, scan).probe, scan.probe * inside)
