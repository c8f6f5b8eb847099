"""Whether a known object explains the frames as they were read, or only turned another way."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.errors import DataError
from ptycho_torch.physics.simulation import object_patches
from ptycho_torch.readers.scan import Scan

__all__ = ["AS_READ", "orientation_r_factors", "refuse_misoriented"]

logger = logging.getLogger(__name__)

AS_READ = "as read"
EXCHANGED = "xcoords and ycoords exchanged"
_ASKED_FRAMES = 32
_CLEARLY = 0.8
"""Another orientation counts as the right one when its R-factor is below this share of that as read."""
_ALIKE = 1.05
"""Orientations whose R-factors differ by less than this factor cannot be told apart."""
_ALIKE_PX = 1.0
_MARGIN_PX = 2

FloatArray = NDArray[np.floating[Any]]

_DETECTORS: Mapping[str, Callable[[NDArray[Any]], NDArray[Any]]] = MappingProxyType(
    {
        "": lambda frames: frames,
        "the detector transposed": lambda frames: np.swapaxes(frames, -1, -2),
        "the detector's rows reversed": lambda frames: _reversed(frames, -2),
        "the detector's columns reversed": lambda frames: _reversed(frames, -1),
        "the detector turned by half a turn": lambda frames: _reversed(_reversed(frames, -1), -2),
    }
)


def refuse_misoriented(scan: Scan, reference: Scan | None = None) -> None:
    """Refuse a scan whose object explains the frames clearly better when something of it is turned.

    Parameters
    ----------
    scan, reference
        As in :func:`orientation_r_factors`.

    Raises
    ------
    DataError
        It is so. The message names what is turned, or all that it may be where the frames cannot tell.
    """
    found = orientation_r_factors(scan, reference)
    if AS_READ not in found:
        return
    as_read = found.pop(AS_READ)
    best = min(found.values())
    alike = sorted((name for name in found if found[name] < _ALIKE * best), key=len)
    if best < _CLEARLY * as_read:
        untold = ", which these frames cannot tell apart" if len(alike) > 1 else ""
        raise DataError(
            f"{scan.source}: the reference object explains the frames with an R-factor of {as_read:.3f} "
            f"as they are read, but of {best:.3f} with {' or with '.join(alike)}{untold}: correct the file"
        )
    if best < _ALIKE * as_read:
        logger.warning(
            "%s: the reference object cannot tell how the frames are turned: its R-factor is %.3f as they "
            "are read, and %.3f with %s",
            scan.source,
            as_read,
            best,
            alike[0],
        )


def orientation_r_factors(scan: Scan, reference: Scan | None = None) -> dict[str, float]:
    """Project an object again, placed as it was read and turned in every likely way.

    Parameters
    ----------
    scan
        The frames, their positions, and, without a reference, the object and the probe that belong to them.
    reference
        A scan with the object and the probe that were found from these frames, on a grid of its own.

    Returns
    -------
    dict
        What is turned to the R-factor of some frames, with one scale fitted. :data:`AS_READ` is among them
        unless half the patches leave the object. Empty without an object that belongs to the frames.
    """
    known = scan if reference is None else reference
    if known.object is None or known.n_frames != scan.n_frames or known.side_px != scan.side_px:
        return {}
    rows = np.unique(np.linspace(0, scan.n_frames - 1, _ASKED_FRAMES).astype(np.int64))
    used = np.ones((scan.side_px,) * 2, dtype=bool) if scan.mask is None else scan.mask
    amplitude = np.asarray(scan.diffraction[rows], dtype=np.float64) * used
    found: dict[str, float] = {}
    for moved, (obj, corners_px) in _places(scan, known, known.object).items():
        corners = corners_px[rows]
        is_inside = _are_inside(obj.shape, corners, scan.side_px)
        if is_inside.mean() < 0.5:
            continue
        predicted = _amplitudes(obj, known.probe, corners[is_inside])
        for turned, turn in _DETECTORS.items():
            name = " and ".join(filter(None, (moved, turned))) or AS_READ
            found[name] = _r_factor(predicted * turn(used), turn(amplitude[is_inside]))
    return found


def _places(scan: Scan, known: Scan, obj: NDArray[Any]) -> dict[str, tuple[NDArray[Any], FloatArray]]:
    as_read = _moved_onto(scan.corners_px, known.corners_px)
    places = {"": (obj, as_read), "the object transposed": (obj.T, as_read)}
    if known is scan:
        return places | {EXCHANGED: (obj, as_read[:, ::-1])}
    # Where both stand alike, either both are right or both have been exchanged.
    if np.abs(as_read - known.corners_px).max() < _ALIKE_PX:
        return places | {f"{EXCHANGED} here and in the reference": (obj, as_read[:, ::-1])}
    return places | {EXCHANGED: (obj, _moved_onto(scan.corners_px[:, ::-1], known.corners_px))}


def _moved_onto(corners_px: FloatArray, known_px: FloatArray) -> FloatArray:
    """Move positions by one shift, onto the grid of a reference whose origin is another."""
    return np.asarray(corners_px + np.median(known_px - corners_px, axis=0))


def _amplitudes(obj: NDArray[Any], probe: NDArray[Any], corners_px: FloatArray) -> FloatArray:
    patches = object_patches(obj, corners_px, probe.shape[-1])
    fields = (np.fft.fft2(probe * patch, norm="ortho") for patch in patches)
    return np.stack([np.fft.fftshift(np.sqrt((np.abs(field) ** 2).sum(axis=0))) for field in fields])


def _are_inside(shape: tuple[int, ...], corners_px: FloatArray, N: int) -> NDArray[np.bool_]:
    last = np.asarray(shape) - N - _MARGIN_PX
    return np.asarray(((corners_px >= 1) & (corners_px <= last)).all(axis=1))


def _r_factor(predicted: FloatArray, measured: FloatArray) -> float:
    power = float((predicted**2).sum())
    scale = np.sqrt(float((measured**2).sum()) / power) if power > 0 else 0.0
    return float(np.abs(scale * predicted - measured).sum() / max(float(measured.sum()), 1e-300))


def _reversed(frames: NDArray[Any], axis: int) -> NDArray[Any]:
    """Reverse an axis about the zero frequency, at [N/2]."""
    return np.roll(np.flip(frames, axis), 1, axis)
