"""Figures as PtychoPINN's publications compute them, so that theirs can be compared with ours.

They flatter and they mix: a peak of 255 for images whose values are near one, no window before the ring
correlation, rings beyond Nyquist, a multi-scale similarity of its own. Beside the figures of
:mod:`ptycho_torch.metrics` they serve one purpose only: to stand next to a published number.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ptycho_torch.alignment import Aligned
from ptycho_torch.errors import DataError
from ptycho_torch.metrics import DECIMALS, SSIM_WINDOW_PX, FloatArray, structural_similarity, without_plane

__all__ = ["PEAK", "first_ring_below_half", "published_figures", "upstream_figures"]

PEAK = 255.0
"""The largest value that the published PSNR assumes; 48.13 dB more than a peak of one gives."""

_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_LEAST_SIMILARITY = 1e-4
_ROUNDING = 1e-24
"""A ring with less than this share of the largest ring's power holds rounding errors only."""


def upstream_figures(obj: NDArray[Any], truth: NDArray[Any]) -> dict[str, float]:
    """Compare a reconstruction with its truth as the publications do; nothing is registered here.

    Amplitudes are brought to the truth's mean; from each phase its own best plane is removed, without
    unwrapping. A truth without contrast in phase has no ring correlation of phases.

    Parameters
    ----------
    obj, truth
        Complex images of one shape (H, W) on the same pixels.

    Returns
    -------
    dict[str, float]
        ``upstream_amplitude_...`` and ``upstream_phase_...`` with ``mae``, ``mse``, ``psnr_db`` (peak 255),
        ``ssim``, ``ms_ssim`` (where the image is large enough for five scales) and, of the amplitude,
        ``frc50`` (first integer ring below 0.5, counted out to the corner).

    Raises
    ------
    DataError
        When the shapes differ or the reconstruction is dark.

    References
    ----------
    PtychoPINN, arXiv 2602.21361, Table 2.
    """
    obj, truth = np.asarray(obj), np.asarray(truth)
    if obj.shape != truth.shape or obj.ndim != 2:
        raise DataError(f"object {obj.shape} and truth {truth.shape} must be images of one shape")
    amplitude, true_amplitude = np.abs(obj).astype(np.float64), np.abs(truth).astype(np.float64)
    if amplitude.mean() <= 0:
        raise DataError("the reconstruction is zero everywhere, so its amplitude cannot be scaled")
    amplitude *= true_amplitude.mean() / amplitude.mean()
    phase, true_phase = (without_plane(np.angle(image).astype(np.float64)) for image in (obj, truth))
    data_range = float(np.ptp(true_amplitude))
    blurred, true_blurred = (ndimage.gaussian_filter(image, 1.0) for image in (amplitude, true_amplitude))
    figures = {
        **_named("amplitude", amplitude, true_amplitude),
        "amplitude_ssim": structural_similarity(amplitude, true_amplitude, data_range),
        "amplitude_ms_ssim": _multi_scale_similarity(blurred, true_blurred),
        "amplitude_frc50": float(first_ring_below_half(amplitude, true_amplitude)),
        **_named("phase", phase, true_phase),
        "phase_ssim": structural_similarity(_turns(phase), _turns(true_phase), 1.0),
        "phase_ms_ssim": _multi_scale_similarity(phase, true_phase),
    }
    return {
        f"upstream_{name}": round(value, DECIMALS) for name, value in figures.items() if math.isfinite(value)
    }


def published_figures(aligned: Aligned) -> dict[str, float]:
    """Return :func:`upstream_figures` of an image as it is registered with its truth, and as it was stitched.

    Published figures were computed either way. Of the image as it was stitched, on the same pixels, the names
    are ``upstream_unregistered_...``.
    """
    registered = upstream_figures(aligned.object, aligned.truth)
    stitched = upstream_figures(aligned.stitched, aligned.truth)
    return registered | {
        name.replace("upstream_", "upstream_unregistered_", 1): value for name, value in stitched.items()
    }


def _turns(phase: FloatArray) -> FloatArray:
    """Map -pi to pi to 0 to 1."""
    return (phase + np.pi) / (2 * np.pi)


def _named(name: str, image: FloatArray, truth: FloatArray) -> dict[str, float]:
    error = image - truth
    mse = float((error**2).mean())
    return {
        f"{name}_mae": float(np.abs(error).mean()),
        f"{name}_mse": mse,
        f"{name}_psnr_db": 10 * math.log10(PEAK**2 / mse) if mse > 0 else math.inf,
    }


def first_ring_below_half(first: FloatArray, second: FloatArray) -> int:
    """Return the first ring, of one Fourier pixel's width, whose correlation is below 0.5; else their number.

    Parameters
    ----------
    first, second
        Real images of one shape; neither mean nor border is treated.
    """
    one, two = np.fft.fft2(first), np.fft.fft2(second)
    frequencies = (np.fft.fftfreq(side, 1 / side) for side in first.shape)
    ring = np.rint(np.hypot(*np.meshgrid(*frequencies, indexing="ij"))).astype(np.int64).ravel()
    cross = one * two.conj()

    def per_ring(values: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(ring, weights=values.ravel()), dtype=np.float64)

    powers = [per_ring(np.abs(image) ** 2) for image in (one, two)]
    is_empty = np.any([power <= _ROUNDING * power.max() for power in powers], axis=0)
    root = np.sqrt(np.where(is_empty, 1.0, powers[0] * powers[1]))
    correlation = np.where(is_empty, 0.0, np.hypot(per_ring(cross.real), per_ring(cross.imag)) / root)
    below = np.flatnonzero(correlation < 0.5)
    return int(below[0]) if len(below) else len(correlation)


def _multi_scale_similarity(image: FloatArray, truth: FloatArray) -> float:
    smallest = min(image.shape) // 2 ** (len(_SCALE_WEIGHTS) - 1)
    data_range = float(max(np.ptp(image), np.ptp(truth)))
    if smallest < SSIM_WINDOW_PX or data_range == 0:
        return math.nan
    product = 1.0
    for weight in _SCALE_WEIGHTS:
        product *= max(structural_similarity(image, truth, data_range), _LEAST_SIMILARITY) ** weight
        image, truth = image[::2, ::2], truth[::2, ::2]
    return product
