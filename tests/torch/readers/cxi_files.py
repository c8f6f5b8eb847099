"""Small CXI files for tests, as the standard says and as h5py writes them."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any

import h5py
import numpy as np

DETECTOR, SOURCE = "entry_1/instrument_1/detector_1", "entry_1/instrument_1/source_1"
TRANSLATION = "entry_1/sample_1/geometry_1/translation"
WAVELENGTH_M, DISTANCE_M, DETECTOR_PIXEL_M = 1e-10, 2.0, 75e-6


def pixel_m(side: int) -> float:
    """Return the side of an object pixel of these files, metres."""
    return WAVELENGTH_M * DISTANCE_M / (side * DETECTOR_PIXEL_M)


def cxi_members(n_frames: int = 12, side: int = 64) -> dict[str, Any]:
    """Return the datasets of a sound file: rows go down by 2 px a frame, columns right by 3."""
    steps = np.arange(n_frames)[:, None] * pixel_m(side)
    # The sample moves against the light: up (+y) for lower rows, to the left (+x) for columns to the right.
    translation = np.hstack([3 * steps, 2 * steps, 0 * steps])
    counts = np.random.default_rng(5).poisson(2.0, (n_frames, side, side)).astype(np.int32)
    return {
        f"{DETECTOR}/data": counts,
        f"{DETECTOR}/distance": DISTANCE_M,
        f"{DETECTOR}/x_pixel_size": DETECTOR_PIXEL_M,
        f"{DETECTOR}/y_pixel_size": DETECTOR_PIXEL_M,
        f"{SOURCE}/wavelength": WAVELENGTH_M,
        f"{SOURCE}/illumination": np.ones((side, side), np.complex64),
        TRANSLATION: translation,
    }


def save_cxi(path: Path, **changes: Any) -> Path:
    """Write a sound CXI file in which datasets, by their last names, are replaced or (None) left out."""
    members = cxi_members()
    names = {name.rpartition("/")[2]: name for name in members}
    members |= {
        names.get(name) or posixpath.normpath(f"{DETECTOR}/{name}"): value for name, value in changes.items()
    }
    with h5py.File(path, "w") as file:
        file["cxi_version"] = 150
        for name, value in members.items():
            if value is not None:
                file[name] = value
        file["entry_1/data_1/data"] = h5py.SoftLink(f"/{DETECTOR}/data")
        file["entry_1/data_1/translation"] = h5py.SoftLink(f"/{TRANSLATION}")
    return path
