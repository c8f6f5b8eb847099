"""Reader of the project's own NPZ files, PtychoPINN's key names included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.archives import NpzArchive, open_npz
from ptycho_torch.errors import DataError
from ptycho_torch.headers import DIFFRACTION_KEYS, POSITION_CONVENTIONS, ScanHeader, read_header
from ptycho_torch.readers.scan import Scan, raise_problems
from ptycho_torch.readers.units import native, to_amplitude


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
    DataFileNotFoundError
        When there is no such file.
    DataError
        With all that is wrong with the file.
    """
    header = read_header(path)
    problems = _contradictions(header, positions, units)
    raise_problems(path.name, problems)
    units = units or (header.units if header.are_units_stated else None)
    half = header.N / 2 if positions == "ptychopinn" else (header.N - 1) / 2
    with open_npz(path) as archive:
        amplitude, units = to_amplitude(_diffraction(archive), units, problems)
        corners_px = np.stack([_vector(archive, name) for name in ("ycoords", "xcoords")], axis=1) - half
        probe = _complex(archive, "probeGuess")
        obj = _complex(archive, "objectGuess") if "objectGuess" in archive.members else None
        mask = native(archive.read("mask")) if "mask" in archive.members else None
    raise_problems(path.name, problems)
    if probe.shape[1:] != (header.N, header.N):
        probe = probe.reshape(1, header.N, header.N)
    return Scan(amplitude, corners_px, probe, units, mask, obj, path.name)


def _contradictions(header: ScanHeader, positions: str, units: str | None) -> list[str]:
    problems = []
    if header.format != "npz":
        raise DataError(f"{header.name}: holds {header.format} data, not the project's NPZ")
    if positions not in POSITION_CONVENTIONS:
        problems.append(f"positions convention is {positions!r} (legal: {', '.join(POSITION_CONVENTIONS)})")
    elif header.positions not in (None, positions):
        problems.append(
            f"the file says that its positions follow {header.positions!r}, but {positions!r} is asked for: "
            "correct data.positions"
        )
    if units is not None and header.are_units_stated and header.units != units:
        problems.append(
            f"the file says that it holds {header.units!r}, but {units!r} is asked for: correct data.units"
        )
    return problems


def _diffraction(archive: NpzArchive) -> NDArray[Any]:
    name = next(name for name in DIFFRACTION_KEYS if name in archive.members)
    return native(archive.read(name))


def _vector(archive: NpzArchive, name: str) -> NDArray[np.float64]:
    return archive.read(name).astype(np.float64)


def _complex(archive: NpzArchive, name: str) -> NDArray[np.complex64]:
    return archive.read(name).astype(np.complex64, order="C")
