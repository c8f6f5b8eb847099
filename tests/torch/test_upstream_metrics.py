"""Reference values: scores of the published metric on the first test object of the SIM-LINES table."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from ptycho_torch.alignment import align_with_truth
from ptycho_torch.data.objects import lines
from ptycho_torch.errors import DataError
from ptycho_torch.simulate_config import Lines
from ptycho_torch.upstream_metrics import first_ring_below_half, published_figures, upstream_figures

Image = NDArray[np.float64]
WINDOW = slice(29, 355)


@functools.cache
def published_object(number: int = 0) -> Image:
    return lines(Lines(size_px=392, number=number), seed=2).real.astype(np.float64)


def blur(sigma_px: float) -> Callable[[], Image]:
    return lambda: ndimage.gaussian_filter(published_object(), sigma_px)


def shift(rows: int) -> Callable[[], Image]:
    return lambda: np.roll(published_object(), rows, axis=0)


SCORES: dict[str, tuple[Callable[[], Image], float, float, int]] = {
    "constant": (lambda: np.ones((392, 392)), 0.277, 51.99, 1),
    "wrong object": (lambda: published_object(1), 0.163, 49.6, 2),
    "blur 1": (blur(1), 0.949, 72.0, 232),
    "blur 1.5": (blur(1.5), 0.868, 68.1, 78),
    "blur 2": (blur(2), 0.785, 66.0, 60),
    "blur 3": (blur(3), 0.662, 63.6, 39),
    "blur 4": (blur(4), 0.584, 62.2, 29),
    "shift 1": (shift(1), 0.864, 66.2, 81),
    "shift 2": (shift(2), 0.600, 61.1, 41),
}


@pytest.mark.parametrize("name", SCORES)
def test_the_figures_are_the_published_metrics(name: str) -> None:
    image, ssim, psnr, ring = SCORES[name]
    figures = upstream_figures(
        image()[WINDOW, WINDOW].astype(complex), published_object()[WINDOW, WINDOW].astype(complex)
    )
    assert figures["upstream_amplitude_ssim"] == pytest.approx(ssim, abs=6e-4)
    assert figures["upstream_amplitude_psnr_db"] == pytest.approx(psnr, abs=0.06)
    assert figures["upstream_amplitude_frc50"] == ring


def test_scale_and_a_phase_ramp_make_no_difference() -> None:
    truth = published_object()[WINDOW, WINDOW] * np.exp(
        1j * 0.1 * ndimage.gaussian_filter(published_object(), 3)[WINDOW, WINDOW]
    )
    rows, columns = np.mgrid[: truth.shape[0], : truth.shape[1]]
    turned = 7.0 * truth * np.exp(1j * (0.002 * rows - 0.001 * columns + 0.3))
    figures = upstream_figures(turned, truth)
    assert figures["upstream_amplitude_mae"] == pytest.approx(0, abs=1e-9)
    assert figures["upstream_phase_mae"] == pytest.approx(0, abs=1e-9)
    assert figures["upstream_phase_ssim"] == pytest.approx(1)
    assert figures["upstream_phase_ms_ssim"] == pytest.approx(1)


def test_both_ways_of_publishing_are_told_apart() -> None:
    truth = published_object().astype(complex)
    moved = np.roll(truth, 2, axis=0)
    aligned = align_with_truth(moved, np.ones(truth.shape), np.zeros(2, dtype=np.int64), truth)
    figures = published_figures(aligned)
    assert figures["upstream_amplitude_ssim"] > 0.99
    rows, columns = (slice(start, start + 384) for start in aligned.origin_px)
    assert aligned.truth.shape == (384, 384)
    plain = upstream_figures(moved[rows, columns], truth[rows, columns])
    assert plain["upstream_amplitude_ssim"] == pytest.approx(0.600, abs=0.02)
    assert {name: figures[name.replace("upstream", "upstream_unregistered")] for name in plain} == plain


def test_a_tenth_of_a_radian_of_phase_noise_in_tiles_spoils_the_phase() -> None:
    truth = published_object()[:330, :330].astype(complex)
    tiles = np.random.default_rng(0).normal(scale=0.1, size=(33, 33))
    figures = upstream_figures(truth * np.exp(1j * np.kron(tiles, np.ones((10, 10)))), truth)
    assert figures["upstream_phase_ssim"] == pytest.approx(0.910, abs=0.02)
    assert figures["upstream_phase_ms_ssim"] == pytest.approx(0.06, abs=0.06)


def test_an_image_too_small_for_five_scales_has_no_multi_scale_figure() -> None:
    rows, columns = np.mgrid[:48, :48]
    figures = upstream_figures(1.0 + 0.1 * np.sin(rows / 3) + 0j, 1.0 + 0.1 * np.sin(columns / 3) + 0j)
    assert "upstream_amplitude_ssim" in figures
    assert not any(name.endswith("ms_ssim") for name in figures)


def test_a_dark_reconstruction_and_images_of_two_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="zero everywhere"):
        upstream_figures(np.zeros((64, 64)), np.ones((64, 64)))
    with pytest.raises(DataError, match="one shape"):
        upstream_figures(np.ones((64, 64)), np.ones((64, 65)))


def test_rings_are_counted_out_to_the_corner() -> None:
    image = np.random.default_rng(0).normal(size=(326, 326))
    assert first_ring_below_half(image, image) == 232
