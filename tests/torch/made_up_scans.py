"""Small scans that a test can bend."""

from __future__ import annotations

from typing import Any

import numpy as np

from ptycho_torch.readers.scan import Scan


def make_scan(rows: int = 6, columns: int = 6, side: int = 8, step_px: float = 2.0, **fields: Any) -> Scan:
    """Make a legal scan of random counts on a raster; keywords replace its fields."""
    rng = np.random.Generator(np.random.PCG64(7))
    n_frames = rows * columns
    counts = rng.poisson(6.0, (n_frames, side, side))
    row, column = np.divmod(np.arange(n_frames), columns)
    corners_px = np.stack([row, column], axis=1) * step_px + rng.uniform(0, 0.5, (n_frames, 2))
    extent = int(step_px * max(rows, columns)) + side + 1
    probe = rng.normal(size=(1, side, side)) + 1j * rng.normal(size=(1, side, side))
    legal: dict[str, Any] = {
        "diffraction": np.sqrt(counts).astype(np.float32),
        "corners_px": corners_px,
        "probe": probe.astype(np.complex64),
        "units": "count_amplitude",
        "mask": None,
        "object": np.ones((extent, extent), dtype=np.complex64),
        "source": "made up",
    }
    return Scan(**legal | fields)
