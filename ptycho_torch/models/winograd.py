"""3x3 convolutions with a quarter of the multiplications.

Tiles of 6x6 input pixels, four pixels apart, give tiles of 4x4 output pixels: both are mapped to 36 planes,
in which the convolution is a product of matrices (tiles by channels), one a plane. The maps are products of
matrices too, with the same few numbers for every tile and channel, and all that follows from it (the
gradients of image and weights) is the product with what is transposed.

Products are torch's own MKL where it may choose its instructions. Where its bits are the same on every CPU it
is slow, and NumPy's OpenBLAS takes its place.

References
----------
Lavin and Gray, arXiv:1509.09308 (2015), section 4.3: F(4x4, 3x3).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ptycho_torch.models.rectified import put, put_gradient

__all__ = ["TiledConvolution"]

TILE = 4
WINDOW = 6
RIM = WINDOW - TILE
PLANES = WINDOW * WINDOW
CONSTANT_PLANE = WINDOW + 1
"""The plane that adds to all pixels of an output tile alike: the bias belongs there, and its gradient."""

LARGE = 2**22
"""Channels in x channels out x pixels above which tiles are taken.

All convolutions of a network with n_filters_scale 1 are below it, and so keep the bits they always had.
"""

FEWEST_CHANNELS = 64

TILES_PER_CHANNEL = 4
"""Tiles, for each channel in or out, that are worth reading the weights' planes for."""

_OF_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_OF_WEIGHT = ((6, 0, 0), (-4, -4, -4), (-4, 4, -4), (1, 2, 4), (1, -2, 4), (0, 0, 24))
_TO_OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


def _in_both_directions(one: tuple[tuple[int, ...], ...], divisor: int = 1) -> dict[torch.dtype, Tensor]:
    matrix = torch.tensor(one, dtype=torch.float64) / divisor
    return {dtype: torch.kron(matrix, matrix).to(dtype) for dtype in (torch.float32, torch.float64)}


OF_INPUT = _in_both_directions(_OF_INPUT)
OF_WEIGHT = _in_both_directions(_OF_WEIGHT, 24)
TO_OUTPUT = _in_both_directions(_TO_OUTPUT)


