"""Simulated frames: the forward model run on a known object, with photon noise."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ptycho_torch.errors import DataError

__all__ = ["object_patches", "simulate_frames"]


def object_patches(obj: np.ndarray, corners_px: np.ndarray, N: int) -> Iterator[np.ndarray]:
    """Yield the object's patch at each sub-pixel corner, by cubic convolution.

    Parameters
    ----------
    obj
        Object (H, W), complex.
    corners_px
        Position (row, column) of each patch's pixel [0, 0] on the object grid, (J, 2), pixels.
    N
        Side of a patch, pixels.

    Raises
    ------
    DataError
        If a patch, with the two pixels that interpolation needs around it, leaves the object.
    """
    whole = np.floor(corners_px).astype(np.int64)
    last = whole + N + 2
    if (whole < 1).any() or (last > np.asarray(obj.shape)).any():
        raise DataError(
            f"patches of {N} px at corners {corners_px.min(axis=0).round(1).tolist()} to "
            f"{corners_px.max(axis=0).round(1).tolist()} leave the object of {obj.shape} px (2 px of margin "
            "are needed for interpolation): enlarge the object or shrink the scan"
        )
    for (row, column), corner in zip(whole, corners_px, strict=True):
        window = obj[row - 1 : row + N + 2, column - 1 : column + N + 2]
        down, right = _keys_taps(corner[0] - row), _keys_taps(corner[1] - column)
        rows = sum(down[k] * window[k : k + N] for k in range(4))
        yield sum(right[k] * rows[:, k : k + N] for k in range(4))


def simulate_frames(
    obj: np.ndarray,
    probe: np.ndarray,
    corners_px: np.ndarray,
    nphotons: float,
    generator: np.random.Generator,
) -> tuple[Iterator[np.ndarray], float]:
    """Simulate a scan: ``|F(P O)|**2`` scaled to a mean number of photons per frame, Poisson-sampled.

    Nothing grows with the number of frames but the positions: the intensities are computed twice, once for
    the scale and once for the counts.

    Parameters
    ----------
    obj
        Object (H, W), complex.
    probe
        Probe modes (M, N, N), complex; modes add in intensity.
    corners_px
        Position (row, column) of each patch's pixel [0, 0] on the object grid, (J, 2), pixels.
    nphotons
        Mean number of photons per frame, over the whole scan.
    generator
        Source of the photon noise.

    Returns
    -------
    counts : iterator of numpy.ndarray
        Photon counts of one frame after the other, (N, N) float64, zero frequency at ``[N/2, N/2]``.
    scale : float
        Counts per unit of ``sum_m |F(P_m O)|**2``.
    """
    powers = np.array([intensity.sum() for intensity in _intensities(obj, probe, corners_px)])
    scale = nphotons / powers.mean()
    intensities = _intensities(obj, probe, corners_px)
    return (generator.poisson(scale * one).astype(np.float64) for one in intensities), float(scale)


def _intensities(obj: np.ndarray, probe: np.ndarray, corners_px: np.ndarray) -> Iterator[np.ndarray]:
    exact = probe.astype(np.complex128)
    for patch in object_patches(np.asarray(obj, np.complex128), corners_px, probe.shape[-1]):
        field = np.fft.fft2(exact * patch, norm="ortho")
        yield np.fft.fftshift((field.real**2 + field.imag**2).sum(axis=0))


def _keys_taps(fraction: float) -> np.ndarray:
    x = np.abs(np.array([-1.0, 0.0, 1.0, 2.0]) - fraction)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
