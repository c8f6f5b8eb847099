"""Simulated scans, made from nothing but their configuration."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ptycho_torch.errors import DataError
from ptycho_torch.exact.seeding import generator
from ptycho_torch.physics.probe import annular_probe
from ptycho_torch.physics.simulation import simulate_frames
from ptycho_torch.readers.scan import Scan
from ptycho_torch.simulate_config import ObjectConfig, ScanConfig, SimulateConfig

__all__ = ["dead_leaves", "scan_corners_px", "simulate_scan"]


def simulate_scan(config: SimulateConfig) -> Scan:
    """Simulate the scan that `config` describes; the same configuration gives the same scan.

    Returns
    -------
    Scan
        Square root of counts, with the object as reference. The probe is scaled so that
        ``|F(P O)|**2`` are counts.

    Raises
    ------
    DataError
        If the scan leaves the object.
    """
    probe = annular_probe(
        config.probe.N,
        pupil_radius_px=config.probe.pupil_radius_px,
        stop_fraction=config.probe.stop_fraction,
        defocus_waves=config.probe.defocus_waves,
    )
    obj = dead_leaves(config.object, generator(config.seed, "simulate", "object"))
    corners = scan_corners_px(
        config.scan, config.object.size_px, config.probe.N, generator(config.seed, "simulate", "positions")
    )
    counts, scale = simulate_frames(
        obj, probe, corners, config.nphotons, generator(config.seed, "simulate", "photons")
    )
    return Scan(
        diffraction=np.sqrt(counts).astype(np.float32),
        corners_px=corners,
        probe=(probe * np.sqrt(scale)).astype(np.complex64),
        units="count_amplitude",
        mask=None,
        object=obj,
        source="simulated scan",
    )


def dead_leaves(config: ObjectConfig, randomness: np.random.Generator) -> np.ndarray:
    """Draw an object of opaque discs that cover each other.

    Parameters
    ----------
    config
        Size, radii, blur and the ranges of amplitude and phase.
    randomness
        Source of the discs.

    Returns
    -------
    numpy.ndarray
        Object (H, W) complex64.

    References
    ----------
    Lee, Mumford, Huang, Int. J. Comput. Vis. 41, 35 (2001): radii distributed as ``r**-3``.
    """
    side = config.size_px
    largest = max(side / 4, config.min_radius_px)
    rows, columns = np.mgrid[:side, :side].astype(np.float64)
    amplitude, phase = np.zeros((side, side)), np.zeros((side, side))
    bare = np.ones((side, side), dtype=bool)
    while bare.any():
        inverse_square = randomness.uniform(largest**-2, config.min_radius_px**-2)
        radius = inverse_square**-0.5
        row, column = randomness.uniform(-largest, side + largest, size=2)
        drawn_amplitude = randomness.uniform(config.min_amplitude, config.max_amplitude)
        drawn_phase = randomness.uniform(0, config.max_phase_rad)
        seen = bare & ((rows - row) ** 2 + (columns - column) ** 2 <= radius**2)
        amplitude[seen], phase[seen] = drawn_amplitude, drawn_phase
        bare &= ~seen
    if config.blur_px > 0:
        amplitude = ndimage.gaussian_filter(amplitude, config.blur_px, mode="reflect")
        phase = ndimage.gaussian_filter(phase, config.blur_px, mode="reflect")
    return np.asarray(amplitude * np.exp(1j * phase), dtype=np.complex64)


def scan_corners_px(
    config: ScanConfig, object_side_px: int, N: int, randomness: np.random.Generator
) -> np.ndarray:
    """Return the corners (J, 2) of a jittered raster in the middle of the object, row by row.

    Raises
    ------
    DataError
        If the raster with its jitter and two pixels of margin is larger than the object.
    """
    span = np.array([config.rows - 1, config.columns - 1]) * config.step_px
    need = config.needed_object_px(N)
    if need > object_side_px:
        raise DataError(
            f"the scan needs an object of {need:g} px but object.size_px is {object_side_px}: enlarge the "
            "object or lower scan.rows, scan.columns or scan.step_px"
        )
    first = (object_side_px - N - span) / 2
    raster = np.stack(
        np.meshgrid(np.arange(config.rows), np.arange(config.columns), indexing="ij"), axis=-1
    ).reshape(-1, 2)
    jitter = randomness.uniform(-config.jitter_px, config.jitter_px, size=raster.shape)
    return np.asarray(first + raster * config.step_px + jitter)
