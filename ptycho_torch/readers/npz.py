"""Reader of the project's own NPZ files, PtychoPINN's key names included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.readers.archive import Archive, open_archive
from ptycho_torch.readers.scan import POSITION_CONVENTIONS, UNITS, Scan, raise_problems
from ptycho_torch.readers.units import to_amplitude

DIFFRACTION_KEYS = ("diffraction", "diff3d")


def read_npz(path: Path, *, positions: str = "ptychopinn", units: str | None = None) -> Scan:
    """Read a scan from the project's NPZ format.

    Parameters
    ----------
    path
        File with ``diffraction`` or ``diff3d`` (J, N, N), ``xcoords``, ``ycoords`` (J,) and ``probeGuess``
        (N, N), (N, N, 1) or (M, N, N); ``objectGuess`` (H, W) and ``mask`` (N, N) are optional.
        Other members, a pickled ``_metadata`` for instance, are never loaded.
    positions
        Convention of the coordinates: ``ptychopinn`` (patch corner = position - N/2) or ``center``
        (patch corner = position - (N - 1)/2).
    units
        What the frames hold, see ``DataConfig.units``; None takes what the file says or, where it
        says nothing, what its values show.

    Raises
    ------
    DataError
        With all that is wrong with the file.
    """
    source = path.name
    with open_archive(path, source) as archive:
        problems = _missing(archive)
        if positions not in POSITION_CONVENTIONS:
            problems.append(f"positions convention is {positions!r} (legal: {', '.join(POSITION_CONVENTIONS)})")
        if units not in (None, *UNITS):
            problems.append(f"units are {units!r} (legal: {', '.join(UNITS)})")
        raise_problems(source, problems)
        stored = {name: str(archive.load(name)) for name in ("units", "positions") if name in archive.names}
        units = _agree("units", units, stored, problems)
        _agree("positions", positions, stored, problems)
        stack = _diffraction(archive, problems)
        amplitude, units = to_amplitude(stack, units, problems)
        del stack
        row, column = (_real_vector(archive, name, problems) for name in ("ycoords", "xcoords"))
        probe = _probe(archive, amplitude.shape[-1] if amplitude.ndim else 0, problems)
        obj = _complex(archive, "objectGuess", problems) if "objectGuess" in archive.names else None
        mask = archive.load("mask") if "mask" in archive.names else None
    if len(row) != len(column):
        problems.append(f"xcoords holds {len(column)} positions and ycoords {len(row)}: give as many of both")
    raise_problems(source, problems)
    half = amplitude.shape[-1] / 2 if positions == "ptychopinn" else (amplitude.shape[-1] - 1) / 2
    corners_px = np.stack([row, column], axis=1) - half
    return Scan(amplitude, corners_px, probe, units, mask, obj, source)


def _missing(archive: Archive) -> list[str]:
    problems = []
    if not any(name in archive.names for name in DIFFRACTION_KEYS):
        problems.append(f"there is no array 'diffraction' (or 'diff3d'); there are: {', '.join(sorted(archive.names))}")
    return problems + [
        f"there is no array {name!r}" for name in ("xcoords", "ycoords", "probeGuess") if name not in archive.names
    ]


def _agree(name: str, asked: str | None, stored: dict[str, str], problems: list[str]) -> str | None:
    if asked is not None and stored.get(name, asked) != asked:
        problems.append(f"{name}: the file says {stored[name]!r} but {asked!r} is asked for: correct one of them")
    return asked if asked is not None else stored.get(name)


def _diffraction(archive: Archive, problems: list[str]) -> NDArray[Any]:
    present = [name for name in DIFFRACTION_KEYS if name in archive.names]
    stack = archive.load(present[0])
    if len(present) == 2 and not np.array_equal(stack, archive.load(present[1])):
        problems.append("both 'diffraction' and 'diff3d' are there and they differ: keep one of the two")
    return stack


def _real_vector(archive: Archive, name: str, problems: list[str]) -> NDArray[np.float64]:
    vector = archive.load(name)
    if vector.ndim != 1 or vector.dtype.kind not in "fiu":
        problems.append(f"{name} has shape {vector.shape} and type {vector.dtype} (legal: real numbers of shape (J,))")
        return np.zeros(0)
    return vector.astype(np.float64)


def _complex(archive: Archive, name: str, problems: list[str]) -> NDArray[np.complex64]:
    array = archive.load(name)
    if array.dtype.kind != "c":
        problems.append(f"{name} has type {array.dtype}: it must be complex")
        return np.zeros(array.shape, dtype=np.complex64)
    return array.astype(np.complex64, copy=False)


def _probe(archive: Archive, side: int, problems: list[str]) -> NDArray[np.complex64]:
    probe = _complex(archive, "probeGuess", problems)
    if probe.ndim == 2:
        return probe[None]
    if probe.ndim == 3 and probe.shape[2] == 1 and probe.shape[:2] == (side, side):
        return np.ascontiguousarray(probe[:, :, 0])[None]
    if probe.ndim != 3:
        problems.append(f"probeGuess has shape {probe.shape} (legal: (N, N), (N, N, 1) or (M, N, N))")
    return probe
