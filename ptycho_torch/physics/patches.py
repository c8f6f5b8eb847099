"""Patches on a canvas: sub-pixel placing, its adjoint, and the overlap constraint.

Interpolation is separable and done with two small matrices, so that the adjoint is a transpose and no
operation without a deterministic CUDA path is needed.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex64, Float, Float32
from torch import Tensor

from ptycho_torch.errors import DataError

__all__ = [
    "canvas_side_px",
    "extract",
    "keys_kernel",
    "merge",
    "merge_weight",
    "place",
    "with_edges_repeated",
]

WEIGHT_FLOOR = 0.05


def canvas_side_px(N: int, max_offset_px: float) -> int:
    """Return the side of a canvas that holds every patch of every group.

    Parameters
    ----------
    N
        Side of a patch, pixels.
    max_offset_px
        Largest absolute offset of a patch from its group's mean, along either axis, pixels.

    Raises
    ------
    DataError
        If a group is so wide that the central windows of its patches need not overlap.
    """
    if max_offset_px > N / 4:
        raise DataError(
            f"a patch lies {max_offset_px:.1f} px from the middle of its group, but patches of {N} px are "
            f"merged only up to {N / 4:g} px: lower data.neighbor_count or set model.gridsize to 1"
        )
    margin = math.ceil(max_offset_px) + 2 if max_offset_px > 0 else 0
    return N + 2 * margin


def keys_kernel(distance_px: Tensor) -> Tensor:
    """Evaluate the cubic convolution kernel at signed distances in pixels.

    References
    ----------
    Keys, IEEE Trans. Acoust. Speech Signal Process. 29, 1153 (1981), equation 15 (a = -1/2).
    """
    x = distance_px.abs()
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _interpolation_matrices(offsets_px: Tensor, canvas_side: int, N: int) -> tuple[Tensor, Tensor]:
    grid = torch.arange(canvas_side, device=offsets_px.device, dtype=offsets_px.dtype)
    pixel = torch.arange(N, device=offsets_px.device, dtype=offsets_px.dtype)
    corner = (canvas_side - N) / 2 + offsets_px
    position = corner[..., None] + pixel
    weights = keys_kernel(grid[:, None] - position[..., None, :])
    return weights[..., 0, :, :], weights[..., 1, :, :]


def _sandwich(left: Tensor, middle: Tensor, right: Tensor) -> Tensor:
    if middle.is_complex():
        return torch.complex(left @ middle.real @ right, left @ middle.imag @ right)
    return left @ middle @ right


def place(patches: Tensor, offsets_px: Float[Tensor, "*lead 2"], canvas_side: int) -> Tensor:
    """Put each patch on its own canvas of zeros, displaced from the canvas' middle.

    Parameters
    ----------
    patches
        Real or complex patches [..., N, N].
    offsets_px
        Displacement of each patch's centre from the canvas' centre (row, column), pixels. A positive
        row offset moves content to higher rows.
    canvas_side
        Side M of the canvas, pixels.

    Returns
    -------
    Tensor
        Canvases [..., M, M].
    """
    rows, columns = _interpolation_matrices(offsets_px, canvas_side, patches.shape[-1])
    return _sandwich(rows, patches, columns.transpose(-1, -2))


def extract(canvas: Tensor, offsets_px: Float[Tensor, "*lead 2"], N: int) -> Tensor:
    """Cut a patch out of a canvas: the adjoint of :func:`place`.

    Parameters
    ----------
    canvas
        Real or complex canvases [..., M, M]; they broadcast against the offsets.
    offsets_px
        Displacement of the patch's centre from the canvas' centre (row, column), pixels.
    N
        Side of the patch, pixels.

    Returns
    -------
    Tensor
        Patches [..., N, N].
    """
    rows, columns = _interpolation_matrices(offsets_px, canvas.shape[-1], N)
    return _sandwich(rows.transpose(-1, -2), canvas, columns)


def with_edges_repeated(patches: Complex64[Tensor, "*lead N N"], canvas_side: int) -> Tensor:
    """Put each patch in the middle of a canvas that its outermost pixels fill.

    Parameters
    ----------
    patches
        Object patches.
    canvas_side
        Side M of the canvas, pixels.

    Returns
    -------
    Tensor
        Canvases [..., M, M].
    """
    N = patches.shape[-1]
    pixel = torch.arange(N, device=patches.device)
    nearest = (torch.arange(canvas_side, device=patches.device) - (canvas_side - N) // 2).clamp(0, N - 1)
    choice = (nearest[:, None] == pixel).to(patches.real.dtype)
    return _sandwich(choice, patches, choice.T)


def merge_weight(N: int, window_px: int, device: torch.device | None = None) -> Float32[Tensor, "N N"]:
    """Return the weight with which a patch enters the merged object.

    A raised cosine over the central window that falls to a floor at the window's edge, and is zero outside.
    The taper is as wide as the window: with a steep one the negative lobes of the interpolation would
    drive the sum of weights through zero.

    Parameters
    ----------
    N
        Side of a patch, pixels.
    window_px
        Side of the central window that the patch knows about, pixels.
    """
    index = torch.arange(window_px, device=device, dtype=torch.float32)
    profile = 0.5 - 0.5 * torch.cos(2 * math.pi * (index + 0.5) / window_px)
    weight = WEIGHT_FLOOR + (1 - WEIGHT_FLOOR) * profile[:, None] * profile[None, :]
    margin = (N - window_px) // 2
    return torch.nn.functional.pad(weight, (margin, margin, margin, margin))


def merge(
    patches: Complex64[Tensor, "B C N N"],
    offsets_px: Float32[Tensor, "B C 2"],
    canvas_side: int,
    weight: Float32[Tensor, "N N"],
) -> Complex64[Tensor, "B M M"]:
    """Average the patches of each group into one object, where they overlap.

    The same weight stands in numerator and denominator, so patches that agree are returned unchanged.
    Canvas pixels that no window covers are zero.

    Parameters
    ----------
    patches
        Object patches of B groups of C members.
    offsets_px
        Displacement of each patch from its group's middle (row, column), pixels.
    canvas_side
        Side M of the canvas, pixels.
    weight
        Weight of each patch pixel, as :func:`merge_weight` makes it.

    References
    ----------
    Hoidn, Mishra, Mehta, Sci. Rep. 13, 22789 (2023), equation 1.
    """
    numerator = place(patches * weight, offsets_px, canvas_side).sum(dim=1)
    with torch.no_grad():
        total = place(weight.expand(offsets_px.shape[:2] + weight.shape), offsets_px, canvas_side).sum(dim=1)
        inverse = torch.where(total > WEIGHT_FLOOR / 2, 1 / total, torch.zeros_like(total))
    return numerator * inverse
