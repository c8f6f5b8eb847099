"""Measured frames, a few at a time, as the Fourier transform of exit waves has them, and that transform."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptycho_torch.readers.scan import Scan

__all__ = ["MeasuredFrames", "far_field", "intensity"]

FRAMES_AT_ONCE = 32
"""Frames whose exit waves exist at one time; the best step of a batch is found on its first ones."""


class MeasuredFrames:
    """Frames of a scan in roots of counts, with the zero frequency at [0, 0].

    Parameters
    ----------
    scan
        The frames, of which only rows are read; masked pixels are zero.
    counts_per_amplitude
        Factor from the scan's amplitude to the square root of counts.
    numbers
        Which frames.

    Attributes
    ----------
    used
        1 where a pixel is used and 0 elsewhere [N, N]; None: all are.
    num_values
        Used pixels of all the frames.
    """

    def __init__(self, scan: Scan, counts_per_amplitude: float, numbers: NDArray[np.int64]) -> None:
        self.numbers = numbers
        self._diffraction, self._scale = scan.diffraction, np.float32(counts_per_amplitude)
        used = np.ones((scan.side_px,) * 2, dtype=bool) if scan.mask is None else scan.mask
        self.used = None if scan.mask is None else torch.from_numpy(np.fft.ifftshift(used)).float()
        self.num_values = int(used.sum()) * len(numbers)

    def blocks(self, numbers: NDArray[np.int64] | None = None) -> list[NDArray[np.int64]]:
        """Divide frames, by default all, into as many as are taken at one time."""
        chosen = self.numbers if numbers is None else numbers
        return [chosen[first : first + FRAMES_AT_ONCE] for first in range(0, len(chosen), FRAMES_AT_ONCE)]

    def amplitude(self, numbers: NDArray[np.int64]) -> Tensor:
        """Read frames [B, N, N]."""
        block = np.asarray(self._diffraction[numbers], dtype=np.float32) * self._scale
        amplitude = torch.from_numpy(np.fft.ifftshift(block, axes=(-2, -1)))
        return amplitude if self.used is None else amplitude * self.used

    def mean_counts(self) -> float:
        """Return the mean counts of a frame; 0 where there are no frames."""
        sums = (float(self.amplitude(block).square().sum(dtype=torch.float64)) for block in self.blocks())
        return math.fsum(sums) / max(len(self.numbers), 1)


def far_field(waves: Tensor) -> Tensor:
    """Bring exit waves [..., N, N] to the detector, with the zero frequency at [0, 0]."""
    field: Tensor = torch.fft.fft2(waves, norm="ortho")
    return field


def intensity(waves: Tensor) -> Tensor:
    """Add up the squares of modes [..., M, N, N]."""
    return (waves.real * waves.real + waves.imag * waves.imag).sum(dim=-3)
