"""What stored frames are: amplitudes or counts, and how the one is made from the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.headers import UNITS, infer_units

_SAMPLE_ITEMS = 1 << 20


def native(array: NDArray[Any]) -> NDArray[Any]:
    """Give an array in native byte order and C order; it is copied only where it is not so already."""
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")


def to_amplitude(
    stack: NDArray[Any], units: str | None, problems: list[str]
) -> tuple[NDArray[np.float32], str]:
    """Turn stored frames into float32 amplitudes, or say why they are not what they are said to be.

    Parameters
    ----------
    stack
        (J, N, N) real frames as stored.
    units
        What they hold, see ``DataConfig.units``; None infers it from the first frames.
    problems
        Sentences are appended here.

    Returns
    -------
    tuple
        The amplitudes (the array itself where it already is one), and the units.
    """
    shown = infer_units(stack.reshape(-1)[:_SAMPLE_ITEMS])
    units = units or shown
    if units == "count_intensity":
        return root_of_counts(stack), units
    if units not in UNITS:
        said = "its values do not tell" if units is None else f"{units!r} is none"
        problems.append(
            f"the units of diffraction are not known, {said}: set data.units to one of {', '.join(UNITS)}"
        )
    elif shown == "count_intensity":
        problems.append(
            f"diffraction holds integers ({stack.dtype}) but is said to be in {units!r}: these look like "
            "counts, set data.units to 'count_intensity'"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is found as such
        return stack.astype(np.float32, copy=False), str(units)


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
