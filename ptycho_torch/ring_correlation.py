"""Up to which detail two images agree: Fourier ring correlation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.errors import DataError

FloatArray = NDArray[np.float64]
Threshold = Literal["half-bit", "one-bit"] | float

NYQUIST_PX = 2.0
FEWEST_PIXELS = 30
"""Fourier pixels that a ring needs before its correlation is judged."""
SMALLEST_SIDE_PX = 16


@dataclass(frozen=True, eq=False)
class RingCorrelation:
    """Fourier ring correlation of two images.

    Parameters
    ----------
    frequency
        Mean spatial frequency of each ring, cycles per pixel, up to Nyquist (0.5).
    correlation
        Real part of the normalised correlation on each ring, -1 to 1.
    num_pixels
        Fourier pixels on each ring.
    """

    frequency: FloatArray
    correlation: FloatArray
    num_pixels: NDArray[np.int64]


def fourier_ring_correlation(first: NDArray[Any], second: NDArray[Any]) -> RingCorrelation:
    """Correlate two images ring by ring in Fourier space.

    Means are removed and a Hann window applied, so that neither the borders nor the mean correlate.

    Parameters
    ----------
    first, second
        Real or complex images of one shape, already aligned.

    Raises
    ------
    DataError
        When the shapes differ or a side is below 16 px.

    References
    ----------
    van Heel & Schatz, J. Struct. Biol. 151, 250 (2005), eq. 1.
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape or first.ndim != 2 or min(first.shape) < SMALLEST_SIDE_PX:
        raise DataError(
            f"images of shape {first.shape} and {second.shape} have no ring correlation: "
            f"give two images of one shape, at least {SMALLEST_SIDE_PX} x {SMALLEST_SIDE_PX}"
        )
    taper = np.outer(np.hanning(first.shape[0] + 2)[1:-1], np.hanning(first.shape[1] + 2)[1:-1])
    one, two = (
        np.fft.fft2((image - (image * taper).sum() / taper.sum()) * taper) for image in (first, second)
    )
    radius = np.hypot(*np.meshgrid(*(np.fft.fftfreq(side) for side in first.shape), indexing="ij"))
    num_rings = min(first.shape) // 2
    ring = np.rint(radius * 2 * num_rings).astype(np.int64).ravel()

    def per_ring(values: NDArray[Any]) -> FloatArray:
        sums = np.bincount(ring, weights=values.ravel(), minlength=num_rings + 1)
        return sums[1 : num_rings + 1].astype(np.float64)

    num_pixels = np.bincount(ring, minlength=num_rings + 1)[1 : num_rings + 1]
    cross = per_ring((one * two.conj()).real)
    power = per_ring(np.abs(one) ** 2) * per_ring(np.abs(two) ** 2)
    is_empty = power <= 0
    correlation = np.where(is_empty, 0.0, cross / np.sqrt(np.where(is_empty, 1.0, power)))
    return RingCorrelation(per_ring(radius) / num_pixels, correlation, num_pixels)


def resolution_px(curve: RingCorrelation, threshold: Threshold) -> float:
    """Read the resolution off a ring correlation: the first crossing below a threshold.

    Parameters
    ----------
    curve
        The ring correlation.
    threshold
        A constant (0.5 or 1/7 against a truth), or ``half-bit`` or ``one-bit`` between two
        reconstructions from half the data each.

    Returns
    -------
    float
        Full period in pixels, 2 (Nyquist) when the curve stays above; when it starts below, the period
        of the first ring that is judged. Rings of fewer than :data:`FEWEST_PIXELS` are not: a correlation
        of so few values says little, and the ramp fitted before and the window shape them.

    References
    ----------
    van Heel & Schatz, J. Struct. Biol. 151, 250 (2005), eqs. 13 and 14.
    """
    above = curve.correlation - threshold_curve(curve, threshold)
    judged = int(np.argmax(curve.num_pixels >= FEWEST_PIXELS))
    below = np.flatnonzero(above[judged:] < 0) + judged
    if not len(below):
        return NYQUIST_PX
    first = int(below[0])
    if first == judged:
        return float(1 / curve.frequency[judged])
    fraction = above[first - 1] / (above[first - 1] - above[first])
    step = curve.frequency[first] - curve.frequency[first - 1]
    return max(float(1 / (curve.frequency[first - 1] + fraction * step)), NYQUIST_PX)


def threshold_curve(curve: RingCorrelation, threshold: Threshold) -> FloatArray:
    """Evaluate a threshold on each ring of `curve`; see :func:`resolution_px`."""
    if isinstance(threshold, (int, float)):
        return np.full(curve.frequency.shape, float(threshold))
    signal = {"half-bit": (math.sqrt(2) - 1) / 2, "one-bit": 0.5}.get(threshold)
    if signal is None:
        raise DataError(f"there is no threshold {threshold!r}: give a number, 'half-bit' or 'one-bit'")
    root = 2 * math.sqrt(signal) / np.sqrt(curve.num_pixels)
    noise = 1 / np.sqrt(curve.num_pixels)
    return np.asarray((signal + root + noise) / (signal + root + 1))
