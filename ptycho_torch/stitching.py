"""From the patches of a scan to one object on one canvas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ptycho_torch.errors import DataError
from ptycho_torch.interpolation import Complex64, Float32, FloatArray, rotate, unit_phasors
from ptycho_torch.placement import (
    Frame,
    Window,
    Windows,
    checked,
    chunks,
    frame_of,
    place_windows,
    refuse_patches_outside,
    store_windows,
    window_side,
)
from ptycho_torch.scratch import Store, in_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

SMALLEST_COVERAGE = 1e-6
"""Pixels with less than this fraction of one patch's best-lit pixel count as not covered."""


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """One object, and how well each of its pixels is covered.

    Parameters
    ----------
    object
        Complex transmission, shape (H, W); zero where no patch reaches.
    coverage
        Accumulated weight, shape (H, W): 1 is one patch at its best-lit pixel, 0 is not covered.
    frame_origin_px
        Row and column, on the object grid, of the canvas pixel [0, 0]; integers, shape (2,).
    accepted, total
        Patches that carry weight on the canvas, and patches given.
    """

    object: Complex64
    coverage: Float32
    frame_origin_px: NDArray[np.int64]
    accepted: int
    total: int


def stitch(
    patches: NDArray[Any] | torch.Tensor,
    corners_px: NDArray[Any],
    probe_intensity: NDArray[Any] | torch.Tensor,
    *,
    middle_trim: int = 0,
    window: Window = "smooth",
    pad: bool = False,
    frame: Frame | None = None,
) -> Reconstruction:
    """Put all patches on one canvas, each at its own sub-pixel position, and average where they overlap.

    Each patch is cropped to its central window, interpolated onto the canvas's pixels (Lanczos-4) and
    weighted by the probe's intensity times a smooth window, or evenly. Without `pad` the canvas is the hull
    of those windows. With `pad` it is the hull of the whole patches: a pixel that a window covers keeps
    exactly its value, and the others, the scan's edge, are filled from the patches' outer parts.

    Parameters
    ----------
    patches
        Complex object patches, shape (J, N, N), array or tensor.
    corners_px
        Row and column of each patch's pixel [0, 0] on the object grid, shape (J, 2).
    probe_intensity
        Sum of abs(P)^2 over the probe's modes, shape (N, N).
    middle_trim
        Side of the central window, even: 0 means N/2, N means no cropping.
    window
        ``smooth``, or ``flat``: all its pixels weigh 1.
    pad
        Reconstruct the scan's edge too, from whole patches.
    frame
        Canvas to use instead of one sized from the positions.

    Raises
    ------
    DataError
        When shapes disagree, a value is not finite, the probe is dark, the canvas would be absurdly
        large, or a patch leaves the given frame: none is dropped.
    """
    values, corners, probe = checked(patches, corners_px, probe_intensity)
    side = values.shape[-1]
    trim = window_side(side, middle_trim)
    reach = side if pad else trim
    frame = frame if frame is not None else frame_of(corners, side, reach)
    refuse_patches_outside(corners, side, reach, frame, window)
    total, weight, accepted = _accumulate(values, corners, probe, trim, frame, window)
    if pad and trim < side:
        outer_total, outer_weight, accepted = _accumulate(values, corners, probe, side, frame, window)
        is_edge = weight <= SMALLEST_COVERAGE
        total[is_edge], weight[is_edge] = outer_total[is_edge], outer_weight[is_edge]
    weight[weight <= SMALLEST_COVERAGE] = 0
    return Reconstruction(
        object=_divide(total, weight),
        coverage=weight,
        frame_origin_px=np.array(frame.origin_px, dtype=np.int64),
        accepted=accepted,
        total=len(values),
    )


def synchronise_phases(
    patches: NDArray[Any] | torch.Tensor,
    corners_px: NDArray[Any],
    probe_intensity: NDArray[Any] | torch.Tensor,
    *,
    rounds: int = 8,
    middle_trim: int = 0,
    window: Window = "smooth",
    store: Store = in_memory,
) -> Complex64:
    """Rotate each patch by one phase so that overlapping patches agree.

    Diffraction leaves every patch's global phase free. A round stitches the patches, looks up the result
    at each patch and rotates that patch by the weighted mean phase between the two; the agreement never
    falls from round to round. The rounds start from the patches as they are, or from patches aligned one
    after another to their already aligned neighbours where those agree better (unrelated phases, from
    which averaging alone would not find the way).

    Parameters
    ----------
    patches, corners_px, probe_intensity, middle_trim, window
        As for :func:`stitch`.
    rounds
        Number of rounds, at least 1.
    store
        Where windows and result are kept, to which no bit is due.

    Returns
    -------
    Complex64
        The rotated patches, shape (J, N, N).

    Raises
    ------
    DataError
        As for :func:`stitch`.
    """
    if rounds < 1:
        raise DataError(f"rounds of phase synchronisation are {rounds}: give 1 or more")
    values, corners, probe = checked(patches, corners_px, probe_intensity)
    side = values.shape[-1]
    trim = window_side(side, middle_trim)
    frame = frame_of(corners, side, trim)
    windows = store_windows(values, corners, probe, trim, frame, window, store)
    weight = np.zeros(frame.shape, dtype=np.float32)
    for _, part in windows.parts():
        for j, place in part.places():
            weight[place] += part.weights[j]
    given = np.ones(len(values), dtype=np.complex128)
    grown = _grow(windows, corners, frame)
    phasors = max(given, grown, key=lambda start: _agreement(windows, start, weight))
    for _ in range(rounds):
        mean = _divide(_add_up(windows, phasors, frame.shape), weight)
        phasors = _phases_towards(windows, mean)
    turned: Complex64 = store(values.shape, np.complex64)
    for chunk in chunks(len(values)):
        turned[chunk] = rotate(values[chunk], phasors[chunk])
    return turned


