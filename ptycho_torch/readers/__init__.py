"""Data files become scans: one reader per format, chosen by what stands in the file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.headers import DataFormat, read_header
from ptycho_torch.readers.frames import Hold, hold_rows, pieces
from ptycho_torch.readers.scan import Scan, save_scan, scan_digest
from ptycho_torch.variants import READERS

__all__ = ["READERS", "Scan", "read_rows", "read_scan", "save_scan", "scan_digest"]


def read_scan(
    path: str | Path,
    *,
    format: str | None = None,
    positions: str = "ptychopinn",
    units: str | None = None,
    hold: Hold | None = None,
) -> Scan:
    """Read and check one scan.

    Parameters
    ----------
    path
        The data file.
    format
        A key of :data:`READERS`; None tells it from the content.
    positions
        Position convention, see ``DataConfig.positions``.
    units
        Measurement units, see ``DataConfig.units``; None takes what the file says or shows.
    hold
        Where the frames are kept; None keeps them in memory. Not every format can be read
        without first being held as a whole.

    Raises
    ------
    DataFileNotFoundError
        When there is no such file.
    DataError
        With all that is wrong with the data.
    """
    path = Path(path)
    reader: DataFormat = READERS[read_header(path).format if format is None else format]
    told: dict[str, Any] = {} if hold is None or not reader.is_streamed else {"hold": hold}
    scan = reader.read(path, positions=positions, units=units, **told)
    if hold is not None and not reader.is_streamed:
        stack = scan.diffraction
        scan = dataclasses.replace(scan, diffraction=hold(pieces(stack), stack.shape))
    scan.check()
    return scan


def read_rows(path: Path, rows: NDArray[np.int64], *, format: str, positions: str, units: str) -> Scan:
    """Read some frames of a scan file whose header was found sound, and what belongs to them.

    Parameters
    ----------
    path, format, positions, units
        As in :func:`read_scan`.
    rows
        Numbers of the frames, rising.

    Raises
    ------
    DataError
        When the file is not what it is said to be.
    """
    reader: DataFormat = READERS[format]
    told: dict[str, Any] = {"hold": hold_rows(rows)} if reader.is_streamed else {}
    scan = reader.read(path, positions=positions, units=units, **told)
    stack = scan.diffraction if reader.is_streamed else scan.diffraction[rows]
    return dataclasses.replace(scan, diffraction=stack, corners_px=scan.corners_px[rows])
