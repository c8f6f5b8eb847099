"""Data files become scans: one reader per format, chosen by what stands in the file."""

from __future__ import annotations

from pathlib import Path

from ptycho_torch.archives import npz_members
from ptycho_torch.readers.scan import Scan, save_scan, scan_digest
from ptycho_torch.registry import Registry

__all__ = ["READERS", "Scan", "detect_format", "read_scan", "save_scan", "scan_digest"]

READERS = Registry(
    "data format",
    {
        "npz": "ptycho_torch.readers.npz:read_npz",
        "tike": "ptycho_torch.readers.tike:read_tike",
    },
)
"""Format name to a function ``(path, *, positions, units) -> Scan``."""


def detect_format(path: str | Path) -> str:
    """Tell a data file's format from its content.

    Returns
    -------
    str
        A key of :data:`READERS`.

    Raises
    ------
    DataFileNotFoundError
        When there is no such file.
    DataError
        When no reader knows the format.
    """
    return "tike" if {"data", "scan", "probe"} <= set(npz_members(path)) else "npz"


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
    reader = READERS[format if format is not None else detect_format(path)]
    scan: Scan = reader(path, positions=positions, units=units)
    scan.check()
    return scan
