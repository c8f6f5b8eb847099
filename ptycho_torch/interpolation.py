"""Sub-pixel translation of complex images in plain real arithmetic.

Every operation on pixels is a single real multiplication or addition, each correctly rounded, so the
same input gives the same bits on every CPU; a matrix product or a complex multiplication would not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

TAPS = 8
"""Number of samples that the Lanczos-4 kernel reads along one axis."""

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
FloatArray = NDArray[np.floating[Any]]


def lanczos4_weights(fraction: NDArray[np.float64]) -> Float32:
    """Weigh the samples at -3 ... 4 for the value at `fraction` in [0, 1].

    Parameters
    ----------
    fraction
        Position between sample 0 and sample 1, pixels, shape (B,).

    Returns
    -------
    Float32
        Shape (B, 8); each row sums to one, so a constant image stays as it is.

    References
    ----------
    Duchon, J. Appl. Meteorol. 18, 1016 (1979): sinc(x) sinc(x/4) for abs(x) < 4.
    """
    distance = fraction[:, None] - np.arange(-3, 5, dtype=np.float64)
    weights = np.where(np.abs(distance) < 4, np.sinc(distance) * np.sinc(distance / 4), 0.0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def delay(images: Complex64, fractions_px: NDArray[np.float64]) -> Complex64:
    """Move each image by a fraction of a pixel towards larger indices.

    Parameters
    ----------
    images
        Shape (B, H, W).
    fractions_px
        Shift of each image as (row, column), in [0, 1) pixel, shape (B, 2).

    Returns
    -------
    Complex64
        Shape (B, H, W): element m holds the image at m - fraction. Beyond its edge an image goes on with
        its outermost pixel.
    """
    moved: Float32 = np.ascontiguousarray(images, dtype=np.complex64)[..., None].view(np.float32)
    for axis in (1, 2):
        weights = lanczos4_weights(1.0 - fractions_px[:, axis - 1])
        side = moved.shape[axis]
        widths = [(0, 0)] * 4
        widths[axis] = (4, 3)
        padded = np.pad(moved, widths, mode="edge")
        window = [slice(None)] * 4
        window[axis] = slice(0, side)
        moved = padded[tuple(window)] * weights[:, 0, None, None, None]
        for tap in range(1, TAPS):
            window[axis] = slice(tap, tap + side)
            moved += padded[tuple(window)] * weights[:, tap, None, None, None]
    return np.ascontiguousarray(moved).view(np.complex64)[..., 0]


def rotate(images: Complex64, phasors: NDArray[np.complex128]) -> Complex64:
    """Multiply each image (B, ...) by its own unit phasor (B,)."""
    shape = (-1,) + (1,) * (images.ndim - 1)
    cosine = phasors.real.astype(np.float32).reshape(shape)
    sine = phasors.imag.astype(np.float32).reshape(shape)
    turned = np.empty(images.shape, dtype=np.complex64)
    turned.real = images.real * cosine - images.imag * sine
    turned.imag = images.real * sine + images.imag * cosine
    return turned


def unit_phasors(values: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Divide complex numbers by their modulus; zero, which has no phase, becomes one."""
    modulus = np.sqrt(values.real * values.real + values.imag * values.imag)
    is_zero = modulus == 0
    safe = np.where(is_zero, 1.0, modulus)
    phasors = np.empty(values.shape, dtype=np.complex128)
    phasors.real = np.where(is_zero, 1.0, values.real / safe)
    phasors.imag = np.where(is_zero, 0.0, values.imag / safe)
    return phasors
