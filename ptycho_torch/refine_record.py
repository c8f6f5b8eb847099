"""What a refinement leaves: its passes, its image, or the word that it diverges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.errors import PtychoError
from ptycho_torch.stitching import Reconstruction

__all__ = ["DivergenceError", "Pass", "Refined"]


class DivergenceError(PtychoError):
    """The refinement diverges, however short its steps."""


@dataclass(frozen=True)
class Pass:
    """One pass over the frames.

    Parameters
    ----------
    number
        From 1; 0 is the start, before any step.
    misfit
        Mean misfit of a used pixel, of the frames as they were met in this pass; of the last pass, and of one
        in a single batch, of all frames after it.
    object_step, probe_step
        Mean length of the steps, over the gradient.
    batches, rate
        Batches of the pass, and the factor on all steps: below 1 after a pass was taken back.
    is_taken_back
        The pass ended worse than it may, and was undone.
    """

    number: int
    misfit: float
    object_step: float
    probe_step: float
    batches: int
    rate: float
    is_taken_back: bool


@dataclass(frozen=True, eq=False)
class Refined:
    """What a refinement ended with.

    Parameters
    ----------
    image
        The object, on the canvas of whole patches.
    probe
        Its probe, orthogonal modes [M, N, N], on the scale on which ``abs(F(P O))**2`` is in counts.
    passes
        Every pass in its order, those that were taken back too.
    slope_rad_px
        Phase slope that was taken out of the image that it began with, by rows and columns; None where none
        was looked for: from a flat start, and with a probe that is refined, which would take it up.
    """

    image: Reconstruction
    probe: NDArray[np.complex64]
    passes: tuple[Pass, ...]
    slope_rad_px: tuple[float, float] | None = None

    @property
    def num_taken_back(self) -> int:
        """Number of passes that were taken back."""
        return sum(one.is_taken_back for one in self.passes)