def _accumulate(
    values: Complex64,
    corners: NDArray[np.float64],
    probe: Float32,
    trim: int,
    frame: Frame,
    window: Window,
) -> tuple[Complex64, Float32, int]:
    total = np.zeros(frame.shape, dtype=np.complex64)
    weight = np.zeros(frame.shape, dtype=np.float32)
    accepted = 0
    for chunk in chunks(len(values)):
        windows = place_windows(values[chunk], corners[chunk], probe, trim, frame, window)
        accepted += int(np.count_nonzero(windows.weights.max(axis=(1, 2)) > SMALLEST_COVERAGE))
        for j, place in windows.places():
            total[place] += windows.weighted[j]
            weight[place] += windows.weights[j]
    return total, weight, accepted


def _divide(total: Complex64, weight: Float32) -> Complex64:
    is_covered = weight > SMALLEST_COVERAGE
    safe = np.where(is_covered, weight, np.float32(1))
    mean = np.empty(total.shape, dtype=np.complex64)
    mean.real = np.where(is_covered, total.real / safe, np.float32(0))
    mean.imag = np.where(is_covered, total.imag / safe, np.float32(0))
    return mean


def _add_up(windows: Windows, phasors: NDArray[np.complex128], shape: tuple[int, int]) -> Complex64:
    total = np.zeros(shape, dtype=np.complex64)
    for chunk, part in windows.parts():
        turned = rotate(part.weighted, phasors[chunk])
        for j, place in part.places():
            total[place] += turned[j]
    return total


def _inner_product(first: Complex64, second: Complex64) -> NDArray[np.complex128]:
    product = np.empty(first.shape[:-2], dtype=np.complex128)
    real: FloatArray = first.real * second.real + first.imag * second.imag
    imaginary: FloatArray = first.real * second.imag - first.imag * second.real
    product.real = real.sum(axis=(-2, -1), dtype=np.float64)
    product.imag = imaginary.sum(axis=(-2, -1), dtype=np.float64)
    return product


def _phases_towards(windows: Windows, mean: Complex64) -> NDArray[np.complex128]:
    side = windows.weights.shape[-1]
    seen = sliding_window_view(mean, (side, side))
    products = np.empty(len(windows.rows), dtype=np.complex128)
    for chunk, part in windows.parts():
        products[chunk] = _inner_product(part.weighted, seen[part.rows, part.columns])
    return unit_phasors(products)


def _agreement(windows: Windows, phasors: NDArray[np.complex128], weight: Float32) -> float:
    total = _add_up(windows, phasors, weight.shape)
    mean = _divide(total, weight)
    return float(_inner_product(mean, total).real)


def _grow(windows: Windows, corners: NDArray[np.float64], frame: Frame) -> NDArray[np.complex128]:
    total = np.zeros(frame.shape, dtype=np.complex64)
    phasors = np.ones(len(corners), dtype=np.complex128)
    places = dict(windows.places())
    for j in _outwards(corners):
        place, window = places[j], windows.weighted[j : j + 1]
        phasors[j : j + 1] = unit_phasors(_inner_product(window, total[None][:, *place]))
        total[place] += rotate(window, phasors[j : j + 1])[0]
    return phasors


def _outwards(corners: NDArray[np.float64]) -> Iterator[int]:
    from_centre = ((corners - corners.mean(axis=0)) ** 2).sum(axis=1)
    nearest = int(np.argmin(from_centre))
    to_placed = np.full(len(corners), np.inf)
    is_placed = np.zeros(len(corners), dtype=bool)
    for _ in range(len(corners)):
        yield nearest
        is_placed[nearest] = True
        apart = corners - corners[nearest]
        to_placed = np.minimum(to_placed, apart[:, 0] ** 2 + apart[:, 1] ** 2)
        nearest = int(np.argmin(np.where(is_placed, np.inf, to_placed)))
