from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import poisson

from ptycho_torch.errors import DataError
from ptycho_torch.metrics import (
    compare_with_truth,
    mean_frame,
    pearson,
    poisson_r_factor,
    r_factor,
)
from ptycho_torch.stitching import stitch
from tests.torch.known_object import KnownScan, cut_patches, make_known_scan


@pytest.fixture
def known_scan() -> KnownScan:
    return make_known_scan()


def measure(scan: KnownScan, obj: np.ndarray) -> dict[str, float]:
    made = stitch(cut_patches(obj, scan.corners_px), scan.corners_px, scan.probe_intensity)
    return compare_with_truth(made.object, made.coverage, made.frame_origin_px, scan.object)


def blurred(obj: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(obj.real, sigma, mode="wrap") + 1j * ndimage.gaussian_filter(
        obj.imag, sigma, mode="wrap"
    )


def test_the_truth_itself_scores_near_one(known_scan: KnownScan) -> None:
    figures = measure(known_scan, known_scan.object)
    for name in ("phase_correlation", "amplitude_correlation", "phase_ssim", "amplitude_ssim"):
        assert figures[name] > 0.99
    assert figures["frc_0.5_resolution_px"] == 2.0
    assert figures["phase_psnr_db"] > 35


def test_every_figure_falls_as_the_object_gets_softer(known_scan: KnownScan) -> None:
    steps = [measure(known_scan, blurred(known_scan.object, sigma)) for sigma in (0.5, 2, 5)]
    for name in ("phase_correlation", "amplitude_correlation", "phase_ssim", "phase_psnr_db"):
        figures = [step[name] for step in steps]
        assert figures == sorted(figures, reverse=True)
        assert figures[0] - figures[-1] > 0.1
    resolutions = [step["frc_0.5_resolution_px"] for step in steps]
    assert resolutions == sorted(resolutions)


def test_another_object_does_not_correlate(known_scan: KnownScan) -> None:
    figures = measure(known_scan, np.roll(known_scan.object, (40, 40), (0, 1)).T)
    assert abs(figures["phase_correlation"]) < 0.35
    assert figures["phase_ssim"] < 0.3


def test_the_mirrored_phase_is_no_success(known_scan: KnownScan) -> None:
    assert measure(known_scan, known_scan.object.conj())["phase_correlation"] < 0


def test_a_ramp_that_happens_to_follow_the_truth_earns_no_correlation(known_scan: KnownScan) -> None:
    truth = known_scan.object * np.exp(0.01j * np.arange(len(known_scan.object)))
    made = stitch(np.ones_like(known_scan.patches), known_scan.corners_px, known_scan.probe_intensity)
    figures = compare_with_truth(made.object, made.coverage, made.frame_origin_px, truth)
    assert figures["phase_correlation"] == 0.0


def test_a_constant_reconstruction_scores_near_nothing(known_scan: KnownScan) -> None:
    figures = measure(known_scan, np.ones_like(known_scan.object))
    assert figures["amplitude_correlation"] == 0.0
    assert figures["phase_correlation"] == 0.0
    assert figures["phase_ssim"] < 0.2


def test_a_pure_phase_object_has_no_figures_for_amplitude(known_scan: KnownScan) -> None:
    truth = np.exp(1j * np.angle(known_scan.object))
    made = stitch(known_scan.patches, known_scan.corners_px, known_scan.probe_intensity)
    figures = compare_with_truth(made.object, made.coverage, made.frame_origin_px, truth)
    assert figures["phase_correlation"] > 0.95
    assert not [name for name in figures if name.startswith("amplitude_") and name != "amplitude_scale"]


def test_a_phase_beyond_one_turn_is_not_mistaken_for_an_error(known_scan: KnownScan) -> None:
    truth = np.abs(known_scan.object) * np.exp(1j * (np.angle(known_scan.object) + 3.1))
    made = stitch(known_scan.patches, known_scan.corners_px, known_scan.probe_intensity)
    assert compare_with_truth(made.object, made.coverage, made.frame_origin_px, truth)["phase_ssim"] > 0.99


def test_all_figures_are_plain_finite_numbers(known_scan: KnownScan) -> None:
    figures = measure(known_scan, known_scan.object)
    assert all(type(value) is float and np.isfinite(value) for value in figures.values())


def frames(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2.0, 3.0, (40, 8, 8))


def test_the_r_factor_is_zero_for_the_measurement_and_one_for_nothing() -> None:
    measured = frames()
    assert r_factor(measured, measured) == 0
    assert r_factor(np.zeros_like(measured), measured) == 1
    assert r_factor(4 * measured, measured) == pytest.approx(1)


def test_the_r_factor_takes_roots_of_counts_and_uses_only_the_mask() -> None:
    measured, predicted = np.full((2, 2, 2), 9.0), np.full((2, 2, 2), 16.0)
    assert r_factor(predicted, measured) == pytest.approx(1 / 3)
    predicted[:, 0, 0] = 1e6
    mask = np.ones((2, 2), dtype=bool)
    mask[0, 0] = False
    assert r_factor(predicted, measured, mask) == pytest.approx(1 / 3)
    assert r_factor(predicted.reshape(1, 2, 2, 2), measured.reshape(1, 2, 2, 2), mask) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("predicted", "measured", "mask", "sentence"),
    [
        (frames()[:3], frames(), None, "differ in shape"),
        (frames(), frames(), np.ones((4, 4)), "the mask has shape"),
        (-frames(), frames(), None, "below zero or not finite"),
        (frames() * np.nan, frames(), None, "below zero or not finite"),
        (frames(), 0 * frames(), None, "no counts"),
    ],
)
def test_what_has_no_r_factor_is_refused(
    predicted: np.ndarray, measured: np.ndarray, mask: np.ndarray | None, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        r_factor(predicted, measured, mask)


@pytest.mark.parametrize("mean_counts", [0.05, 1.0, 20.0, 3000.0])
def test_the_poisson_floor_is_what_poisson_noise_gives(mean_counts: float) -> None:
    rates = frames().repeat(60, axis=0) / 6 * mean_counts
    counts = np.random.default_rng(1).poisson(rates)
    assert poisson_r_factor(rates) == pytest.approx(r_factor(rates, counts), rel=0.02)


@pytest.mark.parametrize("rate", [0.7, 60.0, 199.0, 201.0, 1000.0])
def test_the_poisson_floor_is_the_sum_over_all_counts(rate: float) -> None:
    counts = np.arange(3000)
    probability = poisson.pmf(counts, rate)
    deviation = (probability * np.abs(np.sqrt(counts) - np.sqrt(rate))).sum()
    expected = deviation / (probability * np.sqrt(counts)).sum()
    assert poisson_r_factor(np.full((1, 4, 4), rate)) == pytest.approx(expected, rel=5e-4)


def test_the_mean_frame_is_the_average_over_all_frames_of_all_groups() -> None:
    measured = frames()
    np.testing.assert_allclose(mean_frame(measured.reshape(10, 4, 8, 8)), measured.mean(axis=0))


def test_a_scan_of_one_frame_repeated_is_explained_by_its_mean_frame() -> None:
    same = frames()[:1].repeat(5, axis=0)
    assert r_factor(np.broadcast_to(mean_frame(same), same.shape), same) == 0


def test_correlation_ignores_offset_and_scale_and_keeps_the_sign() -> None:
    image = frames()[0]
    assert pearson(image, 3 * image + 7) == pytest.approx(1)
    assert pearson(image, -image) == pytest.approx(-1)
    assert pearson(image, np.ones_like(image)) == 0


def test_judging_a_reconstruction_needs_neither_torch_nor_matplotlib() -> None:
    program = (
        "import sys, ptycho_torch.metrics, ptycho_torch.collapse, ptycho_torch.stitching; "
        "sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
