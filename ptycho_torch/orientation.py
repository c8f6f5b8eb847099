"""Whether a known object explains the frames as they were read, or only read in another way."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.errors import DataError
from ptycho_torch.misreadings import CENTRES, ROOTS, TURNS, VALUES
from ptycho_torch.physics.simulation import object_patches
from ptycho_torch.readers.scan import Scan

__all__ = ["AS_READ", "Explanation", "asked_rows", "explanations", "judge_object"]

AS_READ = "as read"
EXCHANGED = "xcoords and ycoords exchanged"
_ASKED_FRAMES = 32
"""Frames, spread over the scan, that an object is asked to explain."""
_CLEARLY = 0.8
"""An R-factor below this share of another is clearly the better one."""
_ALIKE = 1.05
"""Readings whose R-factors differ by less than this factor cannot be told apart."""
_UNLIKE = 0.15
"""Between mean frames; true objects reach 0.13 at 1e4 photons a frame, intensities make 0.2 to 0.5 of it."""
_DOUBTFUL = 1.1
"""An object may do this much worse than the mean frame untold: a true one does where photons are few."""
_DARK = 1.0
"""Where even the mean frame has this R-factor, photons are so few that no object can be judged."""
_UNRELATED = 0.1
"""Pixels whose neighbours agree less with them than this are noise; objects reach 0.9, blurred noise 0.6."""
_MOST_NAMES = 3
_ALIKE_PX = 1.0
_MARGIN_PX = 2
_TINY = 1e-12

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Explanation:
    """How well an object predicts frames.

    Parameters
    ----------
    r_factor
        R-factor of the predicted amplitudes, one scale fitted.
    of_mean
        The same of the mean of the other frames, in the place of a prediction: what needs no object.
    of_means
        R-factor of the mean predicted frame for the mean measured one, to which turns and places matter
        little: it tells what the values are.
    """

    r_factor: float
    of_mean: float
    of_means: float

    @property
    def ratio(self) -> float:
        """R-factor over that of the mean frame: an object that explains anything stays below 1."""
        return self.r_factor / max(self.of_mean, _TINY)


def judge_object(scan: Scan, reference: Scan | None = None, units_key: str | None = None) -> str | None:
    """Refuse a scan whose object contradicts the frames, and say what else they make doubtful.

    Parameters
    ----------
    scan, reference
        As in :func:`explanations`.
    units_key
        The key of the spec that tells what the frames hold; None where the file itself does.

    Returns
    -------
    str or None
        A sentence where the object tells nothing, or little; None where it explains the frames, and where
        there is none.

    Raises
    ------
    DataError
        The object explains the frames clearly better when something is read another way: the message names
        that, or all that it may be where the frames cannot tell. Or it explains them clearly worse than their
        mean does, and no other reading helps.
    """
    tried = explanations(scan, reference)
    if AS_READ not in tried:
        return None
    as_read, others = tried[AS_READ], _without(tried)
    if as_read.of_mean >= _DARK:
        return None
    has_object = not _is_constant(scan if reference is None else reference)
    candidates = [others] if has_object else []
    if as_read.ratio >= 1 or as_read.of_means > _UNLIKE:
        centred = _without(explanations(scan, reference, is_thorough=True), others)
        plain = {name: one for name, one in centred.items() if not _is_of_values(name)}
        candidates = [*candidates, plain, _of_other_values(centred, {**tried, **plain})]
    told_key = None if scan.units == "count_intensity" else units_key
    for known in candidates:
        _refuse_better(scan.source, as_read, known, told_key)
    said = (
        f"the reference object explains the frames with an R-factor of {as_read.r_factor:.3f}, "
        f"the mean of the other frames with {as_read.of_mean:.3f}"
    )
    if reference is None and _is_noise(scan) and as_read.ratio > _DOUBTFUL:
        return f"{scan.source}: {said}: it is noise, perhaps a first guess: figures against it tell nothing"
    if has_object and as_read.ratio * _CLEARLY > 1:
        raise DataError(
            f"{scan.source}: {said}, and no other reading that was tried explains them (detector turned or "
            "mirrored, coordinates exchanged, object transposed, zero frequency in the corner, "
            "intensities for amplitudes): check that frames, positions, probe and object belong together"
        )
    if as_read.ratio > _DOUBTFUL:
        return f"{scan.source}: {said}: check that frames, positions, probe and object belong together"
    nearest = min(others, key=lambda name: others[name].r_factor)
    if others[nearest].r_factor < _ALIKE * as_read.r_factor:
        return (
            f"{scan.source}: the reference object cannot tell how the frames are turned: its R-factor is "
            f"{as_read.r_factor:.3f} as they are read, and {others[nearest].r_factor:.3f} with {nearest}"
        )
    return None


def explanations(
    scan: Scan, reference: Scan | None = None, *, is_thorough: bool = False
) -> dict[str, Explanation]:
    """Project an object again, placed as it was read and turned in every likely way.

    Parameters
    ----------
    scan
        The frames, their positions, and, without a reference, the object and the probe that belong to them.
    reference
        A scan with the object and the probe that were found from these frames, on a grid of its own.
    is_thorough
        Read the frames also with the zero frequency in the corner, and as other values than amplitudes.

    Returns
    -------
    dict
        What is read another way to how some frames are explained then. :data:`AS_READ` is among them
        unless half the patches leave the object. Empty without an object that belongs to the frames, and for
        a single frame.
    """
    known = scan if reference is None else reference
    if known.object is None or known.n_frames != scan.n_frames or known.side_px != scan.side_px:
        return {}
    rows = asked_rows(scan.n_frames)
    used = np.ones((scan.side_px,) * 2, dtype=bool) if scan.mask is None else scan.mask
    amplitude = np.asarray(scan.diffraction[rows], dtype=np.float64) * used
    readings = list(itertools.product(CENTRES.items(), VALUES.items()))[: None if is_thorough else 1]
    found: dict[str, Explanation] = {}
    for moved, (obj, corners_px) in _places(scan, known, known.object).items():
        corners = corners_px[rows]
        is_inside = _are_inside(obj.shape, corners, scan.side_px)
        if is_inside.mean() < 0.5 or is_inside.sum() < 2:
            continue
        predicted = _amplitudes(obj, known.probe, corners[is_inside])
        for (centred, centre), (valued, value) in readings:
            measured, kept = centre(value(amplitude[is_inside])), centre(used)
            of_mean = _r_factor(_mean_of_others(measured), measured)
            for turned, turn in TURNS.items():
                name = " and ".join(filter(None, (moved, turned, centred, valued))) or AS_READ
                found[name] = _explanation(predicted * turn(kept), turn(measured), of_mean)
    return found


def asked_rows(n_frames: int) -> NDArray[np.int64]:
    """Return which frames of a scan an object is asked to explain."""
    return np.unique(np.linspace(0, n_frames - 1, _ASKED_FRAMES).astype(np.int64))


def _without(
    tried: Mapping[str, Explanation], less: Mapping[str, Explanation] | None = None
) -> dict[str, Explanation]:
    known = {AS_READ, *(less or {})}
    return {name: one for name, one in tried.items() if name not in known}


def _is_of_values(name: str) -> bool:
    return any(valued and name.endswith(valued) for valued in VALUES)


def _of_other_values(
    tried: Mapping[str, Explanation], plain: Mapping[str, Explanation]
) -> dict[str, Explanation]:
    """Keep what reads other values, where these bring the mean frames together, which no turn does."""
    least = _CLEARLY * min(one.of_means for one in plain.values())
    return {name: one for name, one in tried.items() if _is_of_values(name) and one.of_means < least}


def _refuse_better(
    source: str, as_read: Explanation, others: Mapping[str, Explanation], units_key: str | None
) -> None:
    best = min(others.values(), key=lambda one: one.ratio, default=as_read)
    if best.ratio >= min(_CLEARLY * as_read.ratio, 1):
        return
    alike = [name for name in others if others[name].ratio < _ALIKE * best.ratio]
    names = sorted(alike, key=lambda name: (name.count(" and the "), len(name)))[:_MOST_NAMES]
    untold = ", which these frames cannot tell apart" if len(names) > 1 else ""
    is_told = units_key is not None and any(ROOTS in name for name in names)
    raise DataError(
        f"{source}: the reference object explains the frames with an R-factor of {as_read.r_factor:.3f} "
        f"as they are read, but of {best.r_factor:.3f} with {' or with '.join(names)}{untold}: "
        f"correct the file{f' (its units: {units_key}: count_intensity)' if is_told else ''}"
    )


def _is_constant(known: Scan) -> bool:
    return known.object is not None and bool((known.object == known.object.flat[0]).all())


def _is_noise(known: Scan) -> bool:
    if known.object is None:
        return False
    varied = known.object - known.object.mean()
    neighbours = ((varied[1:], varied[:-1]), (varied[:, 1:], varied[:, :-1]))
    alike = max(abs(np.vdot(one, other)) for one, other in neighbours)
    return bool(alike < _UNRELATED * np.vdot(varied, varied).real)


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


def _explanation(predicted: FloatArray, measured: FloatArray, of_mean: float) -> Explanation:
    means = (np.sqrt(np.square(amplitude).mean(axis=0)) for amplitude in (predicted, measured))
    return Explanation(_r_factor(predicted, measured), of_mean, _r_factor(*means))


def _mean_of_others(amplitude: FloatArray) -> FloatArray:
    """Return for each frame the mean of the others; its own would tell its noise."""
    power = np.square(amplitude)
    others = (power.sum(axis=0) - power) / (len(power) - 1)
    return np.asarray(np.sqrt(np.maximum(others, 0)))


def _r_factor(predicted: FloatArray, measured: FloatArray) -> float:
    power = float((predicted**2).sum())
    scale = np.sqrt(float((measured**2).sum()) / power) if power > 0 else 0.0
    return float(np.abs(scale * predicted - measured).sum() / max(float(measured.sum()), 1e-300))
