"""One object under all positions of a scan: cut patches out of it, and put patches back, the adjoint.

Sub-pixel positions are met by Lanczos-4 interpolation as in stitching and re-projection, written as two
small convolutions with a kernel for each frame.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv2d

from ptycho_torch.interpolation import TAPS, lanczos4_weights
from ptycho_torch.placement import Frame, frame_of

__all__ = ["ScanCanvas"]

_BEFORE = 3
"""Samples that the kernel reads before the pixel at or below a position."""


class ScanCanvas:
    """The canvas that holds every patch of a scan, with room for the interpolation around them.

    Parameters
    ----------
    corners_px
        Row and column of each patch's pixel [0, 0] on the object grid, (J, 2).
    side_px
        Side N of a patch, pixels.

    Raises
    ------
    DataError
        When the positions span an absurdly large canvas.
    """

    def __init__(self, corners_px: NDArray[np.float64], side_px: int) -> None:
        self.side_px = side_px
        self.frame: Frame = frame_of(corners_px - TAPS / 2, side_px + TAPS, side_px + TAPS)
        whole = np.floor(corners_px)
        origin = np.array(self.frame.origin_px)
        self._starts = whole.astype(np.int64) - _BEFORE - origin
        self._nearest = np.rint(corners_px).astype(np.int64) - origin
        fractions = corners_px - whole
        self._kernels = [torch.from_numpy(lanczos4_weights(fractions[:, axis])) for axis in (0, 1)]

    def extract(self, obj: Tensor, frames: NDArray[np.int64]) -> Tensor:
        """Cut the patches of some frames out of an object.

        Parameters
        ----------
        obj
            The object on this canvas, complex [H, W].
        frames
            Numbers of B frames.

        Returns
        -------
        Tensor
            Patches [B, N, N].
        """
        reach = self.side_px + TAPS - 1
        windows = torch.stack(
            [obj[row : row + reach, column : column + reach] for row, column in self._starts[frames].tolist()]
        )
        return self._convolve(windows, frames, padding=0)

    def place(self, patches: Tensor, frames: NDArray[np.int64]) -> Tensor:
        """Add patches [B, N, N] up on an empty canvas [H, W]: the adjoint of :meth:`extract`."""
        reach = self.side_px + TAPS - 1
        windows = self._convolve(patches, frames, padding=TAPS - 1)
        canvas = torch.zeros(self.frame.shape, dtype=patches.dtype)
        for window, (row, column) in zip(windows, self._starts[frames].tolist(), strict=True):
            canvas[row : row + reach, column : column + reach] += window
        return canvas

    def spread(self, weight: Tensor, frames: NDArray[np.int64]) -> Tensor:
        """Add one weight [N, N] up at each frame's nearest pixel; interpolation would have negative lobes."""
        canvas = torch.zeros(self.frame.shape)
        for row, column in self._nearest[frames].tolist():
            canvas[row : row + self.side_px, column : column + self.side_px] += weight
        return canvas

    def lay(self, image: NDArray[Any], origin_px: NDArray[np.int64], around: complex) -> Tensor:
        """Lay an image with its own origin on the canvas; elsewhere is the value `around`."""
        canvas = np.full(self.frame.shape, around, dtype=np.complex64)
        offset = np.asarray(origin_px) - np.array(self.frame.origin_px)
        first, last = np.maximum(offset, 0), np.minimum(offset + image.shape, self.frame.shape)
        if (last > first).all():
            rows, columns = (slice(a, b) for a, b in zip(first - offset, last - offset, strict=True))
            canvas[first[0] : last[0], first[1] : last[1]] = image[rows, columns]
        return torch.from_numpy(canvas)

    def _convolve(self, images: Tensor, frames: NDArray[np.int64], *, padding: int) -> Tensor:
        # A correlation with each frame's kernel; padded, the same with the kernel turned: its adjoint.
        down, across = (kernel[frames] for kernel in self._kernels)
        if padding:
            down, across = down.flip(1), across.flip(1)
        count = 2 * len(frames)
        channels = torch.view_as_real(images).permute(0, 3, 1, 2).reshape(1, count, *images.shape[1:])
        down, across = (kernel.repeat_interleave(2, dim=0) for kernel in (down, across))
        channels = conv2d(channels, down.view(count, 1, TAPS, 1), groups=count, padding=(padding, 0))
        channels = conv2d(channels, across.view(count, 1, 1, TAPS), groups=count, padding=(0, padding))
        parts = channels.view(len(frames), 2, *channels.shape[2:])
        return torch.complex(parts[:, 0], parts[:, 1])
