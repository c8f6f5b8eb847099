"""The figures of one degraded image, written out from their definitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ptycho_torch.alignment import Aligned
from ptycho_torch.metrics import SSIM_WINDOW_PX, compare_aligned

SHAPE = (56, 72)
TOLERANCE = 1e-8
"""Figures are reported with nine decimals."""


def smooth(image: NDArray[Any], sigma_px: float) -> NDArray[Any]:
    """Blur a periodic image by a Gaussian."""
    row, column = np.meshgrid(*(np.fft.fftfreq(side) for side in image.shape), indexing="ij")
    return np.fft.ifft2(np.fft.fft2(image) * np.exp(-2 * (math.pi * sigma_px) ** 2 * (row**2 + column**2)))


def degraded() -> Aligned:
    """Make a smooth object and what is left of it after a blur, under noise."""
    draw = np.random.default_rng(7)
    field = smooth(draw.normal(size=SHAPE) + 1j * draw.normal(size=SHAPE), 1.5)
    field = field / np.abs(field).std()
    truth = (1 + 0.1 * field.real) * np.exp(0.2j * field.imag)
    noise = draw.normal(size=SHAPE) + 1j * draw.normal(size=SHAPE)
    made = smooth(truth, 1.0) + 0.03 * noise
    return Aligned(
        object=made,
        truth=truth,
        stitched=made,
        origin_px=(0, 0),
        shift_px=(0.0, 0.0),
        ramp_rad_per_px=(0.0, 0.0),
        phase_rad=0.0,
        scale=1.0,
    )


ALIGNED = degraded()
FIGURES = compare_aligned(ALIGNED)
IMAGES = {
    "phase": (np.angle(ALIGNED.object), np.angle(ALIGNED.truth)),
    "amplitude": (np.abs(ALIGNED.object), np.abs(ALIGNED.truth)),
}


def mean_ssim(image: NDArray[Any], truth: NDArray[Any]) -> float:
    """Average eq. 13 of Wang et al. (2004) over all whole windows, with the sample's own (co)variances."""
    data_range = truth.max() - truth.min()
    stabilisers = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    side, of_each_window = SSIM_WINDOW_PX, []
    for row in range(image.shape[0] - side + 1):
        for column in range(image.shape[1] - side + 1):
            x, y = (part[row : row + side, column : column + side].ravel() for part in (image, truth))
            covariance = ((x - x.mean()) * (y - y.mean())).sum() / (x.size - 1)
            variances = [((part - part.mean()) ** 2).sum() / (part.size - 1) for part in (x, y)]
            likeness = (2 * x.mean() * y.mean() + stabilisers[0]) * (2 * covariance + stabilisers[1])
            power = x.mean() ** 2 + y.mean() ** 2 + stabilisers[0]
            of_each_window.append(likeness / (power * (sum(variances) + stabilisers[1])))
    return float(np.mean(of_each_window))


def crossing_px(first: NDArray[Any], second: NDArray[Any], threshold: float) -> float:
    """Correlate the rings of two images behind a Hann window and interpolate the first crossing."""
    hann = [np.sin(math.pi * np.arange(1, side + 1) / (side + 1)) ** 2 for side in first.shape]
    window = hann[0][:, None] * hann[1][None, :]
    spectra = [np.fft.fft2(window * (one - np.average(one, weights=window))) for one in (first, second)]
    row, column = np.meshgrid(*(np.fft.fftfreq(side) for side in first.shape), indexing="ij")
    frequency = np.sqrt(row**2 + column**2)
    width = 1 / min(first.shape)  # cycles per pixel of a ring
    rings = []
    for number in range(1, min(first.shape) // 2 + 1):
        here = np.abs(frequency - number * width) < width / 2
        one, two = (spectrum[here] for spectrum in spectra)
        power = math.sqrt((np.abs(one) ** 2).sum() * (np.abs(two) ** 2).sum())
        rings.append((frequency[here].mean(), (one * two.conj()).sum().real / power, here.sum()))
    judged = [(at, value) for at, value, count in rings if count >= 30]
    below = next(number for number, (_, value) in enumerate(judged) if value < threshold)
    (at, value), (next_at, next_value) = judged[below - 1], judged[below]
    assert below > 0, "the curve has no crossing"
    return float(1 / (at + (value - threshold) / (value - next_value) * (next_at - at)))


@pytest.mark.parametrize("name", IMAGES)
def test_the_psnr_is_the_truths_range_squared_over_the_mean_square_error_in_decibels(name: str) -> None:
    image, truth = IMAGES[name]
    mean_square_error = np.square(image - truth).sum() / truth.size
    expected = 10 * np.log10((truth.max() - truth.min()) ** 2 / mean_square_error)
    assert 10 < expected < 40
    assert FIGURES[f"{name}_psnr_db"] == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("name", IMAGES)
def test_the_ssim_is_the_mean_over_windows_with_the_truths_range(name: str) -> None:
    expected = mean_ssim(*IMAGES[name])
    assert 0.3 < expected < 0.9
    assert FIGURES[f"{name}_ssim"] == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize(("name", "threshold"), [("frc_0.5", 0.5), ("frc_1_7", 1 / 7)])
def test_the_resolution_is_the_period_at_which_the_rings_correlation_crosses(
    name: str, threshold: float
) -> None:
    expected = crossing_px(ALIGNED.object, ALIGNED.truth, threshold)
    assert 2.2 < expected < 20
    assert FIGURES[f"{name}_resolution_px"] == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("name", IMAGES)
def test_the_correlation_is_pearsons_of_what_the_best_planes_leave(name: str) -> None:
    row, column = np.indices(SHAPE).reshape(2, -1)
    planes = np.stack([np.ones(row.size), row, column], axis=1)
    left = [one.ravel() - planes @ np.linalg.lstsq(planes, one.ravel())[0] for one in IMAGES[name]]
    expected = np.corrcoef(*left)[0, 1]
    assert 0.9 < expected < 0.99
    assert FIGURES[f"{name}_correlation"] == pytest.approx(expected, abs=TOLERANCE)
