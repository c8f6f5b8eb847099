"""A phase slope that an object has and its frames do not: found from them, and taken out.

A slope of the object's phase moves every diffraction pattern on the detector. Where the probe is known, the
frames say by how much; a network's image, which no neighbour holds level, is off by up to some hundredths of
a radian per pixel. Gradient steps take that out from the edges inwards only, in many passes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ptycho_torch.measured_frames import far_field
from ptycho_torch.step_lengths import two_lengths

__all__ = ["Slope", "SlopeFit", "without_slope"]

Slope = tuple[float, float]
"""Radians per pixel from row to row, and from column to column."""


class SlopeFit:
    """One step of least squares for the slope, over frames that are added block by block.

    Parameters
    ----------
    used
        1 where a pixel is used and 0 elsewhere [N, N]; None: all are.
    """

    def __init__(self, used: Tensor | None) -> None:
        self._used = used
        self._sums = [0.0] * 5

    def add(self, waves: Tensor, field: Tensor, predicted: Tensor, difference: Tensor) -> None:
        """Add frames.

        Parameters
        ----------
        waves, field
            Exit waves, and they on the detector [B, M, N, N].
        predicted
            Root of the predicted counts [B, N, N], nowhere zero.
        difference
            `predicted` less the measured amplitude, 0 where a pixel is not used.
        """
        place = torch.arange(waves.shape[-1]) - (waves.shape[-1] - 1) / 2
        rows, columns = (
            self._change(waves * (1j * offset), field) / predicted for offset in (place[:, None], place)
        )
        products = (
            (rows, rows),
            (columns, columns),
            (rows, columns),
            (rows, difference),
            (columns, difference),
        )
        for number, (first, second) in enumerate(products):
            self._sums[number] += float((first * second).sum(dtype=torch.float64))

    def slope(self) -> Slope:
        """Return the slope that the object has and the frames do not, as far as one step tells."""
        return two_lengths(*self._sums)

    def _change(self, waves: Tensor, field: Tensor) -> Tensor:
        change = far_field(waves)
        seen = (field.real * change.real + field.imag * change.imag).sum(dim=-3)
        return seen if self._used is None else seen * self._used


def without_slope(obj: Tensor, slope: Slope) -> Tensor:
    """Take a slope out of an object's phase, which stays what it is in the middle."""
    rows, columns = (torch.arange(size) - (size - 1) / 2 for size in obj.shape)
    phase = slope[0] * rows[:, None] + slope[1] * columns
    level: Tensor = obj * torch.complex(torch.cos(phase), -torch.sin(phase))
    return level
