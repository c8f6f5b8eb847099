"""What training minimises.

A loss is built with ``mean_counts``, the mean number of counts per frame of the training data, and called
with predicted and measured intensities in counts and an optional mask of good pixels.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from ptycho_torch.variants import LOSSES

__all__ = ["LOSSES", "Loss"]


class Loss(Protocol):
    """Compare predicted with measured diffraction."""

    def __init__(self, mean_counts: float) -> None: ...

    def __call__(
        self, predicted_intensity: Tensor, measured_intensity: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Return the loss, averaged over all patterns [..., N, N]."""
        ...
