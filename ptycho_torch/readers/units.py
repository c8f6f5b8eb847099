"""What stored frames are: amplitudes or counts, and how the one is made from the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.headers import UNITS, infer_units


def native(array: NDArray[Any]) -> NDArray[Any]:
    """Give an array in native byte order and C order; it is copied only where it is not so already."""
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")


def settle_units(sample: NDArray[Any], units: str | None, problems: list[str]) -> str:
    """Decide what stored frames hold, or say why they are not what they are said to be.

    Parameters
    ----------
    sample
        Values of the first frames as stored, real.
    units
        What they hold, see ``DataConfig.units``; None infers it from the sample.
    problems
        Sentences are appended here.
    """
    shown = infer_units(sample)
    units = units or shown
    if units == "count_intensity":
        return units
    if units not in UNITS:
        said = "its values do not tell" if units is None else f"{units!r} is none"
        problems.append(
            f"the units of diffraction are not known, {said}: set data.units to one of {', '.join(UNITS)}"
        )
    elif shown == "count_intensity":
        problems.append(
            f"diffraction holds integers ({sample.dtype}) but is said to be in {units!r}: these look like "
            "counts, set data.units to 'count_intensity'"
        )
    return str(units)


def to_amplitude(frames: NDArray[Any], units: str) -> NDArray[np.float32]:
    """Turn stored frames (n, N, N) into float32 amplitudes."""
    if units == "count_intensity":
        return root_of_counts(frames)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is found as such
        return frames.astype(np.float32, copy=False)


def root_of_counts(counts: NDArray[Any]) -> NDArray[np.float32]:
    """Take the correctly rounded root of counts, frame by frame: through float64, back to float32.

    Parameters
    ----------
    counts
        (J, N, N), integers or real. A negative count stays negative, for the scan's check to find.
    """
    amplitude = np.empty(counts.shape, dtype=np.float32)
    for index, frame in enumerate(counts):
        wide = frame.astype(np.float64)
        with np.errstate(over="ignore"):
            amplitude[index] = np.copysign(np.sqrt(np.abs(wide)), wide)
    return amplitude
