"""Probes for simulated scans."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from ptycho_torch.config import ModelConfig
from ptycho_torch.errors import DataError

__all__ = [
    "annular_probe",
    "blurred_probe",
    "central_power_fraction",
    "disk_probe",
    "gaussian_probe",
    "probe_support",
    "with_modes",
    "within_support",
]


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
    return _of_unit_power(field)[None].astype(np.complex64)


def blurred_probe(probe: np.ndarray, blur_px: float) -> np.ndarray:
    """Blur the modulus and the unwrapped phase of each mode, apart from each other.

    Parameters
    ----------
    probe
        Modes (M, N, N), complex.
    blur_px
        Standard deviation of the Gaussian, pixels; 0 leaves the probe as it is.

    Returns
    -------
    numpy.ndarray
        Probe (M, N, N) complex64, of unit power ``sum |P|**2`` over all modes.

    References
    ----------
    PtychoPINN, arXiv 2602.21361: what was done to the experimental probe of the simulated lines.
    """
    if blur_px == 0:
        return probe
    import skimage.restoration

    # Joins pixels of the rim at random: in scikit-image 0.26 alike each time, but not where an rng is given.
    unwrapped: Callable[..., np.ndarray] = skimage.restoration.unwrap_phase
    blurred = [
        ndimage.gaussian_filter(np.abs(mode), blur_px)
        * np.exp(1j * ndimage.gaussian_filter(unwrapped(np.angle(mode)), blur_px))
        for mode in probe.astype(np.complex128)
    ]
    return _of_unit_power(np.stack(blurred)).astype(np.complex64)


def disk_probe(N: int, *, radius_px: float, edge_px: float, curvature_waves: float) -> np.ndarray:
    """Return an evenly lit disk.

    Parameters
    ----------
    N
        Side of the grid, pixels.
    radius_px
        Radius of the disk, pixels.
    edge_px
        Standard deviation of the Gaussian blur of its edge, pixels.
    curvature_waves
        Quadratic phase at the disk's edge, wavelengths.

    Returns
    -------
    numpy.ndarray
        Probe of one mode, (1, N, N) complex64, of unit power ``sum |P|**2``.
    """
    radius = _radius_px(N)
    amplitude = ndimage.gaussian_filter(np.clip(radius_px - radius + 0.5, 0, 1), edge_px, mode="constant")
    return _curved(amplitude, radius / radius_px, curvature_waves)


def gaussian_probe(N: int, *, fwhm_px: float, curvature_waves: float) -> np.ndarray:
    """Return a Gaussian beam.

    Parameters
    ----------
    N
        Side of the grid, pixels.
    fwhm_px
        Full width of the intensity at half its maximum, pixels.
    curvature_waves
        Quadratic phase where the intensity is half its maximum, wavelengths.

    Returns
    -------
    numpy.ndarray
        Probe of one mode, (1, N, N) complex64, of unit power ``sum |P|**2``.
    """
    scaled = _radius_px(N) / (fwhm_px / 2)
    return _curved(np.exp(-0.5 * np.log(2) * scaled**2), scaled, curvature_waves)


def with_modes(probe: np.ndarray, n_modes: int, power_ratio: float) -> np.ndarray:
    """Add modes to a probe: its products with x, y, x**2, x y, ..., made orthogonal to all before them.

    Parameters
    ----------
    probe
        Probe of one mode, (1, N, N), complex.
    n_modes
        Number of modes to return.
    power_ratio
        Power of a mode over that of the mode before it.

    Returns
    -------
    numpy.ndarray
        Probe (M, N, N) complex64, of unit power over all modes; one mode is returned as it is.
    """
    if n_modes == 1:
        return probe
    N = probe.shape[-1]
    x = (np.arange(N) - N / 2) / N
    degrees = [(down, order - down) for order in range(n_modes) for down in range(order + 1)][:n_modes]
    modes = np.stack([probe[0] * x[:, None] ** down * x[None, :] ** right for down, right in degrees])
    flat = modes.reshape(n_modes, -1).astype(np.complex128)
    kept: list[np.ndarray] = []
    for mode in flat:
        rest = mode - sum((np.vdot(one, mode) * one for one in kept), np.zeros_like(mode))
        kept.append(rest / np.linalg.norm(rest))
    powers = power_ratio ** np.arange(n_modes)
    scaled = np.sqrt(powers / powers.sum())[:, None] * np.stack(kept)
    return np.asarray(scaled.reshape(n_modes, N, N).astype(np.complex64))


def probe_support(model: ModelConfig) -> np.ndarray | None:
    """Return where the probe may be other than zero, (N, N) bool; None: everywhere.

    It is the disk of ``probe_mask``, about the middle of the grid, (N - 1)/2, with a hard edge.
    """
    if not model.probe_mask:
        return None
    diameter_px = model.N / 2 if model.probe_mask_diameter_px is None else model.probe_mask_diameter_px
    return np.asarray(_radius_px(model.N) < diameter_px / 2)


def within_support(probe: np.ndarray, model: ModelConfig) -> np.ndarray:
    """Return a probe with zeros where it must be zero; the probe itself where there is no mask.

    Parameters
    ----------
    probe
        Probe modes (M, N, N), complex.
    model
        Says of the mask.

    Raises
    ------
    DataError
        When nothing is left of it.
    """
    support = probe_support(model)
    if support is None:
        return probe
    masked: np.ndarray = np.where(support, probe, 0).astype(probe.dtype)
    if not masked.any():
        raise DataError(
            f"the probe is dark in all {int(support.sum())} pixels that model.probe_mask leaves of it: "
            "enlarge model.probe_mask_diameter_px, or set model.probe_mask to false"
        )
    return masked


def _radius_px(N: int) -> np.ndarray:
    index = np.arange(N, dtype=np.float64) - (N - 1) / 2
    return np.asarray(np.hypot(index[:, None], index[None, :]))


def _curved(amplitude: np.ndarray, scaled_radius: np.ndarray, curvature_waves: float) -> np.ndarray:
    field = amplitude * np.exp(2j * np.pi * curvature_waves * scaled_radius**2)
    return _of_unit_power(field)[None].astype(np.complex64)


def _of_unit_power(field: np.ndarray) -> np.ndarray:
    return np.asarray(field / np.sqrt(np.sum(np.abs(field) ** 2)))


def central_power_fraction(probe: np.ndarray) -> float:
    """Return the fraction of the probe's power inside the central half of its grid, all modes together."""
    N = probe.shape[-1]
    quarter = N // 4
    power = (np.abs(probe) ** 2).sum(axis=tuple(range(probe.ndim - 2)))
    return float(power[quarter : N - quarter, quarter : N - quarter].sum() / power.sum())
