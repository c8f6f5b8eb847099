"""The probe that stands in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.archives import open_npz
from ptycho_torch.errors import DataError
from ptycho_torch.readers.contract import complex_problems
from ptycho_torch.readers.scan import raise_problems

__all__ = ["stored_probe"]

_KEY = "probeGuess"


def stored_probe(path: Path, N: int, n_modes: int = 1) -> NDArray[np.complex64]:
    """Read the probe of an NPZ file; nothing else of it is looked at.

    Parameters
    ----------
    path
        File with ``probeGuess`` (N, N), (N, N, 1) or (M, N, N), complex.
    N
        The side that the probe must have, pixels.
    n_modes
        Number of modes that are wanted; more than one only of a probe that has one.

    Returns
    -------
    numpy.ndarray
        Probe (M, N, N) complex64, of unit power ``sum |P|**2`` over all modes.

    Raises
    ------
    DataError
        There is no such probe in the file.
    """
    with open_npz(path) as archive:
        header = archive.members.get(_KEY)
        if header is None or header.kind != "c":
            raise DataError(f"{path.name}: holds no complex {_KEY}, so no probe: name a file that has one")
        stored = archive.read(_KEY).astype(np.complex128)
    probe = stored.reshape(1, N, N) if stored.shape in {(N, N), (N, N, 1)} else stored
    raise_problems(path.name, complex_problems(_KEY, probe.astype(np.complex64), (None, N, N)))
    if len(probe) > 1 and n_modes > 1:
        raise DataError(f"{path.name}: {_KEY} has {len(probe)} modes of its own: leave n_modes out")
    power = np.sum(np.abs(probe) ** 2)
    if not power > 0:
        raise DataError(f"{path.name}: {_KEY} is dark everywhere")
    return np.asarray(probe / np.sqrt(power), dtype=np.complex64)
