"""Simulated scans, made from nothing but their configuration."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ptycho_torch.data.objects import draw_object
from ptycho_torch.errors import DataError
from ptycho_torch.exact.seeding import generator
from ptycho_torch.physics.probe import annular_probe, blurred_probe, disk_probe, gaussian_probe, with_modes
from ptycho_torch.physics.simulation import simulate_frames
from ptycho_torch.readers.frames import Hold, held
from ptycho_torch.readers.scan import Scan
from ptycho_torch.readers.stored_probe import stored_probe
from ptycho_torch.simulate_config import (
    LARGEST_POSITION_ERROR,
    AnnularProbe,
    DetectorConfig,
    DiskProbe,
    FermatScan,
    FileProbe,
    GaussianProbe,
    ProbeConfig,
    RasterScan,
    ScanConfig,
    SimulateConfig,
)

__all__ = ["illumination", "scan_corners_px", "simulate_scan"]

_GOLDEN_ANGLE_RAD = math.pi * (3 - math.sqrt(5))


def simulate_scan(config: SimulateConfig, *, hold: Hold = held, probe_file: Path | None = None) -> Scan:
    """Simulate the scan that `config` describes; the same configuration gives the same scan.

    Parameters
    ----------
    config
        The description.
    hold
        Where the frames are kept.
    probe_file
        The file of a probe that stands in one.

    Returns
    -------
    Scan
        Square root of counts, with the object as reference. The probe is scaled so that
        ``|F(P O)|**2`` are counts.

    Raises
    ------
    DataError
        If the scan leaves the object, or the file holds no such probe.
    """
    if config.needed_object_px > config.object.size_px:
        error_px = config.scan.position_error_px
        cure = f" or its position_error_px of {error_px:g}" if error_px else ""
        raise DataError(
            f"the scan needs an object of {config.needed_object_px:g} px but object.size_px is "
            f"{config.object.size_px}: enlarge the object, or make the scan{cure} smaller"
        )
    probe = illumination(config.probe, probe_file)
    obj = draw_object(config.object, config.seed)
    corners = _corners_px(config, generator(config.seed, "simulate", "positions"))
    counts, scale = simulate_frames(
        obj, probe, corners, config.nphotons, generator(config.seed, "simulate", "photons")
    )
    mask = _living_pixels(config.detector, config.probe.N, generator(config.seed, "simulate", "detector"))
    amplitudes = (np.sqrt(_detected(config.detector, one, mask))[None].astype(np.float32) for one in counts)
    errors = generator(config.seed, "simulate", "position errors").normal(size=corners.shape)
    errors = errors.clip(-LARGEST_POSITION_ERROR, LARGEST_POSITION_ERROR)
    return Scan(
        diffraction=hold(amplitudes, (len(corners), config.probe.N, config.probe.N)),
        corners_px=corners + config.scan.position_error_px * errors,
        probe=(probe * np.sqrt(scale)).astype(np.complex64),
        units="count_amplitude",
        mask=mask,
        object=obj,
        source="simulated scan",
    )


def _corners_px(config: SimulateConfig, randomness: np.random.Generator) -> np.ndarray:
    """Scan one object after the other, each alike but for the jitter, which is drawn for every frame."""
    size = config.object.size_px
    middle = (size - config.probe.N) / 2
    of_each = [
        scan_corners_px(config.scan, middle, randomness) + np.array([0, index * size])
        for index in range(config.object.n_objects)
    ]
    return np.concatenate(of_each)


def illumination(config: ProbeConfig, file: Path | None = None) -> np.ndarray:
    """Make the probe that a configuration describes.

    Parameters
    ----------
    config
        Kind, side, modes and the kind's own options.
    file
        The file of a probe that stands in one.

    Returns
    -------
    numpy.ndarray
        Probe (M, N, N) complex64, of unit power ``sum |P|**2`` over all modes.
    """
    if isinstance(config, FileProbe):
        if file is None:
            raise ValueError(f"the probe stands in {config.file}, but no file is given")
        stored = blurred_probe(stored_probe(file, config.N, config.n_modes), config.blur_px)
        return with_modes(stored, config.n_modes, config.mode_power_ratio)
    return with_modes(_PROBES[type(config)](config), config.n_modes, config.mode_power_ratio)


def _annular(config: AnnularProbe) -> np.ndarray:
    return annular_probe(
        config.N,
        pupil_radius_px=config.pupil_radius_px,
        stop_fraction=config.stop_fraction,
        defocus_waves=config.defocus_waves,
    )


def _disk(config: DiskProbe) -> np.ndarray:
    return disk_probe(
        config.N, radius_px=config.radius_px, edge_px=config.edge_px, curvature_waves=config.curvature_waves
    )


def _gaussian(config: GaussianProbe) -> np.ndarray:
    return gaussian_probe(config.N, fwhm_px=config.fwhm_px, curvature_waves=config.curvature_waves)


def scan_corners_px(config: ScanConfig, middle_px: float, randomness: np.random.Generator) -> np.ndarray:
    """Return the true corners (J, 2) of a scan: row by row, or from the centre outwards.

    Parameters
    ----------
    config
        Kind, step and the kind's own options.
    middle_px
        Corner in the middle of the scan, either axis, pixels.
    randomness
        Source of the jitter.
    """
    return _POSITIONS[type(config)](config, middle_px, randomness)


def _raster(config: RasterScan, middle_px: float, randomness: np.random.Generator) -> np.ndarray:
    span = np.array([config.rows - 1, config.columns - 1]) * config.step_px + config.square_px
    raster = _row_by_row(config.rows, config.columns) * config.step_px
    if config.square_px:
        raster = (raster[:, None] + _row_by_row(2, 2) * config.square_px).reshape(-1, 2)
    jitter = randomness.uniform(-config.jitter_px, config.jitter_px, size=raster.shape)
    return np.asarray(middle_px - span / 2 + raster + jitter)


def _row_by_row(rows: int, columns: int) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), axis=-1).reshape(-1, 2)


def _fermat(config: FermatScan, middle_px: float, randomness: np.random.Generator) -> np.ndarray:
    number = np.arange(config.n_positions)
    radius = config.step_px * np.sqrt(number / math.pi)
    angle = number * _GOLDEN_ANGLE_RAD
    return middle_px + np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=-1)


def _living_pixels(config: DetectorConfig, N: int, randomness: np.random.Generator) -> np.ndarray | None:
    if config.dead_pixel_fraction == 0:
        return None
    return randomness.uniform(size=(N, N)) >= config.dead_pixel_fraction


def _detected(config: DetectorConfig, counts: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Have full pixels of a frame count no more, and dead ones nothing."""
    seen = counts if config.saturation_counts is None else np.minimum(counts, config.saturation_counts)
    return seen if mask is None else np.where(mask, seen, 0)


_PROBES: Mapping[type[Any], Callable[[Any], np.ndarray]] = {
    AnnularProbe: _annular,
    DiskProbe: _disk,
    GaussianProbe: _gaussian,
}
_POSITIONS: Mapping[type[Any], Callable[[Any, float, np.random.Generator], np.ndarray]] = {
    RasterScan: _raster,
    FermatScan: _fermat,
}
