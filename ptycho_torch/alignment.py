"""Remove what diffraction cannot see before a reconstruction is compared with a truth.

A reconstruction is free in global phase, linear phase ramp and, within a small range, position; its scale
is free when the probe's is. All four are fitted here, for evaluation only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.errors import DataError
from ptycho_torch.interpolation import delay, unit_phasors

WELL_COVERED = 0.25
"""A pixel counts as well covered from this fraction of the covered pixels' median coverage."""
MAX_SHIFT_PX = 4.0
"""Largest registration shift along an axis; a larger one would be another object, or a wrong frame."""
SMALLEST_WINDOW_PX = 16
KERNEL_PX = 4
"""Pixels beyond the window that interpolation reads."""
REFINEMENTS = 4

Complex128 = NDArray[np.complex128]
Shift = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Aligned:
    """A reconstruction and its truth on the same pixels, in the same gauge.

    Parameters
    ----------
    object, truth
        Complex images of one shape (h, w): the well-covered rectangle. Shift, ramp, global phase and scale
        of `object` are fitted to `truth`, and both are turned so that the truth's mean phase is zero.
    stitched
        The reconstruction on those pixels as it came: neither moved nor turned nor scaled.
    origin_px
        Row and column, on the object grid, of pixel [0, 0].
    shift_px
        Where the reconstruction lay, relative to the truth (row, column).
    ramp_rad_per_px
        Phase ramp that was removed (row, column).
    phase_rad
        Phase that was added to the reconstruction to fit the truth's, where the ramp is zero: at the middle.
    scale
        Factor that was applied to the amplitude.
    """

    object: Complex128
    truth: Complex128
    stitched: Complex128
    origin_px: tuple[int, int]
    shift_px: Shift
    ramp_rad_per_px: Shift
    phase_rad: float
    scale: float


def align_with_truth(
    obj: NDArray[Any], coverage: NDArray[Any], frame_origin_px: NDArray[Any], truth: NDArray[Any]
) -> Aligned:
    """Register a reconstruction with the true object and remove what is unobservable.

    Parameters
    ----------
    obj, coverage
        The stitched object and its coverage map, shape (H, W).
    frame_origin_px
        Row and column, on the object grid, of the canvas pixel [0, 0].
    truth
        The whole true object, its pixel [0, 0] being the object grid's.

    Returns
    -------
    Aligned
        Both images on the largest rectangle that is well covered, less a rim for the registration.

    Raises
    ------
    DataError
        When shapes disagree or that rectangle is smaller than 16 px.
    """
    obj, truth = np.asarray(obj, dtype=np.complex128), np.asarray(truth, dtype=np.complex128)
    if obj.ndim != 2 or truth.ndim != 2 or np.shape(coverage) != obj.shape:
        raise DataError(
            f"object {obj.shape}, coverage {np.shape(coverage)} and truth {truth.shape} do not fit: "
            "each is one image, the first two of one shape"
        )
    origin = np.asarray(frame_origin_px, dtype=np.int64)
    rectangle = _evaluated_rectangle(np.asarray(coverage), origin, truth.shape)
    rows, columns = rectangle
    here = truth[
        rows.start + origin[0] : rows.stop + origin[0], columns.start + origin[1] : columns.stop + origin[1]
    ]
    shift = _register(obj, here, rectangle)
    image, ramp = _flatten(_sample(obj, rectangle, shift), here)
    phase = unit_phasors(np.array([np.vdot(image, here)]))[0]
    amplitude, true_amplitude = np.abs(image), np.abs(here)
    power = float((amplitude**2).sum())
    scale = float((amplitude * true_amplitude).sum()) / power if power > 0 else 1.0
    gauge = unit_phasors(np.array([here.sum()]))[0].conj()
    return Aligned(
        object=image * (phase * gauge * scale),
        truth=here * gauge,
        stitched=obj[rectangle],
        origin_px=(int(rows.start + origin[0]), int(columns.start + origin[1])),
        shift_px=(shift[0], shift[1]),
        ramp_rad_per_px=ramp,
        phase_rad=float(np.angle(phase)),
        scale=scale,
    )