class TiledConvolution(nn.Conv2d):
    """A 3x3 convolution with a border of zeros; a large one is done by tiles on a CPU with AVX2.

    Which way is taken depends on shapes, type and instruction set, never on a measurement. In single
    precision tiling rounds four to fifteen times as coarsely as the direct sum, by shape and layout: of noise
    in 128 channels, to some 2.5e-6 of the result.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel_size: int = 3, padding: int = 1, *, is_rectified: bool = False
    ) -> None:
        super().__init__(inputs, outputs, kernel_size, padding=padding)
        self.is_rectified = is_rectified

    def forward(self, input: Float[Tensor, "B F H W"]) -> Float[Tensor, "B G H W"]:
        """Return the convolution, rectified if the layer is."""
        if not (self._is_large(*input.shape[-2:]) and _can_be_tiled(input, self.weight)):
            direct = super().forward(input)
            return torch.relu_(direct) if self.is_rectified else direct
        given = (input, self.weight, self.bias, self.is_rectified, torch.is_grad_enabled())
        convolved: Tensor = _Tiled.apply(*given)  # type: ignore[no-untyped-call]
        return convolved

    def _is_large(self, height: int, width: int) -> bool:
        fewest, pairs = min(self.in_channels, self.out_channels), self.in_channels * self.out_channels
        has_tiles = height % TILE == 0 and width % TILE == 0
        return has_tiles and fewest >= FEWEST_CHANNELS and pairs * height * width > LARGE


def _can_be_tiled(image: Tensor, weight: Tensor) -> bool:
    is_precise = image.dtype == weight.dtype and image.dtype in OF_INPUT
    return (
        is_precise
        and image.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.cpu.get_cpu_capability().startswith("AVX")
    )


class _Tiled(torch.autograd.Function):
    """All three passes through the 36 planes; the input's may be kept, for the weights' gradient."""

    @staticmethod
    def forward(
        ctx: Any, image: Tensor, weight: Tensor, bias: Tensor, is_rectified: bool, is_kept: bool
    ) -> Tensor:
        factors = _planes_of_weight(weight).transpose(1, 2)
        convolved = _empty_like(image, len(weight))
        kept = []
        for given, made in _some_at_a_time(image, convolved):
            tiles = _mapped(OF_INPUT, _windows(given))
            planes = _product(tiles, factors)
            planes[CONSTANT_PLANE] += bias
            _put_tiles(_mapped(TO_OUTPUT, planes), made, is_rectified=is_rectified)
            kept += [tiles] if is_kept else []
        ctx.save_for_backward(weight, convolved if is_rectified else None, *kept)
        return convolved

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        weight, rectified, *kept = ctx.saved_tensors
        factors = _planes_of_weight(weight)
        to_image = _empty_like(gradients[0], weight.shape[1])
        to_weight, to_bias = [], []
        parts = _some_at_a_time(gradients[0], to_image, gradients[0] if rectified is None else rectified)
        for (given, made, result), tiles in zip(parts, kept, strict=True):
            planes = _mapped(TO_OUTPUT, _tiles(given, None if rectified is None else result), back=True)
            to_weight.append(_product(planes.transpose(1, 2), tiles))
            to_bias.append(planes[CONSTANT_PLANE].sum(dim=0))
            if ctx.needs_input_grad[0]:
                _add_windows(_mapped(OF_INPUT, _product(planes, factors), back=True), made)
        wanted = to_image if ctx.needs_input_grad[0] else None
        return wanted, _weight_of_planes(_sum(to_weight)), _sum(to_bias), None, None


def _sum(parts: list[Tensor]) -> Tensor:
    return functools.reduce(Tensor.add_, parts)


def _some_at_a_time(*images: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Take as few images at a time as have tiles enough for all they have to be multiplied by."""
    enough = TILES_PER_CHANNEL * max(image.shape[1] for image in images) * TILE * TILE
    number = -(-enough // (images[0].shape[2] * images[0].shape[3]))
    return zip(*(torch.split(image, number) for image in images), strict=True)


def _product(left: Tensor, right: Tensor) -> Tensor:
    if "MKL_CBWR" not in os.environ:
        return left @ right
    # A training that diverges is told of by its loss, not by a warning from here.
    with np.errstate(over="ignore", invalid="ignore"):
        return torch.from_numpy(np.matmul(left.numpy(), right.numpy()))


def _mapped(way: dict[torch.dtype, Tensor], pixels: Tensor, *, back: bool = False) -> Tensor:
    """Combine the pixels of every tile [P, T, F] to others [Q, T, F] by a matrix [Q, P], or the adjoint."""
    matrix = way[pixels.dtype]
    mapped = _product(matrix.T if back else matrix, pixels.flatten(1))
    return mapped.view(len(mapped), *pixels.shape[1:])


def _planes_of_weight(weight: Tensor) -> Tensor:
    """Map weights [G, F, 3, 3] to the planes [36, G, F]."""
    return _mapped(OF_WEIGHT, weight.detach().permute(2, 3, 0, 1).flatten(0, 1))


def _weight_of_planes(planes: Tensor) -> Tensor:
    """Map planes back to weights: the adjoint of :func:`_planes_of_weight`."""
    return _mapped(OF_WEIGHT, planes, back=True).view(3, 3, *planes.shape[1:]).permute(2, 3, 0, 1)


def _windows(image: Tensor) -> Tensor:
    """Take from an image [B, F, H, W] the window around every tile: [36, T, F]."""
    pixels = F.pad(image.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    windows = pixels.unfold(1, WINDOW, TILE).unfold(2, WINDOW, TILE)
    return windows.permute(4, 5, 0, 1, 2, 3).flatten(0, 1).flatten(1, -2)


def _add_windows(windows: Tensor, image: Tensor) -> None:
    """Fill an image with windows, which add up where they overlap: the adjoint of :func:`_windows`."""
    batch, channels, height, width = image.shape
    down, across = height // TILE, width // TILE
    parts = windows.view(WINDOW, WINDOW, batch, down, across, channels).permute(2, 3, 0, 4, 1, 5)
    # A window is a tile of an image that begins one pixel earlier, and the first lines of the next tiles.
    pixels = windows.new_empty(batch, down + 1, TILE, across + 1, TILE, channels)
    pixels[:, -1], pixels[:, :, :, -1] = 0, 0
    pixels[:, :-1, :, :-1] = parts[:, :, :TILE, :, :TILE]
    pixels[:, 1:, :RIM, :-1] += parts[:, :, TILE:, :, :TILE]
    pixels[:, :-1, :, 1:, :RIM] += parts[:, :, :TILE, :, TILE:]
    pixels[:, 1:, :RIM, 1:, :RIM] += parts[:, :, TILE:, :, TILE:]
    whole = pixels.view(batch, height + TILE, width + TILE, channels)
    image.permute(0, 2, 3, 1).copy_(whole[:, 1 : height + 1, 1 : width + 1])


def _tiles(gradient: Tensor, rectified: Tensor | None) -> Tensor:
    """Take an image's gradient [B, G, H, W] apart into that of its tiles [16, T, G], before rectifying."""
    pixels = _by_tile(gradient)
    tiles = torch.empty(pixels.shape, dtype=pixels.dtype)
    put_gradient(pixels, tiles, None if rectified is None else _by_tile(rectified))
    return tiles.flatten(0, 1).flatten(1, -2)


def _put_tiles(tiles: Tensor, image: Tensor, *, is_rectified: bool) -> None:
    """Fill an image with its tiles."""
    pixels = _by_tile(image)
    put(tiles.view(pixels.shape), pixels, is_rectified=is_rectified)


def _by_tile(image: Tensor) -> Tensor:
    """See an image [B, F, H, W] by the pixels of its tiles: [4, 4, B, Y, X, F]."""
    batch, channels, height, width = image.shape
    by_line = (batch, height // TILE, TILE, width // TILE, TILE, channels)
    return image.permute(0, 2, 3, 1).view(by_line).permute(2, 4, 0, 1, 3, 5)


def _empty_like(image: Tensor, channels: int) -> Tensor:
    shape = (len(image), channels, *image.shape[2:])
    return torch.empty(shape, dtype=image.dtype, memory_format=torch.channels_last)
