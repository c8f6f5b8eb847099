"""Probes for simulated scans."""

from __future__ import annotations

import numpy as np

__all__ = ["annular_probe", "central_power_fraction"]


def annular_probe(
    N: int, *, pupil_radius_px: float, stop_fraction: float, defocus_waves: float
) -> np.ndarray:
    """Return the defocused focus of a lens with a round central stop.

    Parameters
    ----------
    N
        Side of the grid, pixels.
    pupil_radius_px
        Outer radius of the pupil on the detector, detector pixels.
    stop_fraction
        Radius of the central stop over the pupil's.
    defocus_waves
        Quadratic phase at the pupil's edge, wavelengths.

    Returns
    -------
    numpy.ndarray
        Probe of one mode, (1, N, N) complex64, of unit power ``sum |P|**2``.
    """
    index = np.arange(N, dtype=np.float64) - N // 2
    radius = np.hypot(index[:, None], index[None, :])
    outside = np.clip(radius - pupil_radius_px + 0.5, 0, 1)
    stopped = np.clip(stop_fraction * pupil_radius_px - radius + 0.5, 0, 1) if stop_fraction > 0 else 0.0
    transmission = (1 - outside) * (1 - stopped)
    phase = 2 * np.pi * defocus_waves * (radius / pupil_radius_px) ** 2
    pupil = transmission * np.exp(1j * phase)
    field = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(pupil), norm="ortho"))
    field /= np.sqrt(np.sum(np.abs(field) ** 2))
    return field[None].astype(np.complex64)


def central_power_fraction(probe: np.ndarray) -> float:
    """Return the fraction of the probe's power inside the central half of its grid, all modes together."""
    N = probe.shape[-1]
    quarter = N // 4
    power = (np.abs(probe) ** 2).sum(axis=tuple(range(probe.ndim - 2)))
    return float(power[quarter : N - quarter, quarter : N - quarter].sum() / power.sum())