def well_covered(coverage: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which pixels are covered well enough to be judged."""
    is_covered = np.asarray(coverage) > 0
    if not is_covered.any():
        return is_covered
    return np.asarray(coverage >= WELL_COVERED * np.median(coverage[is_covered]))


def largest_rectangle(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Find the largest axis-parallel rectangle of true pixels (the first of equals)."""
    best, area = (slice(0, 0), slice(0, 0)), 0
    heights = np.zeros(mask.shape[1] + 1, dtype=np.int64)
    for row, line in enumerate(mask):
        heights[:-1] = np.where(line, heights[:-1] + 1, 0)
        open_columns: list[tuple[int, int]] = []
        for column, height in enumerate(heights.tolist()):
            start = column
            while open_columns and open_columns[-1][1] >= height:
                start, tall = open_columns.pop()
                if tall * (column - start) > area:
                    area = tall * (column - start)
                    best = (slice(row + 1 - tall, row + 1), slice(start, column))
            open_columns.append((start, height))
    return best


def _evaluated_rectangle(
    coverage: NDArray[Any], origin: NDArray[np.int64], truth_shape: tuple[int, ...]
) -> tuple[slice, slice]:
    mask = well_covered(coverage)
    for axis in (0, 1):
        index = np.arange(coverage.shape[axis]) + origin[axis]
        is_inside = (index >= 0) & (index < truth_shape[axis])
        mask = mask & (is_inside[:, None] if axis == 0 else is_inside[None, :])
    rows, columns = largest_rectangle(mask)
    rim = KERNEL_PX
    inner = (slice(rows.start + rim, rows.stop - rim), slice(columns.start + rim, columns.stop - rim))
    sides = [side.stop - side.start for side in inner]
    if min(sides) < SMALLEST_WINDOW_PX:
        raise DataError(
            f"only {max(sides[0], 0)} x {max(sides[1], 0)} px are well covered and inside the truth of "
            f"{truth_shape} px: at least {SMALLEST_WINDOW_PX} x {SMALLEST_WINDOW_PX} are needed to compare; "
            "do positions and truth share one object grid, and do windows of execution.middle_trim overlap?"
        )
    return inner


def _sample(obj: Complex128, rectangle: tuple[slice, slice], shift: Shift) -> Complex128:
    # Value at r + shift: whole pixels by indexing (the outermost pixel goes on), the rest by interpolation.
    whole = [math.ceil(step) for step in shift]
    fractions = np.array([[whole[0] - shift[0], whole[1] - shift[1]]])
    picks = [
        np.clip(np.arange(part.start - KERNEL_PX, part.stop + KERNEL_PX) + step, 0, side - 1)
        for part, step, side in zip(rectangle, whole, obj.shape, strict=True)
    ]
    patch = obj[np.ix_(picks[0], picks[1])]
    if fractions.any():
        patch = delay(patch[None].astype(np.complex64), fractions)[0].astype(np.complex128)
    return patch[KERNEL_PX:-KERNEL_PX, KERNEL_PX:-KERNEL_PX]


def _register(obj: Complex128, truth: Complex128, rectangle: tuple[slice, slice]) -> Shift:
    plain, _ = _flatten(_sample(obj, rectangle, (0.0, 0.0)), truth)
    shift = _coarse_shift(plain, truth)
    for _ in range(REFINEMENTS):
        image, _ = _flatten(_sample(obj, rectangle, shift), truth)
        step = _fine_shift(image, truth)
        limited = [min(max(shift[axis] + step[axis], -MAX_SHIFT_PX), MAX_SHIFT_PX) for axis in (0, 1)]
        shift = (round(limited[0], 3), round(limited[1], 3))
    moved, _ = _flatten(_sample(obj, rectangle, shift), truth)
    return shift if likeness(moved, truth) > likeness(plain, truth) else (0.0, 0.0)


def likeness(first: Complex128, second: Complex128) -> float:
    """Correlate two complex images, means removed: 1 is equal up to a constant and a factor."""
    first, second = first - first.mean(), second - second.mean()
    power = float((np.abs(first) ** 2).sum() * (np.abs(second) ** 2).sum())
    return float(abs(np.vdot(first, second))) / math.sqrt(power) if power > 0 else 0.0


def _coarse_shift(image: Complex128, truth: Complex128) -> Shift:
    # Products of neighbouring pixels do not know the global phase and turn a ramp into one factor,
    # so their correlation finds the shift whatever the ramp.
    taper = _hann(image.shape)
    spectrum = np.zeros(image.shape)
    for axis in (0, 1):
        first, second = (
            np.fft.fft2(_centred(part * np.roll(part, 1, axis=axis).conj(), taper)) for part in (image, truth)
        )
        spectrum += np.abs(np.fft.ifft2(first * second.conj()))
    reach = int(MAX_SHIFT_PX)
    steps = np.arange(-reach, reach + 1)
    near = spectrum[np.ix_(steps % image.shape[0], steps % image.shape[1])]
    row, column = np.unravel_index(int(np.argmax(near)), near.shape)
    return float(steps[row]), float(steps[column])


def _fine_shift(image: Complex128, truth: Complex128) -> Shift:
    taper = _hann(image.shape)
    cross = np.fft.fft2(_centred(image, taper)) * np.fft.fft2(_centred(truth, taper)).conj()
    frequencies = [2j * np.pi * np.fft.fftfreq(side) for side in image.shape]
    centre = np.zeros(2)
    for reach, count in ((1.0, 21), (0.1, 41)):
        steps = [centre[axis] + np.linspace(-reach, reach, count) for axis in (0, 1)]
        left = np.exp(steps[0][:, None] * frequencies[0][None, :])
        right = np.exp(frequencies[1][:, None] * steps[1][None, :])
        peak = np.unravel_index(int(np.argmax(np.abs(left @ cross @ right))), (count, count))
        centre = np.array([steps[0][peak[0]], steps[1][peak[1]]])
    return float(centre[0]), float(centre[1])


def _centred(image: Complex128, taper: NDArray[np.float64]) -> Complex128:
    mean = (image * taper).sum() / taper.sum()
    return np.asarray((image - mean) * taper, dtype=np.complex128)


def _hann(shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.asarray(np.outer(np.hanning(shape[0] + 2)[1:-1], np.hanning(shape[1] + 2)[1:-1]))


def _flatten(image: Complex128, truth: Complex128) -> tuple[Complex128, Shift]:
    # The ramp turns the product of neighbours by one angle; what is left is small enough for a plane fit.
    slopes = np.zeros(2)
    rows, columns = (np.arange(side) - (side - 1) / 2 for side in image.shape)
    for stage in range(REFINEMENTS):
        ramp = np.exp(-1j * (slopes[0] * rows[:, None] + slopes[1] * columns[None, :]))
        difference = image * ramp * truth.conj()
        if stage == 0:
            slopes[0] = np.angle((difference[1:] * difference[:-1].conj()).sum())
            slopes[1] = np.angle((difference[:, 1:] * difference[:, :-1].conj()).sum())
            continue
        phase = np.angle(difference * unit_phasors(np.array([difference.sum()]))[0].conj())
        weight = np.abs(difference)
        slopes += _plane(phase, weight, rows, columns)
    ramp = np.exp(-1j * (slopes[0] * rows[:, None] + slopes[1] * columns[None, :]))
    return image * ramp, (float(slopes[0]), float(slopes[1]))


def _plane(
    phase: NDArray[np.float64],
    weight: NDArray[np.float64],
    rows: NDArray[np.float64],
    columns: NDArray[np.float64],
) -> NDArray[np.float64]:
    if not weight.any():
        return np.zeros(2)
    mean = weight.sum()
    terms = [
        rows[:, None] - (weight * rows[:, None]).sum() / mean,
        columns[None] - (weight * columns).sum() / mean,
    ]
    matrix = np.array([[(weight * first * second).sum() for second in terms] for first in terms])
    values = np.array([(weight * term * phase).sum() for term in terms])
    slopes: NDArray[np.float64] = np.linalg.solve(matrix, values)
    return slopes
