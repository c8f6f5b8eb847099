"""Reader of the project's own NPZ files, PtychoPINN's key names included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.archives import NpzArchive, open_npz
from ptycho_torch.headers import (
    DIFFRACTION_KEYS,
    MAX_FRAMES,
    POSITION_CONVENTIONS,
    SAMPLE_ITEMS,
    UNITS,
    DataFormat,
    HeaderCheck,
    ScanHeader,
    infer_units,
)
from ptycho_torch.readers.contract import companion_problems, complex_problems, value_problems, with_geometry
from ptycho_torch.readers.frames import Hold, held, stored_pieces
from ptycho_torch.readers.scan import Scan, raise_problems
from ptycho_torch.readers.units import native, settle_units, to_amplitude


def read_npz(
    path: Path, *, positions: str = "ptychopinn", units: str | None = None, hold: Hold = held
) -> Scan:
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
    hold
        Where the frames are kept.

    Raises
    ------
    DataFileNotFoundError
        When there is no such file.
    DataError
        With all that is wrong with the file.
    """
    with open_npz(path) as archive:
        header = _header(str(path), archive)
        problems = _contradictions(header, positions, units)
        raise_problems(path.name, problems)
        units = units or (header.units if header.are_units_stated else None)
        name, shape = _diffraction_name(archive, []), (header.n_frames, header.N, header.N)
        said = settle_units(native(archive.read(name, SAMPLE_ITEMS)), units, problems)
        raise_problems(path.name, problems)
        frames = (to_amplitude(native(piece), said) for piece in stored_pieces(archive, name, shape))
        half = header.N / 2 if positions == "ptychopinn" else (header.N - 1) / 2
        return Scan(
            hold(frames, shape),
            _positions(archive) - half,
            *_companions(archive, header.N, said),
            path.name,
        )


def _companions(
    archive: NpzArchive, side: int, units: str
) -> tuple[NDArray[np.complex64], str, NDArray[np.bool_] | None, NDArray[np.complex64] | None]:
    probe = _complex(archive, "probeGuess")
    if probe.shape[1:] != (side, side):
        probe = probe.reshape(1, side, side)
    mask = native(archive.read("mask")) if "mask" in archive.members else None
    obj = _complex(archive, "objectGuess") if "objectGuess" in archive.members else None
    return probe, units, mask, obj


def _contradictions(header: ScanHeader, positions: str, units: str | None) -> list[str]:
    problems = []
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


def _positions(archive: NpzArchive) -> NDArray[np.float64]:
    return np.stack([archive.read(name).astype(np.float64) for name in ("ycoords", "xcoords")], axis=1)


def _complex(archive: NpzArchive, name: str) -> NDArray[np.complex64]:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is found as such
        return archive.read(name).astype(np.complex64, order="C")


def read_npz_header(path: Path) -> ScanHeader:
    """Read the header of the project's NPZ format, as :func:`ptycho_torch.headers.read_header` does."""
    with open_npz(path) as archive:
        header = _header(str(path), archive)
        positions_px = _positions(archive)
        probe, _, mask, obj = _companions(archive, header.N, "")
        name, shape = _diffraction_name(archive, []), (header.n_frames, header.N, header.N)
        problems = value_problems(stored_pieces(archive, name, shape), mask)
        # Whether a patch leaves the object depends on the convention, which the file need not state.
        problems += companion_problems(header.n_frames, header.N, positions_px, probe, None, mask)
        if obj is not None:
            problems += complex_problems("object", obj, (None, None))
        raise_problems(path.name, problems)
        return with_geometry(header, positions_px)


def _header(file: str, archive: NpzArchive) -> ScanHeader:
    check = HeaderCheck(archive)
    name = _diffraction_name(archive, check.found)
    stack = check.member(name, "fiu", "real, of shape (J, N, N)", [3])
    coords = [check.member(axis, "fiu", "real, of shape (J,)", [1]) for axis in ("ycoords", "xcoords")]
    probe = check.member("probeGuess", "c", "complex, of shape (N, N), (N, N, 1) or (M, N, N)", [2, 3])
    obj = None
    if "objectGuess" in archive.members:
        obj = check.member("objectGuess", "c", "complex, of shape (H, W)", [2])
    lengths = [header.shape[0] for header in coords if header is not None]
    if len(set(lengths)) > 1:
        check.found.append(f"ycoords holds {lengths[0]} positions but xcoords {lengths[1]}")
    if stack is not None:
        check.frames(name, stack.shape, lengths[0] if lengths else None)
    if (most := max(lengths, default=0)) > MAX_FRAMES:
        check.found.append(f"there are {most} positions, at most {MAX_FRAMES} are read")
    if stack is not None and probe is not None:
        _check_probe(probe.shape, stack.shape[1], check.found)
    check.refuse()
    stack, probe = archive.members[name], archive.members["probeGuess"]
    sample, units = check.sample(name), check.stated("units", UNITS)
    low, high = check.extent(_positions(archive))
    positions = check.stated("positions", POSITION_CONVENTIONS)
    check.refuse()
    side = stack.shape[1]
    return ScanHeader(
        file=file,
        N=side,
        n_frames=stack.shape[0],
        n_modes=probe.shape[0] if probe.shape[1:] == (side, side) else 1,
        units=units or infer_units(sample),
        are_units_stated=units is not None,
        positions=positions,
        position_min_px=low,
        position_max_px=high,
        object_shape=None if obj is None else (obj.shape[0], obj.shape[1]),
        format="npz",
        dtype=stack.dtype,
        keys=tuple(sorted(archive.members)),
    )


def _diffraction_name(archive: NpzArchive, found: list[str]) -> str:
    first, second = DIFFRACTION_KEYS
    if first in archive.members and second in archive.members:
        one, other = archive.members[first], archive.members[second]
        if (one.shape, one.dtype, one.checksum) != (other.shape, other.dtype, other.checksum):
            found.append(f"{first!r} and {second!r} are both there and differ: keep one of the two")
    return second if second in archive.members and first not in archive.members else first


def _check_probe(shape: tuple[int, ...], side: int, found: list[str]) -> None:
    if shape not in {(side, side), (side, side, 1)} and shape[1:] != (side, side):
        found.append(f"probeGuess has shape {shape}, but the frames are {side} x {side} pixels")
    elif shape[0] == 0:
        found.append(f"probeGuess has shape {shape}: there is no mode")


NPZ = DataFormat(
    read_header=read_npz_header, read=read_npz, is_streamed=True, title="PtychoPINN's NPZ (also in bz2)"
)
