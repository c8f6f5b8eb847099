"""A known object, and the true patches of a scan over it, exact at every sub-pixel position."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SIDE = 96
PATCH = 32
MARGIN = 2.0


@dataclass(frozen=True, eq=False)
class KnownScan:
    """What a perfect network would hand to the stitcher."""

    object: NDArray[np.complex128]
    patches: NDArray[np.complex64]
    corners_px: NDArray[np.float64]
    probe_intensity: NDArray[np.float64]


def cut_patches(obj: NDArray[Any], corners_px: NDArray[Any]) -> NDArray[np.complex64]:
    """Cut patches out of a periodic object, by a Fourier ramp."""
    frequency = np.fft.fftfreq(SIDE) * 2j * np.pi
    spectrum = np.fft.fft2(obj)
    patches = []
    for row, column in corners_px:
        ramp = np.exp(frequency * row)[:, None] * np.exp(frequency * column)[None, :]
        patches.append(np.fft.ifft2(spectrum * ramp)[:PATCH, :PATCH])
    return np.array(patches, dtype=np.complex64)


def _leaves() -> NDArray[np.complex128]:
    generator = np.random.Generator(np.random.Philox(3))
    rows, columns = np.mgrid[:SIDE, :SIDE]
    phase, amplitude = np.zeros((SIDE, SIDE)), np.full((SIDE, SIDE), 0.9)
    for _ in range(120):
        row, column, radius = *generator.uniform(0, SIDE, 2), generator.uniform(4, 10)
        away = [
            (axis - centre + SIDE / 2) % SIDE - SIDE / 2 for axis, centre in ((rows, row), (columns, column))
        ]
        inside = away[0] ** 2 + away[1] ** 2 < radius**2
        phase[inside], amplitude[inside] = generator.uniform(-0.6, 0.6), generator.uniform(0.6, 1)
    smooth = [ndimage.gaussian_filter(image, 1.0, mode="wrap") for image in (phase, amplitude)]
    made: NDArray[np.complex128] = smooth[1] * np.exp(1j * smooth[0])
    return made


@functools.cache
def make_known_scan() -> KnownScan:
    """Make the scan once; nobody may write into it."""
    generator = np.random.Generator(np.random.Philox(7))
    steps = np.linspace(MARGIN, SIDE - PATCH - MARGIN, 13)
    grid = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    corners = grid + generator.uniform(-1, 1, grid.shape)
    centre = np.arange(PATCH) - (PATCH - 1) / 2
    radius = np.hypot(centre[:, None], centre[None, :])
    probe = np.exp(-(((radius - 5) / 3) ** 2)) + 0.01
    obj = _leaves()
    scan = KnownScan(obj, cut_patches(obj, corners), corners, probe)
    for array in (scan.object, scan.patches, scan.corners_px, scan.probe_intensity):
        array.setflags(write=False)
    return scan
