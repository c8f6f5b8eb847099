"""Decoders with their output maps: amplitude and phase."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.nn import functional as F

from ptycho_torch.errors import ConfigError
from ptycho_torch.models.blocks import DecoderBlock, convolution

__all__ = ["AMPLITUDE_ACTIVATIONS", "Head", "activation_bias", "scaled_tanh"]

HEAD_STD = 0.001

Activation = Callable[[Tensor], Tensor]

AMPLITUDE_ACTIVATIONS: dict[str, Activation] = {
    "sigmoid": torch.sigmoid,
    "swish": F.silu,
    "softplus": F.softplus,
    "relu": torch.relu,
}
"""Activation of the amplitude head, by its name in ``ModelConfig.amp_activation``."""


def scaled_tanh(raw: Tensor) -> Tensor:
    """Map raw output to phases between -pi and pi."""
    return math.pi * torch.tanh(raw)


def activation_bias(name: str, level: float) -> float:
    """Return the raw output at which an amplitude activation gives `level`.

    Parameters
    ----------
    name
        Key of :data:`AMPLITUDE_ACTIVATIONS`.
    level
        Amplitude, between 0 and 1.

    Raises
    ------
    ConfigError
        If there is no such activation.
    """
    if name == "sigmoid":
        return math.log(level / (1 - level))
    if name == "softplus":
        return math.log(math.expm1(level))
    if name == "relu":
        return level
    if name == "swish":
        low, high = 0.0, 2.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if middle / (1 + math.exp(-middle)) < level else (low, middle)
        return low
    raise ConfigError(
        [f"model.amp_activation is {name!r} (legal: {', '.join(AMPLITUDE_ACTIVATIONS)})"],
        ["model.amp_activation"],
    )


class Head(nn.Module):
    """A decoder and the map it ends in: the patch's central window and, if asked for, its outer frame.

    Parameters
    ----------
    encoded
        Channels that the encoder hands over.
    widths
        Channels of the decoder's blocks.
    maps
        Number of output maps.
    activation
        Makes amplitude or phase of the raw output.
    bias
        Initial raw output.
    border_channels
        How many of the decoder's last channels make the outer frame; 0: the frame is zero.
    """

    def __init__(
        self,
        encoded: int,
        widths: list[int],
        maps: int,
        *,
        activation: Activation,
        bias: float,
        border_channels: int,
    ) -> None:
        super().__init__()
        sizes = [encoded, *widths]
        self.decoder = nn.Sequential(
            *(
                DecoderBlock(a, b, is_upsampling=stage > 0)
                for stage, (a, b) in enumerate(zip(sizes, widths, strict=False))
            )
        )
        self.border_channels = border_channels
        self.centre = convolution(widths[-1] - self.border_channels, maps, std=HEAD_STD, is_upsampling=True)
        self.border = _border_branch(border_channels, maps, widths[-1]) if border_channels else None
        self.activation = activation
        for layer in (self.centre, self.border[-1] if self.border is not None else None):
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.constant_(layer.bias, bias)

    def forward(self, encoded: Float32[Tensor, "B F H W"]) -> Float32[Tensor, "B C N N"]:
        """Return the output maps, four times the side of the decoder's last features."""
        features = self.decoder(encoded)
        split = features.shape[1] - self.border_channels
        centre = self.activation(self.centre(features[:, :split]))
        quarter = centre.shape[-1] // 2
        whole = F.pad(centre, (quarter, quarter, quarter, quarter))
        if self.border is None:
            return whole
        frame = torch.ones_like(whole[:1, :1])
        frame[..., quarter:-quarter, quarter:-quarter] = 0
        return whole + self.activation(self.border(features[:, split:])) * frame


def _border_branch(inputs: int, maps: int, width: int) -> nn.Sequential:
    # The places without a layer keep the names that weights have in checkpoints.
    return nn.Sequential(
        convolution(inputs, width, is_upsampling=True, is_rectified=True),
        nn.Identity(),
        convolution(width, width, is_rectified=True),
        nn.Identity(),
        convolution(width, maps, std=HEAD_STD, is_upsampling=True),
    )
