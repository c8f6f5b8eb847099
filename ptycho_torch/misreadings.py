"""Ways in which stored frames may have been misread: turns, centres and values, each with its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CENTRES", "ROOTS", "TURNS", "VALUES"]

ROOTS = "the roots of the values (the file holds intensities)"
"""The name of what ``count_intensity`` reads."""

Reading = Callable[[NDArray[Any]], NDArray[Any]]


def _turn(is_transposed: bool, axes: tuple[int, ...], moved_px: int) -> Reading:
    def turn(frames: NDArray[Any]) -> NDArray[Any]:
        frames = np.swapaxes(frames, -1, -2) if is_transposed else frames
        return np.roll(np.flip(frames, axes), moved_px, axes) if axes else frames

    return turn


def _turns() -> Iterator[tuple[str, Reading]]:
    """Yield every turn of a square, about the zero frequency at [N/2, N/2] and about the frame's middle."""
    names = {
        (False, ()): "",
        (True, ()): "the detector transposed",
        (False, (-2,)): "the detector's rows reversed",
        (False, (-1,)): "the detector's columns reversed",
        (False, (-2, -1)): "the detector turned by half a turn",
        (True, (-2,)): "the detector turned by a quarter turn, anticlockwise",
        (True, (-1,)): "the detector turned by a quarter turn, clockwise",
        (True, (-2, -1)): "the detector transposed about its other diagonal",
    }
    for (is_transposed, axes), name in names.items():
        yield name, _turn(is_transposed, axes, 1)
        if axes:
            yield f"{name}, about the middle of the frames", _turn(is_transposed, axes, 0)


TURNS: Mapping[str, Reading] = MappingProxyType(dict(_turns()))
CENTRES: Mapping[str, Reading] = MappingProxyType(
    {
        "": lambda frames: frames,
        "the zero frequency moved from the corner to the centre": lambda frames: np.fft.fftshift(
            frames, axes=(-2, -1)
        ),
    }
)
VALUES: Mapping[str, Reading] = MappingProxyType(
    {
        "": lambda amplitude: amplitude,
        ROOTS: np.sqrt,
        "the squares of the values (data.units: the file holds amplitudes)": np.square,
    }
)
