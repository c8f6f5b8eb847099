"""A network of two convolutions, so that a proof's time goes into deaths and not into arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ptycho_torch.config import ModelConfig
from ptycho_torch.models.heads import activation_bias, scaled_tanh

__all__ = ["TinyGenerator"]

_CHANNELS, _BLOCK = 8, 8


class TinyGenerator(nn.Module):
    """Blocks of a group's patterns to blocks of its one shared patch.

    Parameters
    ----------
    model
        Size and amplitude head of the network.
    """

    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        assert not model.object_big, "it gives one patch a group"
        self.encoder = nn.Conv2d(model.gridsize**2, _CHANNELS, _BLOCK, stride=_BLOCK)
        self.decoder = nn.ConvTranspose2d(_CHANNELS, 2, _BLOCK, stride=_BLOCK)
        self.bias = activation_bias("sigmoid", model.amplitude_level)

    def forward(self, input_amplitude: Tensor) -> Tensor:
        """Map amplitudes [B, C, N, N] to complex patches [B, 1, N, N]."""
        amplitude, phase = self.decoder(torch.relu(self.encoder(input_amplitude))).split(1, dim=1)
        amplitude, phase = torch.sigmoid(amplitude + self.bias), scaled_tanh(phase)
        return torch.complex(amplitude * torch.cos(phase), amplitude * torch.sin(phase)).contiguous()
