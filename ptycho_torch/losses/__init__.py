"""What training minimises.

A loss is built with ``mean_counts``, the mean number of counts per frame of the training data, and called
with predicted and measured intensities in counts and an optional mask of good pixels.
"""

from __future__ import annotations

import math
from typing import Protocol

from torch import Tensor

from ptycho_torch.variants import LOSSES

__all__ = ["LOSSES", "Loss", "mean_over_patterns"]


class Loss(Protocol):
    """Compare predicted with measured diffraction."""

    def __init__(self, mean_counts: float) -> None: ...

    def __call__(
        self, predicted_intensity: Tensor, measured_intensity: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Return the loss, averaged over all patterns [..., N, N]."""
        ...


def mean_over_patterns(terms: Tensor, mask: Tensor | None, unit: float) -> Tensor:
    """Add up what the good pixels of each pattern contribute, and average in this unit.

    Parameters
    ----------
    terms
        Contribution of every pixel [..., N, N].
    mask
        True where a pixel is good [N, N]; None takes all.
    unit
        What counts as 1; a constant of the training data, so that batches weigh alike.
    """
    if mask is not None:
        terms = terms * mask
    return terms.sum() / (math.prod(terms.shape[:-2]) * unit)
