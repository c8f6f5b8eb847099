"""From patches at sub-pixel positions to weighted windows on the pixels of one canvas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.errors import DataError
from ptycho_torch.interpolation import Complex64, Float32, delay
from ptycho_torch.scratch import ScratchStack, Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

MARGIN_PX = 2
"""Empty pixels around the outermost window of a canvas that is sized from the positions."""
WINDOW_FLOOR = 0.05
"""Weight of a window's outermost pixel: above zero, so that what only one edge covers is still there."""
LARGEST_CANVAS = 2**28
"""Pixels of the largest canvas; positions that need a larger one are not in pixels."""
CHUNK = 64
"""Patches that are looked at together."""

Window = Literal["smooth", "flat"]
"""What the pixels of a central window weigh, as :class:`ptycho_torch.config.InferenceConfig` has it."""


@dataclass(frozen=True)
class Frame:
    """Where a canvas lies on the object grid.

    Parameters
    ----------
    origin_px
        Row and column, on the object grid, of the canvas pixel [0, 0].
    shape
        Rows and columns of the canvas.
    """

    origin_px: tuple[int, int]
    shape: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Windows:
    """Patches' central windows, interpolated onto the canvas's pixels; in memory, or in scratch files.

    Parameters
    ----------
    weighted
        Patch times weight, shape (J, T, T).
    weights
        Probe intensity times smooth window, or 1 throughout a flat one, shape (J, T, T), never negative.
    rows, columns
        Canvas pixel of each window's element [0, 0], shape (J,).
    """

    weighted: Complex64
    weights: Float32
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    def parts(self) -> Iterator[tuple[slice, Windows]]:
        """Yield the windows a few at a time, in memory, with their numbers."""
        for chunk in chunks(len(self.rows)):
            rows, columns = self.rows[chunk], self.columns[chunk]
            yield chunk, Windows(self.weighted[chunk], self.weights[chunk], rows, columns)

    def places(self) -> Iterator[tuple[int, tuple[slice, slice]]]:
        """Yield each window's number and its slices of the canvas."""
        side = self.weights.shape[-1]
        for j, (row, column) in enumerate(zip(self.rows.tolist(), self.columns.tolist(), strict=True)):
            yield j, (slice(row, row + side), slice(column, column + side))


def checked(
    patches: NDArray[Any] | torch.Tensor,
    corners_px: NDArray[Any],
    probe_intensity: NDArray[Any] | torch.Tensor,
) -> tuple[Complex64, NDArray[np.float64], Float32]:
    """Return patches, corners and the probe intensity scaled to 1, or raise a DataError with all problems."""
    values = _as_stack(patches)
    corners = np.asarray(corners_px, dtype=np.float64)
    probe = np.asarray(_as_array(probe_intensity), dtype=np.float64)
    problems = []
    if values.ndim != 3 or not len(values) or values.shape[1] != values.shape[2]:
        problems.append(f"patches have shape {values.shape}: it must be (J, N, N) with at least one patch")
    elif values.shape[1] < 8 or values.shape[1] % 2:
        problems.append(f"patches have a side of {values.shape[1]} px: it must be even and at least 8")
    if corners.shape != (values.shape[0], 2):
        problems.append(
            f"corners_px has shape {corners.shape}: it must be ({values.shape[0]}, 2), one a patch"
        )
    if probe.shape != values.shape[1:]:
        problems.append(f"probe_intensity has shape {probe.shape}: it must be {values.shape[1:]}, a patch's")
    for name, array in (("patches", values), ("corners_px", corners), ("probe_intensity", probe)):
        parts = (array[chunk] for chunk in chunks(len(array))) if array.ndim else iter([array])
        if bad := sum(int(np.count_nonzero(~np.isfinite(part))) for part in parts):
            problems.append(f"{name} hold {bad} values that are not finite")
    if not problems and (probe.min() < 0 or probe.max() <= 0):
        problems.append("probe_intensity must not be negative, and must not be zero everywhere")
    if problems:
        raise DataError("; ".join(problems))
    return values, corners, (probe / probe.max()).astype(np.float32)


def chunks(count: int) -> Iterator[slice]:
    """Cut a number of patches into those that are looked at together."""
    return (slice(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))


def _as_stack(patches: Any) -> Complex64:
    is_scratch = isinstance(patches, ScratchStack)
    return patches if is_scratch else np.asarray(_as_array(patches), dtype=np.complex64)


def _as_array(values: NDArray[Any] | torch.Tensor) -> NDArray[Any]:
    if isinstance(values, np.ndarray):
        return values
    array: NDArray[Any] = values.detach().cpu().resolve_conj().numpy()
    return array


def window_side(side: int, middle_trim: int) -> int:
    """Turn ``middle_trim`` into the side of the central window, pixels."""
    if middle_trim % 2 or not 0 <= middle_trim <= side:
        raise DataError(f"middle_trim is {middle_trim}: it must be even, from 0 to the patch's {side} px")
    if middle_trim == 0:
        return side // 2 + side // 2 % 2
    return middle_trim


def _inset(side: int, trim: int) -> int:
    return (side - trim) // 2


