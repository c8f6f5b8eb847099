"""The data contract: what may be wrong with the arrays of a scan, in sentences."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.headers import ScanHeader
from ptycho_torch.raster import num_raster_squares

__all__ = [
    "companion_problems",
    "complex_problems",
    "nearest_px",
    "repeated_positions",
    "stack_problems",
    "value_problems",
    "with_geometry",
]

_NEIGHBOURS, _ASKED_FRAMES = 8, 1024
_LARGEST = float(np.finfo(np.float32).max)
_DIMMEST, _BRIGHTEST = 1e-15, 1e15
"""Squares of what lies between, summed over a frame, are far from the ends of float32."""


def repeated_positions(positions_px: NDArray[np.float64]) -> int:
    """Count the positions (J, 2) at which more than one frame was taken."""
    _, counts = np.unique(positions_px, axis=0, return_counts=True)
    return int((counts > 1).sum())


def with_geometry(header: ScanHeader, positions_px: NDArray[np.float64]) -> ScanHeader:
    """Add to a header how the positions (J, 2), finite, lie to each other."""
    return dataclasses.replace(
        header,
        n_repeated_positions=repeated_positions(positions_px),
        neighbours_px=farthest_neighbours(positions_px),
        n_squares=num_raster_squares(positions_px),
    )


def farthest_neighbours(positions_px: NDArray[np.float64]) -> tuple[float, ...]:
    """Return how far from each other frames lie that may form a group.

    Parameters
    ----------
    positions_px
        (J, 2) positions, finite, pixels. Of a long scan not every frame is asked.

    Returns
    -------
    tuple of float
        For k = 1, 2, ... the largest distance of a frame to its k-th nearest other one, pixels.
    """
    count = min(_NEIGHBOURS, len(positions_px) - 1)
    farthest = np.zeros(count)
    for row, column in positions_px[:: -(-len(positions_px) // _ASKED_FRAMES)]:
        distance = np.hypot(positions_px[:, 0] - row, positions_px[:, 1] - column)
        nearest = np.sort(np.partition(distance, count)[: count + 1])
        farthest = np.maximum(farthest, nearest[1:])
    return tuple(farthest.tolist())


def nearest_px(positions_px: NDArray[np.float64]) -> float:
    """Return how far a frame's nearest other one lies, in the middle case, pixels; 0 for a single frame.

    Parameters
    ----------
    positions_px
        (J, 2) positions, finite, pixels. Of a long scan not every frame is asked.
    """
    nearest = []
    for row, column in positions_px[:: -(-len(positions_px) // _ASKED_FRAMES)]:
        distance = np.hypot(positions_px[:, 0] - row, positions_px[:, 1] - column)
        elsewhere = distance[distance > 0]
        nearest += [float(elsewhere.min())] if elsewhere.size else []
    return float(np.median(nearest)) if nearest else 0.0


def companion_problems(
    n_frames: int,
    side: int,
    corners_px: NDArray[np.float64],
    probe: NDArray[np.complex64] | None,
    obj: NDArray[np.complex64] | None,
    mask: NDArray[Any] | None,
) -> list[str]:
    """Say what is wrong with all of a ``Scan`` but its frames; the arrays are as described there.

    `probe` is None where a file holds none yet.
    """
    problems = []
    if corners_px.shape != (n_frames, 2):
        number = len(corners_px) if corners_px.ndim else 0
        problems.append(
            f"positions: {number} for {n_frames} frames (array of shape {corners_px.shape}): "
            "give one (row, column) for each frame"
        )
    elif not np.isfinite(corners_px).all():
        problems.append("positions hold NaN or infinity: give finite pixels")
    elif n_frames > 1 and not np.ptp(corners_px, axis=0).any():
        problems.append(
            f"all {n_frames} frames stand at one position: frames at different, overlapping positions are "
            "needed, check how the positions were written"
        )
    elif obj is not None and obj.ndim == 2:
        problems += _outside_problems(corners_px, side, (obj.shape[0], obj.shape[1]))
    if probe is not None:
        problems += complex_problems("probe", probe, (None, side, side))
    if not problems and probe is not None and not np.any(probe):
        problems.append("the probe is zero everywhere: it lights nothing")
    elif not problems and probe is not None:
        problems += _scale_problems("the probe", float(np.abs(probe).max()))
    if obj is not None:
        problems += complex_problems("object", obj, (None, None))
    if mask is not None:
        if mask.shape != (side, side) or mask.dtype != np.bool_:
            problems.append(
                f"mask has shape {mask.shape} and type {mask.dtype} (legal: bool ({side}, {side}))"
            )
        elif not mask.any():
            problems.append("the mask uses no pixel: True means that the pixel is used")
    return problems


def stack_problems(stack: NDArray[Any]) -> list[str]:
    """Say what is wrong with the shape and the type of frames, (J, N, N) float32."""
    shape = stack.shape
    if stack.ndim != 3:
        return [
            f"diffraction has {stack.ndim} dimensions, shape {shape}: frames must be stacked as (J, N, N)"
        ]
    if shape[1] != shape[2]:
        swapped = shape[0] == shape[1]
        cure = (
            "it looks like (N, N, J): store numpy.moveaxis(stack, -1, 0)" if swapped else "crop it to squares"
        )
        return [f"diffraction has shape {shape}, frames must be stacked as (J, N, N): {cure}"]
    if shape[0] == 0:
        return ["diffraction holds no frames"]
    if shape[1] % 2 or shape[1] < 2:
        return [f"frames are {shape[1]} pixels wide: N must be even, the zero frequency stands at N/2"]
    if stack.dtype != np.float32:
        return [f"diffraction has type {stack.dtype}: it must be real, float32"]
    return []


def value_problems(stack: Iterable[NDArray[Any]], mask: NDArray[Any] | None) -> list[str]:
    """Say what is wrong with the values of frames.

    Parameters
    ----------
    stack
        The frames in their order, real, in pieces (n, N, N).
    mask
        As in :class:`ptycho_torch.readers.scan.Scan`; pixels that are not used may hold anything.
    """
    bad_frames: list[int] = []
    negative_frames: list[int] = []
    brightest = np.nan
    first, model, are_alike = 0, None, True
    for block in stack:
        used = mask if mask is not None and mask.shape == block.shape[1:] and mask.dtype == np.bool_ else None
        values = block.reshape(len(block), -1) if used is None else block[:, used]
        if values.size:
            lowest, highest = values.min(axis=1), values.max(axis=1)
            is_bad = ~((lowest >= -_LARGEST) & (highest <= _LARGEST))
            bad_frames += (np.flatnonzero(is_bad) + first).tolist()
            negative_frames += (np.flatnonzero(~is_bad & (lowest < 0)) + first).tolist()
            brightest = np.fmax(brightest, highest.max())
            model = values[0].copy() if model is None else model
            are_alike = are_alike and bool((values == model).all())
        first += len(block)
    problems = []
    if bad_frames:
        problems.append(
            f"diffraction: {len(bad_frames)} frames hold NaN or infinity, the first is frame "
            f"{bad_frames[0]}: mask the pixels or drop the frames"
        )
    if negative_frames:
        problems.append(
            f"diffraction: {len(negative_frames)} frames hold negative values, the first is frame "
            f"{negative_frames[0]}: amplitudes and counts are never negative"
        )
    if problems or np.isnan(brightest):  # a mask may leave nothing to be judged
        return problems
    if brightest <= 0:
        return ["diffraction is zero in every frame: there is nothing to learn from"]
    if are_alike and first > 1:
        return [f"diffraction: all {first} frames are the same: there is nothing to learn from"]
    return _scale_problems("diffraction", float(brightest))


def _scale_problems(name: str, brightest: float) -> list[str]:
    if _DIMMEST <= brightest <= _BRIGHTEST:
        return []
    return [
        f"{name}: the largest value is {brightest:.3g}, too far from 1 to be computed with "
        f"(legal: {_DIMMEST:g} to {_BRIGHTEST:g}): scale it, and check its units"
    ]


def _outside_problems(corners_px: NDArray[np.float64], side: int, shape: tuple[int, int]) -> list[str]:
    limit = np.array(shape, dtype=np.float64) - side
    outside = np.flatnonzero(((corners_px < 0) | (corners_px > limit)).any(axis=1))
    if not len(outside):
        return []
    row, column = corners_px[outside[0]]
    return [
        f"positions: the patches of {len(outside)} frames leave the {shape[0]}x{shape[1]} object, the first "
        f"is frame {outside[0]} with its corner at row {row:g}, column {column:g} (legal: 0 to {limit[0]:g} "
        f"and 0 to {limit[1]:g}): check the position convention, and that x is the column"
    ]


def complex_problems(name: str, array: NDArray[Any], shape: tuple[int | None, ...]) -> list[str]:
    """Say what is wrong with a probe or an object: its shape (None: any side), type and values."""
    legal = "(" + ", ".join("any" if side is None else str(side) for side in shape) + ")"
    fits = array.ndim == len(shape) and all(
        want in (None, got) for want, got in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype != np.complex64:
        return [f"{name} has shape {array.shape} and type {array.dtype} (legal: complex64 of shape {legal})"]
    if not np.isfinite(array).all():
        return [f"{name} holds NaN or infinity"]
    return []
