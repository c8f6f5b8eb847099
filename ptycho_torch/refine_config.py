"""How an image is refined by the physics alone. Read by the harness too, so nothing here needs torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from ptycho_torch.config import NonNegativeInt, PositiveFloat, PositiveInt, frozen_config
from ptycho_torch.field_types import Demands
from ptycho_torch.validation import Rule

__all__ = ["RefineConfig"]


def _needs_probe(modes: int, probe: Any) -> str | None:
    return "needs a probe that is refined: set probe to true" if modes > 1 and not probe else None


@frozen_config(rules=(Rule(("modes", "probe"), _needs_probe),))
class RefineConfig:
    """How the stitched object is improved by gradient steps through the forward model.

    Parameters
    ----------
    passes
        Passes over all frames of the scan.
    batches
        Batches that the frames are divided into, anew for every pass; each moves object and probe once.
    gradient
        ``amplitude`` (differences of amplitudes, for many counts) or ``poisson`` (for few).
    start
        ``network``: the stitched image, and the probe that it was made with; where the probe is held, a phase
        slope that the image has and its frames do not is taken out first. ``flat``: an object of one value,
        and the data's own probe.
    object_rate, probe_rate
        Step over the one that is best for a batch by its linearised model; 1 is that one.
    momentum
        Fraction of the last step that is repeated; in the first pass it grows to there from nothing, in equal
        parts from batch to batch.
    last_rate
        Factor on all steps in the last pass; it falls to there from 1, in equal parts.
    weight_floor
        Share of the largest illumination in the preconditioner: damps pixels that hardly any light reaches.
    probe
        Refine the probe too; its power is kept, and what it gains or loses goes to the object.
    modes
        Probe modes in all: where the probe has fewer, weak ones are added.
    probe_after
        Passes before the probe is first moved.
    half_data
        Besides, refine each half of the frames by itself, from a flat object, and correlate the two.
    half_data_probe
        ``own``: each half begins with the data's own probe, and refines it where `probe` says so; ``whole``:
        both hold the probe fixed that all frames have led to. Then only the objects are independent, and an
        error of the probe, which both share, is not seen.
    """

    passes: PositiveInt = 20
    batches: PositiveInt = 8
    gradient: Literal["amplitude", "poisson"] = "amplitude"
    start: Literal["network", "flat"] = "network"
    object_rate: PositiveFloat = 0.6
    probe_rate: PositiveFloat = 0.6
    momentum: Annotated[float, Demands(ge=0, lt=1)] = 0.7
    last_rate: Annotated[float, Demands(gt=0, le=1)] = 0.1
    weight_floor: Annotated[float, Demands(gt=0, le=1)] = 0.05
    probe: bool = False
    modes: Annotated[int, Demands(ge=1, le=16)] = 1
    probe_after: NonNegativeInt = 1
    half_data: bool = False
    half_data_probe: Literal["own", "whole"] = "own"
