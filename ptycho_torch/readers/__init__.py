"""Data files become scans: one reader per format, chosen by what stands in the file."""

from __future__ import annotations

from pathlib import Path

from ptycho_torch.headers import read_header
from ptycho_torch.readers.scan import Scan, save_scan, scan_digest
from ptycho_torch.variants import READERS

__all__ = ["READERS", "Scan", "read_scan", "save_scan", "scan_digest"]


def read_scan(
    path: str | Path, *, format: str | None = None, positions: str = "ptychopinn", units: str | None = None
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

    Raises
    ------
    DataFileNotFoundError
        When there is no such file.
    DataError
        With all that is wrong with the data.
    """
    path = Path(path)
    reader = READERS[read_header(path).format if format is None else format]
    scan: Scan = reader.read(path, positions=positions, units=units)
    scan.check()
    return scan
