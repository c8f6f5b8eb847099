"""Negative log-likelihood of photon counting."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from ptycho_torch.losses import mean_over_patterns

__all__ = ["PoissonLoss"]

SMALLEST_RATE = 1e-8


class PoissonLoss:
    """Poisson negative log-likelihood per pattern, in units of the mean number of counts.

    Each pixel contributes ``rate - k log(rate) + log(k!)`` with the predicted rate, at least 1e-8, and the
    measured counts k. It is summed as ``rate - k - k log(rate / k)`` plus a constant of the data, because at
    millions of counts single precision would lose the difference of the large terms.

    Parameters
    ----------
    mean_counts
        Mean counts per frame of the training data: the frozen unit of the loss.

    References
    ----------
    Thibault and Guizar-Sicairos, New J. Phys. 14, 063004 (2012), equation 6.
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
        rate = predicted_intensity.clamp(min=SMALLEST_RATE)
        counts = measured_intensity
        nonzero = torch.where(counts > 0, counts, torch.ones_like(counts))
        terms = rate - counts - counts * torch.log(rate / nonzero) + _entropy(counts)
        return mean_over_patterns(terms, mask, self.mean_counts)


@torch.no_grad()
def _entropy(counts: Tensor) -> Tensor:
    # log(k!) + k - k log(k); double precision, as the terms nearly cancel.
    exact = counts.double()
    return (torch.lgamma(exact + 1) + exact - torch.xlogy(exact, exact)).to(counts.dtype)
