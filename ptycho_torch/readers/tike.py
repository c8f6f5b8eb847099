"""Reader of tike's bz2-compressed NPZ files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.archives import open_npz
from ptycho_torch.readers.scan import Scan, raise_problems
from ptycho_torch.readers.units import native, root_of_counts

_MEMBERS = ("data", "scan", "probe")


def read_tike(path: Path, *, positions: str = "ptychopinn", units: str | None = None) -> Scan:
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
    source = path.name
    problems: list[str] = []
    if units not in (None, "count_intensity"):
        problems.append(f"units {units!r} are asked for but tike files hold counts (legal: count_intensity)")
    with open_npz(path) as archive:
        absent = [name for name in _MEMBERS if name not in archive.members]
        raise_problems(source, [*problems, *(f"there is no array {name!r}" for name in absent)])
        data, corners, probe = (native(archive.read(name)) for name in _MEMBERS)
    if data.ndim != 4 or data.shape[0] != 1 or data.dtype.kind not in "fiu":
        problems.append(
            f"data has shape {data.shape} and type {data.dtype} (legal: real numbers of shape (1, J, N, N))"
        )
    if corners.ndim != 3 or corners.shape[0] != 1 or corners.shape[2] != 2 or corners.dtype.kind not in "fiu":
        problems.append(
            f"scan has shape {corners.shape} and type {corners.dtype} "
            "(legal: real numbers of shape (1, J, 2))"
        )
    elif corners.shape[1] == 0:
        problems.append("scan holds no positions")
    if probe.ndim < 3 or any(side != 1 for side in probe.shape[:-3]) or probe.dtype.kind != "c":
        problems.append(
            f"probe has shape {probe.shape} and type {probe.dtype} "
            "(legal: complex of shape (1, ..., M, N, N))"
        )
    raise_problems(source, problems)
    corners_px = corners[0].astype(np.float64)
    return Scan(
        diffraction=_centred(data[0]),
        corners_px=corners_px - corners_px.min(axis=0),
        probe=probe.reshape(probe.shape[-3:]).astype(np.complex64),
        units="count_intensity",
        mask=None,
        object=None,
        source=source,
    )


def _centred(counts: NDArray[Any]) -> NDArray[np.float32]:
    amplitude = root_of_counts(counts)
    for frame in amplitude:
        frame[...] = np.fft.fftshift(frame)
    return amplitude