def frame_of(corners: NDArray[np.float64], side: int, reach: int) -> Frame:
    """Size a canvas for the central `reach` pixels of all patches, with a margin."""
    first = np.floor(corners.min(axis=0)) + _inset(side, reach) - MARGIN_PX
    last = np.floor(corners.max(axis=0)) + _inset(side, reach) + reach + MARGIN_PX
    height, width = last - first
    if height * width > LARGEST_CANVAS:
        raise DataError(
            f"the positions span a canvas of {height:.0f} x {width:.0f} px, more than {LARGEST_CANVAS} pixels"
            ": are they in pixels, and is none of them astray?"
        )
    return Frame((int(first[0]), int(first[1])), (int(height), int(width)))


def refuse_patches_outside(
    corners: NDArray[np.float64], side: int, reach: int, frame: Frame, window: Window
) -> None:
    """Raise a DataError when the central `reach` pixels of a patch leave the canvas."""
    first = _whole(corners, window) + _inset(side, reach) - np.array(frame.origin_px)
    is_outside = ((first < 0) | (first + reach > np.array(frame.shape))).any(axis=1)
    if is_outside.any():
        worst = int(np.flatnonzero(is_outside)[0])
        raise DataError(
            f"{np.count_nonzero(is_outside)} of {len(corners)} patches leave the canvas of {frame.shape} px "
            f"at {frame.origin_px}, first patch {worst} with corner {corners[worst].tolist()}: "
            "enlarge the frame or select the patches"
        )


def _taper(coordinate: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    # A polynomial close to the raised cosine: same bits on every CPU, which np.cos does not promise.
    relative = (coordinate - (side - 1) / 2) / (side / 2)
    bump = 1 - relative * relative
    inside = np.abs(coordinate - (side - 1) / 2) <= (side - 1) / 2
    return np.where(inside, WINDOW_FLOOR + (1 - WINDOW_FLOOR) * bump * bump, 0.0)


def _whole(corners: NDArray[np.float64], window: Window) -> NDArray[np.int64]:
    """Return the canvas pixel of each patch's corner: the nearest for a flat window, the one before else."""
    return np.floor(corners + 0.5 if window == "flat" else corners).astype(np.int64)


def _weigh(probe: Float32, fractions: NDArray[np.float64]) -> Float32:
    # Linear interpolation cannot overshoot below zero, so numerator and denominator stay well behaved.
    side = probe.shape[0]
    padded = np.pad(probe, ((1, 0), (1, 0)), mode="edge")
    row, column = (fractions[:, axis, None, None].astype(np.float32) for axis in (0, 1))
    light = (padded[1:, 1:] * (1 - column) + padded[1:, :-1] * column) * (1 - row)
    light += (padded[:-1, 1:] * (1 - column) + padded[:-1, :-1] * column) * row
    index = np.arange(side, dtype=np.float64)
    rows, columns = (_taper(index - fractions[:, axis, None], side) for axis in (0, 1))
    taper = rows[:, :, None] * columns[:, None, :]
    return np.asarray(light * taper.astype(np.float32), dtype=np.float32)


def _middles(
    values: Complex64, fractions: NDArray[np.float64], first: NDArray[np.int64], trim: int
) -> Complex64:
    """Move whole patches, as what lies around a middle is known, and cut `trim` pixels from `first` on."""
    moved = delay(np.pad(values, ((0, 0), (0, 1), (0, 1)), mode="edge"), fractions)
    cuts = [image[r : r + trim, c : c + trim] for image, (r, c) in zip(moved, first.tolist(), strict=True)]
    return np.stack(cuts)


def place_windows(
    values: Complex64, corners: NDArray[np.float64], probe: Float32, trim: int, frame: Frame, window: Window
) -> Windows:
    """Crop patches to their central `trim` pixels, move them onto the canvas's pixels and weigh them."""
    inset = _inset(values.shape[-1], trim)
    inner = slice(inset, inset + trim)
    before = np.floor(corners)
    fractions, whole = corners - before, _whole(corners, window)
    first = whole + inset - np.array(frame.origin_px)
    if window == "flat":
        weighted = _middles(values, fractions, whole - before.astype(np.int64) + inset, trim)
        return Windows(weighted, np.ones(weighted.shape, np.float32), first[:, 0], first[:, 1])
    weights = _weigh(probe[inner, inner], fractions)
    weighted = delay(values[:, inner, inner], fractions)
    weighted.real *= weights
    weighted.imag *= weights
    return Windows(weighted, weights, first[:, 0], first[:, 1])


def store_windows(
    values: Complex64,
    corners: NDArray[np.float64],
    probe: Float32,
    trim: int,
    frame: Frame,
    window: Window,
    store: Store,
) -> Windows:
    """Do the same a few patches at a time, and keep the windows where `store` says."""
    count = len(values)
    kept = Windows(
        store((count, trim, trim), np.complex64),
        store((count, trim, trim), np.float32),
        np.empty(count, np.int64),
        np.empty(count, np.int64),
    )
    for chunk in chunks(count):
        part = place_windows(values[chunk], corners[chunk], probe, trim, frame, window)
        kept.weighted[chunk], kept.weights[chunk] = part.weighted, part.weights
        kept.rows[chunk], kept.columns[chunk] = part.rows, part.columns
    return kept
