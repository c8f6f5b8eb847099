"""Propagation of exit waves to the detector."""

from __future__ import annotations

import torch
from jaxtyping import Complex64, Float32
from torch import Tensor

__all__ = ["far_field_intensity"]


def far_field_intensity(exit_waves: Complex64[Tensor, "*lead M N N"]) -> Float32[Tensor, "*lead N N"]:
    """Return the far-field intensity of mutually incoherent exit waves.

    The transform is orthonormal, so intensity and exit waves hold the same energy. The zero frequency
    stands at ``[N/2, N/2]``. Modes add in intensity.

    Parameters
    ----------
    exit_waves
        One exit wave per probe mode M, on the object's pixel grid.
    """
    field = torch.fft.fft2(exit_waves, norm="ortho")
    intensity = (field.real * field.real + field.imag * field.imag).sum(dim=-3)
    shifted: Tensor = torch.fft.fftshift(intensity, dim=(-2, -1))
    return shifted
