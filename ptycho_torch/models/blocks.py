"""Stages of the convolutional autoencoder."""

from __future__ import annotations

import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["AttentionGate", "DecoderBlock", "EncoderBlock", "convolution"]

REDUCTION = 16
SPATIAL_KERNEL = 7


def convolution(inputs: int, outputs: int, *, std: float | None = None) -> nn.Conv2d:
    """Make a 3x3 convolution with zero bias.

    Parameters
    ----------
    inputs, outputs
        Channels.
    std
        Standard deviation of the normal initial weights; None is He's choice for rectified inputs.
    """
    layer = nn.Conv2d(inputs, outputs, 3, padding=1)
    if std is None:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    else:
        nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias) if layer.bias is not None else None
    return layer


class AttentionGate(nn.Module):
    """Scale channels and then pixels by learned gates.

    Parameters
    ----------
    channels
        Channels in and out.

    References
    ----------
    Woo, Park, Lee, Kweon, ECCV 2018 (CBAM), equations 1 to 3.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // REDUCTION, 1)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.excite = nn.Conv2d(hidden, channels, 1)
        self.spatial = nn.Conv2d(2, 1, SPATIAL_KERNEL, padding=SPATIAL_KERNEL // 2, bias=False)

    def forward(self, features: Float32[Tensor, "B F H W"]) -> Float32[Tensor, "B F H W"]:
        """Return the gated features."""
        pooled = torch.stack([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))])[..., None, None]
        pair = self.excite(torch.relu(self.squeeze(pooled.flatten(0, 1))))
        features = features * torch.sigmoid(pair.unflatten(0, (2, -1)).sum(dim=0))
        summary = torch.cat([features.mean(dim=1, keepdim=True), features.amax(dim=1, keepdim=True)], dim=1)
        return features * torch.sigmoid(self.spatial(summary))


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
        self.first = convolution(inputs, outputs)
        self.second = convolution(outputs, outputs)
        self.gate = AttentionGate(outputs) if attention else nn.Identity()

    def forward(self, features: Float32[Tensor, "B F H W"]) -> Float32[Tensor, "B G H2 W2"]:
        """Return features of half the side."""
        features = torch.relu(self.second(torch.relu(self.first(features))))
        return F.max_pool2d(self.gate(features), 2)


class DecoderBlock(nn.Module):
    """Two convolutions and a doubling of the side.

    Parameters
    ----------
    inputs, outputs
        Channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs)
        self.second = convolution(outputs, outputs)

    def forward(self, features: Float32[Tensor, "B F H W"]) -> Float32[Tensor, "B G H2 W2"]:
        """Return features of twice the side."""
        features = torch.relu(self.second(torch.relu(self.first(features))))
        return F.interpolate(features, scale_factor=2, mode="nearest")
