"""Figures that a run must reach, as given on the command line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import UserError

__all__ = ["METRICS", "Requirement", "read_requirements", "unmet"]

_REQUIREMENT = re.compile(r"([\w.]+)\s*(>=|<=)\s*([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)")

_OF_IMAGES = tuple(
    f"{image}_{figure}" for image in ("phase", "amplitude") for figure in ("correlation", "ssim", "psnr_db")
)
_UPSTREAM = tuple(
    f"{way}_{figure}"
    for way in ("upstream", "upstream_unregistered")
    for figure in (
        *(f"{image}_{error}" for image in ("phase", "amplitude") for error in ("mae", "mse", "psnr_db")),
        *("phase_ssim", "phase_ms_ssim", "amplitude_ssim", "amplitude_ms_ssim", "amplitude_frc50"),
    )
)
_COLLAPSE = tuple(
    f"collapse_{name}" for name in ("explained", "variation", "amplitude_spread", "phase_spread_rad")
)
_OF_AN_IMAGE = (
    *("r_factor", "r_factor_poisson_floor", "frc_0.5_resolution_px", "frc_1_7_resolution_px"),
    *("registered_shift_row_px", "registered_shift_column_px", "added_phase_rad", "amplitude_scale"),
    *("removed_ramp_row_rad_per_px", "removed_ramp_column_rad_per_px"),
    *("evaluated_rows", "evaluated_columns", *_OF_IMAGES, *_UPSTREAM),
)
_OF_A_SCAN = (
    *("patches_accepted", "patches_total", "inference_batches"),
    *("mean_counts_per_frame", "r_factor_mean_frame"),
)
_OF_REFINEMENT = ("misfit", "passes_taken_back", "half_bit_resolution_px", "one_bit_resolution_px")
METRICS = frozenset(
    {
        *("train_loss", "val_loss", "epochs", "steps", "mean_frame_loss", "perfect_loss"),
        *(*_COLLAPSE, *_OF_A_SCAN, *_OF_AN_IMAGE),
        *(f"test_{name}" for name in (*_OF_A_SCAN, *_OF_AN_IMAGE)),
        *(f"refined_{name}" for name in (*_OF_AN_IMAGE, *_OF_REFINEMENT)),
    }
)
"""Names of every figure that a run can have."""


@dataclass(frozen=True)
class Requirement:
    """A figure that a run must reach."""

    metric: str
    is_floor: bool
    bound: float


def read_requirements(texts: Sequence[str]) -> tuple[Requirement, ...]:
    """Read ``phase_correlation>=0.8`` and the like.

    Raises
    ------
    UserError
        A text is no such condition, or asks for a figure that no run has.
    """
    requirements = []
    for text in texts:
        match = _REQUIREMENT.fullmatch(text.strip())
        if match is None:
            raise UserError(f"--require {text!r} is no condition: write for example phase_correlation>=0.8")
        if match[1] not in METRICS:
            near = difflib.get_close_matches(match[1], sorted(METRICS), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(METRICS))}"
            raise UserError(f"--require {text!r}: there is no figure {match[1]!r}, {hint}")
        requirements.append(Requirement(match[1], match[2] == ">=", float(match[3])))
    return tuple(requirements)


def unmet(requirements: Sequence[Requirement], metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for every required figure that was not reached."""
    for wanted in requirements:
        value = metrics.get(wanted.metric)
        sign = ">=" if wanted.is_floor else "<="
        if not isinstance(value, int | float):
            yield f"{wanted.metric} was not measured, required is {sign} {wanted.bound:g}"
        elif (value < wanted.bound) if wanted.is_floor else (value > wanted.bound):
            yield f"{wanted.metric} is {value:.4g}, required is {sign} {wanted.bound:g}"
