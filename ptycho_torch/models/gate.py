"""The attention gate, with a backward pass that touches the large arrays as seldom as possible."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = ["AttentionGate"]

REDUCTION = 16
SPATIAL_KERNEL = 7


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

    def forward(self, features: Float[Tensor, "B F H W"]) -> Float[Tensor, "B F H W"]:
        """Return the gated features."""
        gated: Tensor = _Gate.apply(  # type: ignore[no-untyped-call]
            features,
            self.squeeze.weight,
            self.squeeze.bias,
            self.excite.weight,
            self.excite.bias,
            self.spatial.weight,
        )
        return gated


def _channel_gate(mean: Tensor, peak: Tensor, *weights: Tensor) -> Tensor:
    squeeze, squeeze_bias, excite, excite_bias = weights
    pooled = torch.stack([mean, peak])
    hidden = torch.relu(F.linear(pooled, squeeze[..., 0, 0], squeeze_bias))
    return torch.sigmoid(F.linear(hidden, excite[..., 0, 0], excite_bias).sum(dim=0))[..., None, None]


def _pixel_gate(mean: Tensor, peak: Tensor, weight: Tensor) -> Tensor:
    return torch.sigmoid(F.conv2d(torch.cat([mean, peak], dim=1), weight, padding=SPATIAL_KERNEL // 2))


class _Gate(torch.autograd.Function):
    """``features * channel gate * pixel gate``.

    Only the features are kept, and what is small. The gates' own backward passes are torch's.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, *weights: Tensor) -> Tensor:
        mean, peak = features.mean(dim=(2, 3)), features.amax(dim=(2, 3))
        by_channel = _channel_gate(mean, peak, *weights[:-1])
        scaled = features * by_channel
        pixel_mean, pixel_peak = scaled.mean(dim=1, keepdim=True), scaled.amax(dim=1, keepdim=True)
        by_pixel = _pixel_gate(pixel_mean, pixel_peak, weights[-1])
        ctx.save_for_backward(features, by_channel, mean, peak, pixel_mean, pixel_peak, *weights)
        return scaled.mul_(by_pixel)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        (gradient,) = gradients
        features, kept, mean, peak, pixel_mean, pixel_peak, *weights = ctx.saved_tensors
        channels, pixels = features.shape[1], features.shape[2] * features.shape[3]
        with torch.enable_grad():
            channel_inputs = [leaf.detach().requires_grad_() for leaf in (mean, peak, *weights[:-1])]
            by_channel = _channel_gate(*channel_inputs)
            pixel_inputs = [leaf.detach().requires_grad_() for leaf in (pixel_mean, pixel_peak, weights[-1])]
            by_pixel = _pixel_gate(*pixel_inputs)

        scaled = features * kept
        is_peak = torch.eq(scaled, pixel_peak, out=torch.empty_like(scaled))
        to_pixel_gate = scaled.mul_(gradient).sum(dim=1, keepdim=True)
        to_mean, to_peak, to_kernel = torch.autograd.grad(by_pixel, pixel_inputs, to_pixel_gate)
        to_peak = to_peak / is_peak.sum(dim=1, keepdim=True)
        to_scaled = is_peak.mul_(to_peak).add_(to_mean / channels).addcmul_(gradient, by_pixel.detach())

        to_channel_gate = torch.mul(to_scaled, features, out=scaled).sum(dim=(2, 3))[..., None, None]
        to_mean, to_peak, *to_weights = torch.autograd.grad(by_channel, channel_inputs, to_channel_gate)
        is_peak = torch.eq(features, peak[..., None, None], out=scaled)
        to_peak = (to_peak / is_peak.sum(dim=(2, 3)))[..., None, None]
        to_mean = (to_mean / pixels)[..., None, None]
        to_features = is_peak.mul_(to_peak).add_(to_mean).addcmul_(to_scaled, kept)
        return to_features, *to_weights, to_kernel
