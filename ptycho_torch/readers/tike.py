"""Reader of tike's bz2-compressed NPZ files."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.archives import NpzArchive, open_npz
from ptycho_torch.errors import DataError
from ptycho_torch.headers import DataFormat, HeaderCheck, ScanHeader
from ptycho_torch.readers.contract import companion_problems, value_problems, with_geometry
from ptycho_torch.readers.frames import Hold, held, stored_pieces
from ptycho_torch.readers.scan import Scan, raise_problems
from ptycho_torch.readers.units import native, root_of_counts

_MEMBERS = ("data", "scan", "probe")


def read_tike(
    path: Path, *, positions: str = "ptychopinn", units: str | None = None, hold: Hold = held
) -> Scan:
    """Read a scan from tike's NPZ, plain or bz2-compressed.

    Parameters
    ----------
    path
        File with ``data`` (1, J, N, N) counts, zero frequency in the corner; ``scan`` (1, J, 2) corners in
        pixels, row and column from any origin; ``probe`` (1, ..., M, N, N).
    positions
        Without effect: the format's origin is arbitrary, so the two conventions cannot be told apart.
    units
        None or ``count_intensity``, which the format fixes.
    hold
        Where the frames are kept.

    Returns
    -------
    Scan
        Its positions are moved so that the lowest row and column are zero.

    Raises
    ------
    DataFileNotFoundError
        When there is no such file.
    DataError
        With all that is wrong with the file.
    """
    with open_npz(path) as archive:
        absent = [name for name in _MEMBERS if name not in archive.members]
        problems = [f"there is no array {name!r}" for name in absent]
        if units not in (None, "count_intensity"):
            problems.append(
                f"units {units!r} are asked for but tike files hold counts (legal: count_intensity)"
            )
        raise_problems(path.name, problems)
        header = _header(str(path), archive)
        shape = (header.n_frames, header.N, header.N)
        corners_px = _corners(archive)
        return Scan(
            diffraction=hold((_centred(piece) for piece in stored_pieces(archive, "data", shape)), shape),
            corners_px=corners_px - corners_px.min(axis=0),
            probe=_probe(archive),
            units="count_intensity",
            mask=None,
            object=None,
            source=path.name,
        )


def _corners(archive: NpzArchive) -> NDArray[np.float64]:
    corners_px: NDArray[np.float64] = archive.read("scan")[0].astype(np.float64)
    return corners_px


def _probe(archive: NpzArchive) -> NDArray[np.complex64]:
    probe = native(archive.read("probe"))
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is found as such
        return probe.reshape(probe.shape[-3:]).astype(np.complex64)


def _centred(counts: NDArray[Any]) -> NDArray[np.float32]:
    amplitude = root_of_counts(native(counts))
    for frame in amplitude:
        frame[...] = np.fft.fftshift(frame)
    return amplitude


def read_tike_header(path: Path) -> ScanHeader | None:
    """Read the header of tike's NPZ; None when the file is no archive, or one without tike's arrays."""
    with contextlib.ExitStack() as stack:
        try:
            archive = stack.enter_context(open_npz(path))
        except DataError:
            return None
        if not set(_MEMBERS) <= set(archive.members):
            return None
        header, corners_px = _header(str(path), archive), _corners(archive)
        frames = stored_pieces(archive, "data", (header.n_frames, header.N, header.N))
        problems = value_problems(frames, None)
        problems += companion_problems(header.n_frames, header.N, corners_px, _probe(archive), None, None)
        raise_problems(path.name, problems)
        return with_geometry(header, corners_px)


def _header(file: str, archive: NpzArchive) -> ScanHeader:
    check = HeaderCheck(archive)
    stack = check.member("data", "fiu", "real, of shape (1, J, N, N)", [4])
    scan = check.member("scan", "fiu", "real, of shape (1, J, 2)", [3])
    probe = check.member("probe", "c", "complex, of shape (1, ..., M, N, N)", range(3, 8))
    if scan is not None and (scan.shape[0], scan.shape[2]) != (1, 2):
        check.found.append(f"scan has shape {scan.shape}, but must be (1, J, 2)")
        scan = None
    if stack is not None and stack.shape[0] != 1:
        check.found.append(f"data has shape {stack.shape}: one view is read at a time, (1, J, N, N)")
    elif stack is not None:
        check.frames("data", stack.shape[1:], None if scan is None else scan.shape[1])
    if stack is not None and probe is not None:
        side = stack.shape[2]
        if probe.shape[-2:] != (side, side) or set(probe.shape[:-3]) > {1} or 0 in probe.shape:
            check.found.append(f"probe has shape {probe.shape}, but must be (1, ..., M, {side}, {side})")
    check.refuse()
    stack, probe = archive.members["data"], archive.members["probe"]
    low, high = check.extent(_corners(archive))
    check.refuse()
    return ScanHeader(
        file=file,
        N=stack.shape[2],
        n_frames=stack.shape[1],
        n_modes=probe.shape[-3],
        units="count_intensity",
        are_units_stated=True,
        position_min_px=low,
        position_max_px=high,
        format="tike",
        dtype=stack.dtype,
        keys=tuple(sorted(archive.members)),
    )


TIKE = DataFormat(
    read_header=read_tike_header, read=read_tike, is_streamed=True, title="tike's NPZ (also in bz2)"
)
