"""Mean absolute error of diffraction amplitudes."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from ptycho_torch.losses import mean_over_patterns

__all__ = ["MAELoss", "amplitude"]

SMALLEST_AMPLITUDE = 1e-4


class MAELoss:
    """Sum of absolute differences of amplitudes per pattern, over the largest sum the mean frame could have.

    Parameters
    ----------
    mean_counts
        Mean counts per frame of the training data; a frame of N x N pixels with these counts has amplitudes
        that add up to at most ``N sqrt(mean_counts)``, the frozen unit of the loss.
    """

    def __init__(self, mean_counts: float) -> None:
        self.mean_counts = mean_counts

    def __call__(
        self,
        predicted_intensity: Float32[Tensor, "*lead N N"],
        measured_intensity: Float32[Tensor, "*lead N N"],
        mask: Bool[Tensor, "N N"] | None = None,
    ) -> Float32[Tensor, ""]:
        """Return the loss, averaged over all patterns."""
        terms = (amplitude(predicted_intensity) - amplitude(measured_intensity)).abs()
        return mean_over_patterns(terms, mask, terms.shape[-1] * math.sqrt(self.mean_counts))


def amplitude(intensity: Tensor) -> Tensor:
    """Return the square root of an intensity, correctly rounded on every processor.

    Single-precision roots depend on the processor's reciprocal-root table, so the root is taken in double
    precision. The derivative is bounded where the amplitude vanishes.
    """
    root: Tensor = _Amplitude.apply(intensity)  # type: ignore[no-untyped-call]
    return root


class _Amplitude(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, intensity: Tensor) -> Tensor:
        root = intensity.double().sqrt().to(intensity.dtype)
        ctx.save_for_backward(root)
        return root

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (root,) = ctx.saved_tensors
        gradient: Tensor = gradients[0] * 0.5 / root.clamp(min=SMALLEST_AMPLITUDE)
        return gradient
