"""Stages of the convolutional autoencoder."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ptycho_torch.models.gate import AttentionGate
from ptycho_torch.models.rectified import put, put_gradient
from ptycho_torch.models.winograd import TiledConvolution

__all__ = ["DecoderBlock", "EncoderBlock", "UpsamplingConvolution", "convolution"]

_PARITIES = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Of a row and a column of the large image: even is 0, odd is 1."""


class UpsamplingConvolution(nn.Conv2d):
    """Repeat every pixel along both axes, then convolve 3x3: done as one 2x2 convolution of the small image.

    After the repetition an output pixel sees only 2x2 different inputs; which weights fall together on
    each depends on whether its row and its column are even or odd. With the four kernels that result the
    large image is never formed, and about half of the multiplications remain.
    """

    fold: Tensor

    def __init__(
        self, inputs: int, outputs: int, kernel_size: int = 3, padding: int = 1, *, is_rectified: bool = False
    ) -> None:
        super().__init__(inputs, outputs, kernel_size, padding=padding)
        self.is_rectified = is_rectified
        # Which of three weights in a row meet either of two inputs: for even and for odd output pixels.
        fold = torch.tensor([[[1.0, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
        self.register_buffer("fold", fold, persistent=False)

    def forward(self, input: Float[Tensor, "B F H W"]) -> Float[Tensor, "B G H2 W2"]:
        """Return the convolution of the image of twice the side, rectified if the layer is."""
        rows = torch.tensordot(self.fold, self.weight, dims=([2], [2]))
        kernels = torch.tensordot(self.fold, rows, dims=([2], [4]))  # [parity, 2, parity, 2, G, F]
        kernels = kernels.permute(0, 2, 4, 5, 3, 1)
        bias = None if self.bias is None else self.bias.repeat(4)
        both = F.conv2d(input, kernels.flatten(0, 2), bias, padding=1)
        large: Tensor = _Interleave.apply(both, self.is_rectified)  # type: ignore[no-untyped-call]
        return large


class _Interleave(torch.autograd.Function):
    """Put the outputs of four kernels, [B, 4 G, H + 1, W + 1], between each other's rows and columns.

    Every number is moved once, forward (rectified on the way if asked for) and backward; torch's own backward
    pass of the same slices fills and adds up four arrays of the whole size.
    """

    @staticmethod
    def forward(ctx: Any, both: Tensor, is_rectified: bool) -> Tensor:
        batch, channels = both.shape[0], both.shape[1] // 4
        height, width = both.shape[2] - 1, both.shape[3] - 1
        # No view of anything, so that it may be changed in place.
        large = torch.empty(
            (batch, channels, 2 * height, 2 * width),
            dtype=both.dtype,
            device=both.device,
            memory_format=torch.channels_last,
        )
        for into, taken in zip(_quarters(large), _shifted(both.permute(0, 2, 3, 1)), strict=True):
            put(taken, into, is_rectified=is_rectified)
        ctx.save_for_backward(large if is_rectified else None)
        return large

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (rectified,) = ctx.saved_tensors
        batch, channels, height, width = gradients[0].shape
        both = gradients[0].new_zeros(batch, height // 2 + 1, width // 2 + 1, 4 * channels)
        signs = [None] * len(_PARITIES) if rectified is None else _quarters(rectified)
        for into, taken, sign in zip(_shifted(both), _quarters(gradients[0]), signs, strict=True):
            put_gradient(taken, into, sign)
        return both.permute(0, 3, 1, 2), None


def _quarters(large: Tensor) -> list[Tensor]:
    pixels = large.permute(0, 2, 3, 1)
    return [pixels[:, row::2, column::2] for row, column in _PARITIES]


def _shifted(both: Tensor) -> list[Tensor]:
    height, width = both.shape[1] - 1, both.shape[2] - 1
    pixels = both.view(*both.shape[:3], 2, 2, -1)
    return [pixels[:, row : row + height, column : column + width, column, row] for row, column in _PARITIES]


def convolution(
    inputs: int,
    outputs: int,
    *,
    std: float | None = None,
    is_upsampling: bool = False,
    is_rectified: bool = False,
) -> nn.Conv2d:
    """Make a 3x3 convolution with zero bias.

    Parameters
    ----------
    inputs, outputs
        Channels.
    std
        Standard deviation of the normal initial weights; None is He's choice for rectified inputs.
    is_upsampling
        Double the side of the image first.
    is_rectified
        Take the result's positive part, as all layers do but a head's last.
    """
    kind = UpsamplingConvolution if is_upsampling else TiledConvolution
    layer = kind(inputs, outputs, 3, padding=1, is_rectified=is_rectified)
    if std is None:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    else:
        nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias) if layer.bias is not None else None
    return layer


class EncoderBlock(nn.Module):
    """Two convolutions, a gate if asked for, and a halving of the side.

    Parameters
    ----------
    inputs, outputs
        Channels.
    attention
        Put an :class:`AttentionGate` behind the convolutions.
    """

    def __init__(self, inputs: int, outputs: int, *, attention: bool) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, is_rectified=True)
        self.second = convolution(outputs, outputs, is_rectified=True)
        self.gate = AttentionGate(outputs) if attention else nn.Identity()

    def forward(self, features: Float[Tensor, "B F H W"]) -> Float[Tensor, "B G H2 W2"]:
        """Return features of half the side."""
        return F.max_pool2d(self.gate(self.second(self.first(features))), 2)


class DecoderBlock(nn.Module):
    """Two convolutions, the first of them of an image of twice the side if asked for.

    Parameters
    ----------
    inputs, outputs
        Channels.
    is_upsampling
        Double the side of the features first.
    """

    def __init__(self, inputs: int, outputs: int, *, is_upsampling: bool) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, is_upsampling=is_upsampling, is_rectified=True)
        self.second = convolution(outputs, outputs, is_rectified=True)

    def forward(self, features: Float[Tensor, "B F H W"]) -> Float[Tensor, "B G H2 W2"]:
        """Return the new features."""
        rectified: Tensor = self.second(self.first(features))
        return rectified
