"""How much an object changes from pixel to pixel."""

from __future__ import annotations

import torch
from torch import Tensor

from ptycho_torch.losses.mae import amplitude

__all__ = ["total_variation"]

SMALLEST_STEP = 1e-3
"""A step far below this counts by its square, so that there is a derivative where the object is flat."""


def total_variation(patches: Tensor, window_px: int) -> Tensor:
    """Return the mean length of the complex object's gradient over the middle of its patches.

    A step of the amplitude and a step of the phase, times the amplitude, both count; a global phase does not.

    Parameters
    ----------
    patches
        Object patches [..., N, N], complex.
    window_px
        Side of the central window that is reconstructed, pixels. Its edge against what lies outside is
        no step of the object.

    References
    ----------
    Rudin, Osher and Fatemi, Physica D 60, 259 (1992), for real images; isotropic, forward differences.
    """
    first = (patches.shape[-1] - window_px) // 2
    window = slice(first, first + window_px)
    parts = torch.view_as_real(patches)[..., window, window, :]
    corner = parts[..., :-1, :-1, :]
    down, right = parts[..., 1:, :-1, :] - corner, parts[..., :-1, 1:, :] - corner
    squares = (down * down + right * right).sum(dim=-1)
    return (amplitude(squares + SMALLEST_STEP**2) - SMALLEST_STEP).mean()
