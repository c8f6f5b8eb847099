"""3x3 convolutions with a quarter of the multiplications.

Tiles of 6x6 input pixels, four pixels apart, give tiles of 4x4 output pixels: both are mapped to 36 planes,
in which the convolution is a product of matrices (tiles by channels), one a plane. All that follows from it
(the gradients of image, weights and bias) is the adjoint of the same three maps, applied along rows and
columns.

The products are NumPy's, whose OpenBLAS takes matrices as they lie. MKL, torch's own, is slow where its bits
are the same on every CPU, and oneDNN wants every matrix copied.

References
----------
Lavin and Gray, arXiv:1509.09308 (2015), section 4.3: F(4x4, 3x3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

__all__ = ["TiledConvolution"]

TILE = 4
LINES = 6
PLANES = LINES * LINES
CONSTANT_PLANE = LINES + 1
"""The plane that adds to all pixels of an output tile alike: the bias belongs there, and its gradient."""

NUMBERS_AT_ONCE = 2**20
"""Numbers of an image's channels that are tiled at one time where nothing else needs their tiles."""

LARGE = 2**22
"""Channels in x channels out x pixels above which tiles are taken.

All convolutions of a network with n_filters_scale 1 are below it, and so keep the bits they always had.
"""

FEWEST_CHANNELS = 64
FEWEST_PAIRS = 64 * 128
"""Channels in x channels out from which more than the weights' gradient goes through tiles."""

_FILTER = ((6, 0, 0), (-4, -4, -4), (-4, 4, -4), (1, 2, 4), (1, -2, 4), (0, 0, 24))


class TiledConvolution(nn.Conv2d):
    """A 3x3 convolution with a border of zeros; a large one is done by tiles on a CPU with AVX2.

    Which way is taken depends on shapes, type and instruction set, never on a measurement. In single
    precision tiling rounds about four times as coarsely as the direct sum: of noise in 128 channels, to some
    2e-6 of the result.
    """

    def __init__(self, inputs: int, outputs: int, kernel_size: int = 3, padding: int = 1) -> None:
        super().__init__(inputs, outputs, kernel_size, padding=padding)

    def forward(self, input: Float[Tensor, "B F H W"]) -> Float[Tensor, "B G H W"]:
        """Return the convolution."""
        if not (self._is_large(*input.shape[-2:]) and _can_be_tiled(input, self.weight)):
            return super().forward(input)
        way = _Tiled if self.in_channels * self.out_channels >= FEWEST_PAIRS else _TiledWeights
        convolved: Tensor = way.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return convolved

    def _is_large(self, height: int, width: int) -> bool:
        fewest, pairs = min(self.in_channels, self.out_channels), self.in_channels * self.out_channels
        has_tiles = height % TILE == 0 and width % TILE == 0
        return has_tiles and fewest >= FEWEST_CHANNELS and pairs * height * width > LARGE


def _can_be_tiled(image: Tensor, weight: Tensor) -> bool:
    is_precise = image.dtype == weight.dtype and image.dtype in (torch.float32, torch.float64)
    return (
        is_precise
        and image.device.type == "cpu"
        and torch.backends.cpu.get_cpu_capability().startswith("AVX")
    )


