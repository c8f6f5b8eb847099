"""What stored frames are: amplitudes or counts, and how the one is made from the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.readers.scan import UNITS


def to_amplitude(
    stack: NDArray[Any], units: str | None, problems: list[str]
) -> tuple[NDArray[np.float32], str]:
    """Turn stored frames into float32 amplitudes, or say why they are not what they are said to be.

    Parameters
    ----------
    stack
        (J, N, N) frames as stored.
    units
        What they hold, see ``DataConfig.units``; None infers it from the first frame.
    problems
        Sentences are appended here.

    Returns
    -------
    tuple
        The amplitudes (the array itself where it already is one), and the units.
    """
    if stack.dtype.kind not in "fiu":
        problems.append(f"diffraction has type {stack.dtype}: it must be real")
        return np.zeros(stack.shape, dtype=np.float32), units or UNITS[0]
    units = units or infer_units(stack)
    if units == "count_intensity":
        return root_of_counts(stack), units
    if stack.dtype.kind in "iu" or _looks_like_counts(stack):
        problems.append(
            f"diffraction holds integers ({stack.dtype}) but is said to be in {units}: these look like counts, "
            "set data.units to 'count_intensity'"
        )
    return stack.astype(np.float32, copy=False), units


def root_of_counts(counts: NDArray[Any]) -> NDArray[np.float32]:
    """Take the correctly rounded root of counts, frame by frame: through float64, back to float32."""
    amplitude = np.empty(counts.shape, dtype=np.float32)
    for index, frame in enumerate(counts):
        with np.errstate(invalid="ignore"):
            root = np.sqrt(frame.astype(np.float64))
        amplitude[index] = np.where(frame < 0, -1.0, root)
    return amplitude


def infer_units(stack: NDArray[Any]) -> str:
    """Infer the units of frames from the first one's values."""
    frame = stack[:1].astype(np.float64)
    if stack.dtype.kind in "iu" or _looks_like_counts(stack):
        return "count_intensity"
    squares = np.square(frame)
    is_counts = bool(np.all(np.abs(squares - np.rint(squares)) <= 1e-5 * np.maximum(squares, 1)))
    return "count_amplitude" if is_counts and bool(squares.any()) else "normalized_amplitude"


def _looks_like_counts(stack: NDArray[Any]) -> bool:
    first = stack[:1]
    return bool(np.all(first == np.rint(first))) and bool(np.max(first, initial=0) > 1)
