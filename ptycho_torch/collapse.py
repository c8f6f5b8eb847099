"""Tell a reconstruction from a run that only looks trained.

A network can reach a decent loss by explaining every frame as the average frame, or put out the same patch
whatever it sees. Each check asks for little more than nothing: a soft picture passes, an empty one does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.alignment import well_covered
from ptycho_torch.errors import DataError
from ptycho_torch.interpolation import unit_phasors

LEAST_EXPLAINED = 0.01
"""The mean frame is the best of all constant predictions, so an output that ignores its input explains at
most 0. A true object blurred by 2 px (phase correlation 0.90) explains 0.016 to 0.036 on dead leaves; the
exact one 0.5 at 1e4 photons a frame, and a reference of a measured Siemens star 0.69."""
LEAST_VARIATION = 0.01
"""True patches reach 0.27 (dead leaves) and 0.37 (Siemens star), blurred by 16 px still 0.027; one patch
repeated gives 1e-7."""
LEAST_SPREAD = 0.01
"""True objects reach 0.05 in amplitude and 0.3 rad to 0.4 rad in phase, blurred by 16 px still 0.012 and
0.05 rad. Pure phase or amplitude objects are legal, so both must be flat to be a collapse."""
MOST_FRAMES = 256
"""Frames, spread evenly over the scan, on which the variation is measured."""


@dataclass(frozen=True)
class CollapseVerdict:
    """Whether a run collapsed, why, and the figures that say so.

    Parameters
    ----------
    is_collapsed
        True when there is at least one reason.
    reasons
        One sentence each.
    figures
        ``explained`` (fraction of the loss between the mean-frame predictor and a perfect prediction that
        the network closed), ``variation`` (RMS difference between the patches of different frames, global
        phases removed, over their RMS value), ``amplitude_spread`` (standard deviation over mean) and
        ``phase_spread_rad``. A figure that cannot be formed from non-finite values is left out.
    """

    is_collapsed: bool
    reasons: tuple[str, ...]
    figures: dict[str, float]


def assess(
    *,
    loss: float,
    mean_frame_loss: float,
    perfect_loss: float,
    patches: NDArray[Any],
    probe_intensity: NDArray[Any],
    obj: NDArray[Any],
    coverage: NDArray[Any],
) -> CollapseVerdict:
    """Judge a trained network by its loss, its patches and its stitched object.

    Parameters
    ----------
    loss, mean_frame_loss, perfect_loss
        One loss over the same frames for the network, for the mean frame as prediction of every frame, and
        for the measured frames themselves as prediction (the least value that the loss can take).
    patches
        Complex patches of all frames, shape (J, N, N).
    probe_intensity
        Weight of the patches' pixels, shape (N, N): what is not lit is not judged.
    obj, coverage
        The stitched object and its coverage, shape (H, W).

    Raises
    ------
    DataError
        When shapes disagree, or the mean frame predicts as well as the frames themselves: there is
        nothing to learn in such data.
    """
    patches, obj = np.asarray(patches), np.asarray(obj)
    if patches.ndim != 3 or np.shape(probe_intensity) != patches.shape[1:] or np.shape(coverage) != obj.shape:
        raise DataError(
            f"patches {patches.shape}, probe intensity {np.shape(probe_intensity)}, object {obj.shape} and "
            f"coverage {np.shape(coverage)} do not fit"
        )
    if mean_frame_loss <= perfect_loss:
        raise DataError(
            f"the mean frame's loss {mean_frame_loss:.6g} is not above the least possible "
            f"{perfect_loss:.6g}: all frames are alike and hold nothing to learn"
        )
    reasons: list[str] = []
    figures: dict[str, float] = {}
    if math.isfinite(loss):
        figures["explained"] = (mean_frame_loss - loss) / (mean_frame_loss - perfect_loss)
        if figures["explained"] < LEAST_EXPLAINED:
            reasons.append(
                f"the loss {loss:.6g} does not beat {mean_frame_loss:.6g}, that of predicting the mean "
                f"frame: it explains {figures['explained']:.1%} of what there is to explain (at least "
                f"{LEAST_EXPLAINED:.0%}); train for more epochs, or check probe, positions and units"
            )
    else:
        reasons.append(f"the loss is {loss}")
    if np.isfinite(patches).all() and np.isfinite(obj).all():
        _judge_variation(patches, np.asarray(probe_intensity, dtype=np.float64), figures, reasons)
        _judge_spread(obj, np.asarray(coverage), figures, reasons)
    else:
        reasons.append("the reconstruction holds values that are not finite")
    return CollapseVerdict(bool(reasons), tuple(reasons), figures)


def _judge_variation(
    patches: NDArray[Any], weight: NDArray[np.float64], figures: dict[str, float], reasons: list[str]
) -> None:
    figures["variation"] = variation_between_frames(patches, weight)
    if len(patches) > 1 and figures["variation"] < LEAST_VARIATION:
        reasons.append(
            f"the patches differ by {figures['variation']:.2%} between frames (at least "
            f"{LEAST_VARIATION:.0%}): the output does not depend on the input"
        )


def variation_between_frames(patches: NDArray[Any], weight: NDArray[Any]) -> float:
    """Measure how much the patches of different frames differ, whatever their global phases.

    Returns
    -------
    float
        Weighted RMS difference from the mean patch over the weighted RMS value: 0 for one patch repeated,
        1 for patches that have nothing in common; 0 for patches that are zero everywhere.
    """
    chosen = np.unique(np.linspace(0, len(patches) - 1, min(len(patches), MOST_FRAMES)).astype(np.int64))
    lit = np.asarray(patches)[chosen].astype(np.complex128) * np.sqrt(np.asarray(weight, dtype=np.float64))
    power = float((np.abs(lit) ** 2).sum(axis=(1, 2)).mean())
    if power == 0:
        return 0.0
    mean = lit[0]
    for _ in range(3):
        phases = unit_phasors((mean.conj() * lit).sum(axis=(1, 2))).conj()
        mean = (lit * phases[:, None, None]).mean(axis=0)
    common = float((np.abs(mean) ** 2).sum()) / power
    return math.sqrt(max(1 - common, 0.0))


def _judge_spread(
    obj: NDArray[Any], coverage: NDArray[Any], figures: dict[str, float], reasons: list[str]
) -> None:
    seen = np.asarray(obj, dtype=np.complex128)[well_covered(coverage)]
    amplitude = np.abs(seen)
    level = float(amplitude.mean()) if amplitude.size else 0.0
    if level == 0:
        figures["amplitude_spread"] = figures["phase_spread_rad"] = 0.0
        reasons.append("the object is zero everywhere")
        return
    phase = np.angle(seen * np.conj(seen.sum()))
    figures["amplitude_spread"] = float(amplitude.std()) / level
    figures["phase_spread_rad"] = float(phase.std())
    if figures["amplitude_spread"] < LEAST_SPREAD and figures["phase_spread_rad"] < LEAST_SPREAD:
        reasons.append(
            f"the object is flat: amplitude varies by {figures['amplitude_spread']:.2%} and phase by "
            f"{figures['phase_spread_rad']:.4f} rad (one of the two must reach {LEAST_SPREAD:.2f})"
        )
