"""How far predicted counts are from measured ones, and the direction in which the exit waves must change."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

__all__ = ["MISFITS", "Misfit", "amplitudes"]

DARK_AMPLITUDE = 1e-3
"""A predicted amplitude below this, in roots of counts, has no phase that could be kept."""
DARK_COUNTS = 0.01
"""Counts to which the Poisson gradient is softened: where none were expected, one says little."""
_TINY = 1e-12


class Misfit(Protocol):
    """A distance of predicted from measured diffraction."""

    def __call__(self, intensity: Tensor, amplitude: Tensor, used: Tensor | None) -> tuple[Tensor, float]:
        """Return the factor that turns the far field into its gradient, and the summed misfit.

        Parameters
        ----------
        intensity
            Predicted counts [B, N, N].
        amplitude
            Square root of the measured counts [B, N, N], zero where a pixel is not used.
        used
            1 where a pixel is used and 0 elsewhere [N, N]; None uses all.
        """
        ...


def amplitude_misfit(intensity: Tensor, amplitude: Tensor, used: Tensor | None) -> tuple[Tensor, float]:
    """Sum (sqrt(I) - a)^2; the gradient in the conjugate far field is (1 - a / sqrt(I)) times the field."""
    predicted, difference = amplitudes(intensity, amplitude, used)
    return difference / predicted, float(difference.square().sum(dtype=torch.float64))


def amplitudes(intensity: Tensor, amplitude: Tensor, used: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the root of predicted counts, nowhere dark, and what it is above the measured amplitude."""
    # NumPy's root is the processor's own and correctly rounded; torch's is not on every processor.
    predicted = torch.from_numpy(np.sqrt(intensity.numpy()))
    difference = predicted - amplitude
    if used is not None:
        difference *= used
    return predicted.clamp(min=DARK_AMPLITUDE), difference


def poisson_misfit(intensity: Tensor, amplitude: Tensor, used: Tensor | None) -> tuple[Tensor, float]:
    """Sum I - k + k log(k / I), half the deviance; the gradient is (1 - k / I) times the field, softened."""
    counts = amplitude * amplitude
    deviance = intensity - counts + counts * (torch.log(counts + _TINY) - torch.log(intensity + _TINY))
    if used is not None:
        deviance *= used
    factor = 1 - counts / (intensity + DARK_COUNTS)
    return factor if used is None else factor * used, float(deviance.sum(dtype=torch.float64))


MISFITS: Mapping[str, Misfit] = MappingProxyType({"amplitude": amplitude_misfit, "poisson": poisson_misfit})
"""Name of a gradient in ``RefineConfig`` to what it descends."""
