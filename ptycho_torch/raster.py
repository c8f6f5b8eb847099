"""Rasters: which frames of a scan are each other's neighbours in rows and columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.errors import DataError

__all__ = ["num_raster_squares", "raster_squares"]

_TOLERANCE_PX = 0.1


def raster_squares(positions_px: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return all squares of 2 x 2 neighbours on a raster, of which frames may be missing.

    Where short and long steps take turns, as where groups are scanned, neighbours are a short one apart.

    Parameters
    ----------
    positions_px
        (J, 2) positions, finite, pixels; from their place on the raster by 0.1 px at most.

    Returns
    -------
    ndarray
        (S, 4) indices: a frame, its right, its lower and its lower right neighbour; by ascending first ones.

    Raises
    ------
    DataError
        When the positions are no such raster, or two frames share a place.
    """
    rows, columns = _places(positions_px[:, 0]), _places(positions_px[:, 1])
    width = int(columns.max()) + 2
    place = rows * width + columns
    order = np.argsort(place, kind="stable")
    taken = place[order]
    if (taken[1:] == taken[:-1]).any():
        raise DataError(
            "model.grouping is 'square', but two frames share a place of the raster: set it to 'nearest'"
        )

    def frames_at(wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        at = np.searchsorted(taken, wanted).clip(max=len(taken) - 1)
        return np.where(taken[at] == wanted, order[at], -1)

    corners = np.stack([frames_at(place + step) for step in (0, 1, width, width + 1)], axis=1)
    return np.asarray(corners[(corners >= 0).all(axis=1)], dtype=np.int64)


def num_raster_squares(positions_px: NDArray[np.float64]) -> int:
    """Count the squares of 2 x 2 neighbours; positions that are no raster have none."""
    try:
        return len(raster_squares(positions_px))
    except DataError:
        return 0


def _places(along_px: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the place of each coordinate on a grid of one spacing, or of pairs of one spacing."""
    offset = along_px - along_px.min()
    gaps = np.diff(np.sort(offset))
    steps = gaps[gaps > _TOLERANCE_PX]
    if not steps.size:
        return np.zeros(len(offset), dtype=np.int64)
    places = _on_a_grid(offset, float(np.median(steps)))
    if places is None:
        places = _on_pairs(offset, steps)
    if places is None:
        raise DataError(
            "model.grouping is 'square', but the positions are no raster of one spacing in each direction: "
            "set it to 'nearest'"
        )
    return places


def _on_a_grid(offset_px: NDArray[np.float64], pitch_px: float) -> NDArray[np.int64] | None:
    extent = float(offset_px.max())
    pitch = extent / round(extent / pitch_px)  # of the whole extent, so that roundings do not add up
    places = np.round(offset_px / pitch)
    is_there = np.abs(offset_px - places * pitch).max() <= _TOLERANCE_PX
    return np.asarray(places, dtype=np.int64) if is_there else None


def _on_pairs(offset_px: NDArray[np.float64], steps_px: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Do the same where short and long steps take turns; only what a short one parts are neighbours."""
    is_short = steps_px < steps_px.min() + 2 * _TOLERANCE_PX
    if is_short.all():
        return None
    short = float(np.median(steps_px[is_short]))
    reach = float(offset_px.max()) - short
    period = reach / round(reach / (short + float(np.median(steps_px[~is_short]))))
    pairs = np.floor((offset_px + _TOLERANCE_PX) / period)
    within = offset_px - pairs * period
    is_second = within > short / 2
    if np.abs(within - is_second * short).max() > _TOLERANCE_PX:
        return None
    return np.asarray(3 * pairs + is_second, dtype=np.int64)  # the third place of a pair is the gap behind it
