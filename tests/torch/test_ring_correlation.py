from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from ptycho_torch.errors import DataError
from ptycho_torch.ring_correlation import (
    FEWEST_PIXELS,
    RingCorrelation,
    fourier_ring_correlation,
    resolution_px,
    threshold_curve,
)


def noise(seed: int, shape: tuple[int, int] = (64, 80)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(*shape, 2)) @ [1, 1j]


def test_an_image_agrees_with_itself_to_nyquist_whatever_its_scale() -> None:
    image = noise(0)
    curve = fourier_ring_correlation(image, 3 * image)
    np.testing.assert_allclose(curve.correlation, 1)
    assert resolution_px(curve, 0.5) == 2.0
    assert curve.frequency[-1] == pytest.approx(0.5, abs=0.01)


def test_images_that_have_nothing_in_common_do_not_correlate() -> None:
    curve = fourier_ring_correlation(noise(1), noise(2))
    expected = 1 / np.sqrt(curve.num_pixels)
    assert np.mean(np.abs(curve.correlation) < 4 * expected) > 0.95
    judged = curve.frequency[curve.num_pixels >= FEWEST_PIXELS]
    assert resolution_px(curve, 0.5) == 1 / judged[0]


def test_two_images_that_share_only_coarse_detail_are_resolved_to_that_detail() -> None:
    period = 8.0
    low = [np.abs(np.fft.fftfreq(side)) for side in (128, 128)]
    is_shared = np.hypot(low[0][:, None], low[1][None, :]) < 1 / period
    shared, one, two = (np.fft.fft2(noise(seed, (128, 128))) for seed in (3, 4, 5))
    first, second = (np.fft.ifft2(np.where(is_shared, shared, own)) for own in (one, two))
    curve = fourier_ring_correlation(first, second)
    for threshold in (0.5, 1 / 7, "half-bit", "one-bit"):
        assert resolution_px(curve, threshold) == pytest.approx(period, rel=0.1)


def test_blur_costs_no_ring_correlation_but_noise_does() -> None:
    image = noise(6)
    blurred = ndimage.gaussian_filter(image.real, 1) + 1j * ndimage.gaussian_filter(image.imag, 1)
    assert fourier_ring_correlation(image, blurred).correlation[3:12].min() > 0.95
    assert fourier_ring_correlation(image, image + noise(7)).correlation.max() < 0.95


def curve_of(correlation: list[float]) -> RingCorrelation:
    return RingCorrelation(np.array([0.1, 0.2, 0.3, 0.4]), np.array(correlation), np.array([6, 12, 18, 24]))


def test_the_first_crossing_counts_and_is_interpolated() -> None:
    assert resolution_px(curve_of([0.9, 0.6, 0.4, 0.8]), 0.5) == pytest.approx(1 / 0.25)
    assert resolution_px(curve_of([0.1, 0.9, 0.9, 0.9]), 0.5) == pytest.approx(10)
    assert resolution_px(curve_of([0.9, 0.9, 0.9, 0.9]), 0.5) == 2.0


def test_the_bit_thresholds_follow_the_published_formulas() -> None:
    curve = curve_of([1, 1, 1, 1])
    root = 1 / np.sqrt(curve.num_pixels)
    half = (0.2071 + 1.9102 * root) / (1.2071 + 0.9102 * root)
    one = (0.5 + 2.4142 * root) / (1.5 + 1.4142 * root)
    np.testing.assert_allclose(threshold_curve(curve, "half-bit"), half, atol=1e-4)
    np.testing.assert_allclose(threshold_curve(curve, "one-bit"), one, atol=1e-4)


def test_images_of_two_shapes_have_no_ring_correlation() -> None:
    with pytest.raises(DataError, match="two images of one shape"):
        fourier_ring_correlation(noise(0), noise(0)[1:])


def test_an_unknown_threshold_is_refused() -> None:
    wrong: Any = "two-bit"
    with pytest.raises(DataError, match="no threshold 'two-bit'"):
        threshold_curve(curve_of([1, 1, 1, 1]), wrong)


def test_the_few_pixels_of_the_innermost_rings_are_not_judged() -> None:
    curve = fourier_ring_correlation(noise(1), noise(1))
    spoilt = dataclasses.replace(curve, correlation=np.where(curve.num_pixels < FEWEST_PIXELS, 0.1, 0.9))
    assert resolution_px(spoilt, 0.5) == 2.0
