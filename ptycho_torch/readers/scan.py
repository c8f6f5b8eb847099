"""One ptychographic scan in memory, and everything that can be wrong with it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.archives import row_blocks, write_npz
from ptycho_torch.durable import open_durably
from ptycho_torch.errors import DataError
from ptycho_torch.headers import UNITS
from ptycho_torch.readers.contract import (
    companion_problems,
    repeated_positions,
    stack_problems,
    value_problems,
)
from ptycho_torch.readers.frames import pieces

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Scan:
    """Diffraction frames, where each was taken, and the probe that took them.

    Parameters
    ----------
    diffraction
        Far-field **amplitude**, (J, N, N) float32, zero frequency at ``[N/2, N/2]``. Anything with
        row access serves: an array or a memory map.
    corners_px
        (J, 2) float64, (row, column) of the pixel ``[0, 0]`` of each frame's patch on the object grid.
        Both position conventions end here.
    probe
        (M, N, N) complex64, M incoherent modes on the object grid.
    units
        What the file's frames were, as ``DataConfig.units`` has it. `diffraction` is an amplitude
        in any case: of counts in both count units, in arbitrary units otherwise.
    mask
        (N, N) bool, True where the detector pixel is used; None uses all.
    object
        (H, W) complex64 reference, used for evaluation only; None where there is none.
    source
        Where the scan comes from, for messages.
    """

    diffraction: NDArray[np.float32]
    corners_px: NDArray[np.float64]
    probe: NDArray[np.complex64]
    units: str
    mask: NDArray[np.bool_] | None
    object: NDArray[np.complex64] | None
    source: str

    @property
    def n_frames(self) -> int:
        """Number J of frames."""
        return int(self.diffraction.shape[0])

    @property
    def side_px(self) -> int:
        """Side N of a frame, pixels."""
        return int(self.diffraction.shape[-1])

    def check(self) -> None:
        """Refuse a scan that breaks the data contract, with all its problems at once.

        Two frames at one position are legal and only logged as a warning.

        Raises
        ------
        DataError
            With one sentence per problem.
        """
        problems = stack_problems(self.diffraction)
        if not problems:
            problems += value_problems(pieces(self.diffraction), self.mask)
            problems += companion_problems(
                self.n_frames, self.side_px, self.corners_px, self.probe, self.object, self.mask
            )
        if self.units not in UNITS:
            problems.append(f"units are {self.units!r} (legal: {', '.join(UNITS)})")
        raise_problems(self.source, problems)
        if (repeated := repeated_positions(self.corners_px)) > 0:
            logger.warning(
                "%s: %d positions occur more than once: check that they are meant", self.source, repeated
            )


def raise_problems(source: str, problems: Sequence[str]) -> None:
    """Raise all problems of one data source together; do nothing when there are none.

    Raises
    ------
    DataError
        With one line per problem, each beginning with the source.
    """
    if problems:
        raise DataError("\n".join(f"{source}: {problem}" for problem in problems))


def arrays_digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    r"""Digest named arrays: their names, types, shapes and values, independent of order and layout.

    Parameters
    ----------
    arrays
        Name to array. Fed to the hash sorted by name, each as ``name|dtype|shape\n`` and its
        little-endian bytes in C order.

    Returns
    -------
    str
        sha256, hexadecimal.
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        shape = ",".join(str(side) for side in array.shape)
        digest.update(f"{name}|{array.dtype.name}|{shape}\n".encode())
        for rows in row_blocks(array):
            digest.update(rows.astype(array.dtype.newbyteorder("<"), copy=False).data)
    return digest.hexdigest()


def _arrays(scan: Scan) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {"diffraction": scan.diffraction, "probe": scan.probe}
    optional = {"mask": scan.mask, "object": scan.object}
    return arrays | {name: array for name, array in optional.items() if array is not None}


def scan_digest(scan: Scan) -> str:
    """Digest a scan that stands in no file, so that a simulated one can be named in a manifest.

    Returns
    -------
    str
        sha256 over its arrays and its units, not its source.
    """
    units = np.frombuffer(scan.units.encode(), dtype=np.uint8)
    return arrays_digest(_arrays(scan) | {"corners_px": scan.corners_px, "units": units})


def save_scan(path: str | Path, scan: Scan) -> None:
    """Write a scan as the project's own NPZ, in the ``ptychopinn`` position convention.

    The same scan gives the same bytes. The file is there whole or not at all.

    Parameters
    ----------
    path
        File to write; an existing one is replaced.
    scan
        A checked scan. ``count_intensity`` is stored as ``count_amplitude``: the frames are amplitudes.
    """
    path = Path(path)
    centre = scan.corners_px + scan.side_px / 2
    units = "count_amplitude" if scan.units == "count_intensity" else scan.units
    names = {"probe": "probeGuess", "object": "objectGuess"}
    members = {names.get(name, name): array for name, array in _arrays(scan).items()}
    members |= {"ycoords": centre[:, 0], "xcoords": centre[:, 1]}
    members |= {"units": np.array(units), "positions": np.array("ptychopinn")}
    with open_durably(path) as stream:
        write_npz(stream, members)
