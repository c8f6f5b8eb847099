"""Small scan files for tests, with one thing changed at a time."""

from __future__ import annotations

import bz2
import io
from pathlib import Path
from typing import Any

import numpy as np


def project_arrays(n_frames: int = 12, side: int = 64) -> dict[str, Any]:
    """Return the arrays of the project's NPZ; the frames are roots of counts."""
    rng = np.random.default_rng(3)
    counts = rng.poisson(2.0, size=(n_frames, side, side))
    return {
        "diffraction": np.sqrt(counts).astype(np.float32),
        "xcoords": np.linspace(40.0, 90.0, n_frames),
        "ycoords": np.linspace(50.0, 70.0, n_frames),
        "probeGuess": np.ones((side, side), dtype=np.complex64),
    }


def tike_arrays(n_frames: int = 5, side: int = 64, modes: int = 1) -> dict[str, Any]:
    """Return the arrays of a tike file."""
    return {
        "data": np.random.default_rng(4).poisson(3.0, size=(1, n_frames, side, side)).astype(np.float32),
        "scan": np.stack([np.arange(n_frames), -np.arange(n_frames)], axis=-1).astype(np.float32)[None],
        "probe": np.ones((1, 1, 1, modes, side, side), dtype=np.complex64),
    }


def save(path: Path, arrays: dict[str, Any]) -> Path:
    """Write arrays that are not None as NPZ, compressed by bz2 when the name says so."""
    content = io.BytesIO()
    np.savez(content, **{name: array for name, array in arrays.items() if array is not None})
    packed = content.getvalue()
    path.write_bytes(bz2.compress(packed) if path.suffix == ".bz2" else packed)
    return path


def save_project_scan(path: Path, **changes: Any) -> Path:
    """Write a sound scan in which some arrays are replaced, added, or (None) left out."""
    return save(path, project_arrays() | changes)