class _Tiled(torch.autograd.Function):
    """All three passes through the 36 planes; the input's planes are kept for the weights' gradient."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        tiles = _planes_of_input(image)
        ctx.save_for_backward(tiles, weight)
        planes = _multiply(tiles, _planes_of_weight(weight))
        planes[..., CONSTANT_PLANE, :] += bias
        return _output_of_planes(planes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        tiles, weight = ctx.saved_tensors
        planes = _planes_of_gradient(gradients[0])
        to_image = None
        if ctx.needs_input_grad[0]:
            to_image = _gradient_of_planes(_multiply(planes, _planes_of_weight(weight).transpose(1, 2)))
        to_weight = _weight_of_planes(_contract(planes, tiles))
        return to_image, to_weight, planes[..., CONSTANT_PLANE, :].sum(dim=(0, 1, 2))


class _TiledWeights(torch.autograd.Function):
    """The direct convolution, of which only the weights' gradient goes through the planes, in portions."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(image, weight)
        return F.conv2d(image, weight, bias, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        image, weight = ctx.saved_tensors
        (gradient,) = gradients
        to_image = None
        if ctx.needs_input_grad[0]:
            to_image = conv2d_input(image.shape, weight, gradient, padding=1)  # type: ignore[no-untyped-call]
        portion = max(1, NUMBERS_AT_ONCE // image[0].numel())
        outputs, inputs = weight.shape[:2]
        to_weight, to_bias = weight.new_zeros(PLANES, outputs, inputs), weight.new_zeros(outputs)
        for first in range(0, len(image), portion):
            planes = _planes_of_gradient(gradient[first : first + portion])
            to_weight += _contract(planes, _planes_of_input(image[first : first + portion]))
            to_bias += planes[..., CONSTANT_PLANE, :].sum(dim=(0, 1, 2))
        return to_image, _weight_of_planes(to_weight), to_bias


def _multiply(tiles: Tensor, factors: Tensor) -> Tensor:
    """Multiply in every plane the tiles [..., 36, F] by factors [36, G, F]: [..., 36, G]."""
    made = tiles.new_empty(*tiles.shape[:-1], factors.shape[1])
    _matmul(_by_plane(tiles), factors.transpose(1, 2).numpy(), out=_by_plane(made))
    return made


def _contract(planes: Tensor, tiles: Tensor) -> Tensor:
    """Sum over all tiles the products of planes [..., 36, G] and tiles [..., 36, F]: [36, G, F]."""
    return torch.from_numpy(_matmul(_by_plane(planes).transpose(0, 2, 1), _by_plane(tiles)))


def _matmul(
    left: NDArray[np.floating], right: NDArray[np.floating], out: NDArray[np.floating] | None = None
) -> NDArray[np.floating]:
    # A training that diverges is told of by its loss, not by a warning from here.
    with np.errstate(over="ignore", invalid="ignore"):
        product: NDArray[np.floating] = np.matmul(left, right, out=out)
    return product


def _by_plane(tiles: Tensor) -> NDArray[np.floating]:
    """See tiles [..., 36, F] as matrices (tiles by channels), one a plane: [36, tiles, F]."""
    return tiles.flatten(0, -3).numpy().transpose(1, 0, 2)


def _planes_of_input(image: Tensor) -> Tensor:
    """Map an image [B, F, H, W] to the planes of its tiles [B, Y, X, 36, F]."""
    columns = _in_tiles(image.permute(0, 2, 3, 1).contiguous(), 2)
    batch, height, across, _, channels = columns.shape
    half = columns.new_empty(batch, height, across, LINES, channels)
    _spread(columns.unbind(3), half.unbind(3), axis=2)
    planes = columns.new_empty(batch, height // TILE, across, LINES, LINES, channels)
    _spread(_in_tiles(half, 1).unbind(2), planes.unbind(3), axis=1)
    return planes.flatten(3, 4)


def _gradient_of_planes(planes: Tensor) -> Tensor:
    """Map planes back to an image: the adjoint of :func:`_planes_of_input`."""
    batch, down, across, _, channels = planes.shape
    half = planes.new_empty(batch, down, TILE, across, LINES, channels)
    _gather(planes.view(batch, down, across, LINES, LINES, channels).unbind(3), half.unbind(2), axis=1)
    image = _empty_image(planes, batch, channels, down * TILE, across * TILE)
    columns = _in_tiles(image.permute(0, 2, 3, 1), 2)
    _gather(half.flatten(1, 2).unbind(3), columns.unbind(3), axis=2)
    return image


def _planes_of_gradient(gradient: Tensor) -> Tensor:
    """Map an output's gradient to the planes: the adjoint of :func:`_output_of_planes`."""
    columns = _in_tiles(gradient.permute(0, 2, 3, 1).contiguous(), 2)
    batch, height, across, _, channels = columns.shape
    half = columns.new_empty(batch, height, across, LINES, channels)
    _widen(columns.unbind(3), half.unbind(3))
    planes = columns.new_empty(batch, height // TILE, across, LINES, LINES, channels)
    _widen(_in_tiles(half, 1).unbind(2), planes.unbind(3))
    return planes.flatten(3, 4)


def _output_of_planes(planes: Tensor) -> Tensor:
    """Map planes [B, Y, X, 36, G] to the output image [B, G, H, W]."""
    batch, down, across, _, channels = planes.shape
    half = planes.new_empty(batch, down, TILE, across, LINES, channels)
    _narrow(planes.view(batch, down, across, LINES, LINES, channels).unbind(3), half.unbind(2))
    image = _empty_image(planes, batch, channels, down * TILE, across * TILE)
    columns = _in_tiles(image.permute(0, 2, 3, 1), 2)
    _narrow(half.flatten(1, 2).unbind(3), columns.unbind(3))
    return image


def _in_tiles(lines: Tensor, axis: int) -> Tensor:
    return lines.view(*lines.shape[:axis], -1, TILE, *lines.shape[axis + 1 :])


def _empty_image(like: Tensor, *shape: int) -> Tensor:
    # No view of anything, so that it may be changed in place behind the function that made it.
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _filter(like: Tensor) -> NDArray[np.floating]:
    one = torch.tensor(_FILTER, dtype=torch.float64) / 24
    return torch.einsum("ai,bj->abij", one, one).reshape(PLANES, 9).to(like).numpy()


def _planes_of_weight(weight: Tensor) -> Tensor:
    """Map weights [G, F, 3, 3] to the planes [36, G, F]."""
    taps = weight.detach().permute(2, 3, 0, 1).reshape(9, -1)
    return torch.from_numpy(_matmul(_filter(weight), taps.numpy())).view(PLANES, *weight.shape[:2])


def _weight_of_planes(planes: Tensor) -> Tensor:
    """Map planes back to weights: the adjoint of :func:`_planes_of_weight`."""
    taps = torch.from_numpy(_matmul(_filter(planes).T, planes.flatten(1).numpy()))
    return taps.view(3, 3, *planes.shape[1:]).permute(2, 3, 0, 1)


Lines = Sequence[Tensor]


def _spread(given: Lines, made: Lines, axis: int) -> None:
    """Make six lines of the four of each tile, the one before and the one after: B^T of the reference."""
    a, b, c, d = given
    tiles = a.shape[axis]
    even, odd = torch.sub(d, b, alpha=4), torch.sub(c, a, alpha=4)
    torch.add(even, odd, out=made[1])
    torch.sub(even, odd, out=made[2])
    torch.sub(d, b, out=even)
    torch.sub(c, a, out=odd)
    torch.add(even, odd, alpha=2, out=made[3])
    torch.sub(even, odd, alpha=2, out=made[4])
    torch.sub(even, b, alpha=4, out=made[0])
    made[0].narrow(axis, 1, tiles - 1).add_(d.narrow(axis, 0, tiles - 1), alpha=4)
    torch.add(c, odd, alpha=4, out=made[5]).neg_()
    made[5].narrow(axis, 0, tiles - 1).add_(a.narrow(axis, 1, tiles - 1))


def _gather(given: Lines, made: Lines, axis: int) -> None:
    """Add six lines of each tile to its four, the one before and the one after: the adjoint of `_spread`."""
    tiles = given[0].shape[axis]
    near, far = torch.sub(given[1], given[2]), torch.sub(given[3], given[4])
    torch.add(near, far, alpha=2, out=made[2]).sub_(given[5], alpha=5)
    torch.sub(given[5], near, out=made[0]).mul_(2).sub_(far).mul_(2)
    made[0].narrow(axis, 1, tiles - 1).add_(given[5].narrow(axis, 0, tiles - 1))
    torch.add(given[1], given[2], out=near)
    torch.add(given[3], given[4], out=far)
    torch.add(near, far, out=made[3]).add_(given[0])
    made[3].narrow(axis, 0, tiles - 1).add_(given[0].narrow(axis, 1, tiles - 1), alpha=4)
    torch.add(far, near, alpha=4, out=made[1]).add_(given[0], alpha=5).neg_()


def _widen(given: Lines, made: Lines) -> None:
    """Make six lines of the four of each tile: A of the reference."""
    a, b, c, d = given
    even, odd = torch.add(a, c), torch.add(b, d)
    torch.add(even, odd, out=made[1])
    torch.sub(even, odd, out=made[2])
    torch.add(a, c, alpha=4, out=even)
    torch.add(b, d, alpha=4, out=odd)
    torch.add(even, odd, alpha=2, out=made[3])
    torch.sub(even, odd, alpha=2, out=made[4])
    made[0].copy_(a)
    made[5].copy_(d)


def _narrow(given: Lines, made: Lines) -> None:
    """Make four lines of the six of each tile: A^T of the reference, the adjoint of `_widen`."""
    near, far = torch.add(given[1], given[2]), torch.add(given[3], given[4])
    torch.add(given[0], near, out=made[0]).add_(far)
    torch.add(near, far, alpha=4, out=made[2])
    torch.sub(given[1], given[2], out=near)
    torch.sub(given[3], given[4], out=far)
    torch.add(near, far, alpha=2, out=made[1])
    torch.add(near, far, alpha=8, out=made[3]).add_(given[5])
