"""The default network: a convolutional autoencoder with an amplitude and a phase head."""

from __future__ import annotations

import torch
from jaxtyping import Complex64, Float32
from torch import Tensor, nn

from ptycho_torch.config import ModelConfig
from ptycho_torch.models.blocks import EncoderBlock
from ptycho_torch.models.heads import AMPLITUDE_ACTIVATIONS, Head, activation_bias, scaled_tanh

__all__ = ["ConvolutionalGenerator", "stage_widths"]


def stage_widths(N: int, n_filters_scale: int) -> tuple[list[int], list[int]]:
    """Return the channels of the encoder's and of the decoder's stages.

    The bottleneck is 8 x 8 for every N: each doubling of N adds one stage to both sides.
    """
    stages = (N // 8).bit_length() - 1
    encoder = [128 * n_filters_scale >> (stages - 1 - stage) for stage in range(stages)]
    decoder = [32 * n_filters_scale << (stages - 2 - stage) for stage in range(stages - 1)]
    return encoder, decoder


class ConvolutionalGenerator(nn.Module):
    """Map input amplitudes to complex object patches.

    With ``object_big`` every pattern of a group passes through the same weights and gives its own patch;
    the physics merges them. Without it the group's patterns are stacked as channels and give one
    patch that they share.

    Parameters
    ----------
    model
        Size, widths, heads and gates of the network.

    References
    ----------
    Hoidn, Mishra, Mehta, Sci. Rep. 13, 22789 (2023), section "Model architecture".
    """

    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        self.is_shared = not model.object_big
        patterns = model.gridsize**2 if self.is_shared else 1
        encoder, decoder = stage_widths(model.N, model.n_filters_scale)
        inputs = [patterns, *encoder]
        self.encoder = nn.Sequential(
            *(EncoderBlock(a, b, attention=model.attention) for a, b in zip(inputs, encoder, strict=False))
        )
        border = (model.border_channels or 1) if model.probe_big else 0
        self.amplitude = Head(
            encoder[-1],
            decoder,
            1,
            activation=AMPLITUDE_ACTIVATIONS[model.amp_activation],
            bias=activation_bias(model.amp_activation, model.amplitude_level),
            border_channels=border,
        )
        self.phase = Head(encoder[-1], decoder, 1, activation=scaled_tanh, bias=0.0, border_channels=border)

    def forward(self, input_amplitude: Float32[Tensor, "B C N N"]) -> Complex64[Tensor, "B C1 N N"]:
        """Return one object patch per pattern, or one per group.

        Parameters
        ----------
        input_amplitude
            Diffraction amplitudes, scaled by the frozen input scale.
        """
        groups = input_amplitude.shape[0]
        images = input_amplitude if self.is_shared else input_amplitude.flatten(0, 1)[:, None]
        encoded = self.encoder(images.contiguous(memory_format=torch.channels_last))
        amplitude, phase = self.amplitude(encoded), self.phase(encoded)
        patches = torch.complex(amplitude * torch.cos(phase), amplitude * torch.sin(phase))
        return patches.reshape(groups, -1, *patches.shape[-2:]).contiguous()
