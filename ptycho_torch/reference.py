"""An object that was found from the same frames, put in the place of the truth."""

from __future__ import annotations

import dataclasses

import numpy as np

from ptycho_torch.errors import DataError
from ptycho_torch.readers.scan import Scan

__all__ = ["refuse_other_frames", "with_reference"]

SAME_POSITIONS_PX = 0.05
"""Positions of a scan and of its reference may differ by a constant and by this much."""


def with_reference(scan: Scan, reference: Scan) -> Scan:
    """Give a scan the object of a reference that was made from the same frames.

    The scan's positions move onto the reference's object grid.

    Raises
    ------
    DataError
        The reference has no object, or its frames stand elsewhere.
    """
    if reference.object is None:
        raise DataError(f"{reference.source}: a reference needs an object, and this file holds none")
    refuse_other_frames(reference.source, reference.n_frames, scan.n_frames)
    shift = reference.corners_px - scan.corners_px
    worst = float(np.abs(shift - np.median(shift, axis=0)).max())
    if worst > SAME_POSITIONS_PX:
        raise DataError(
            f"{reference.source}: the reference's positions differ from the scan's by up to {worst:.2f} px "
            "beyond a common shift: check the position conventions"
        )
    return dataclasses.replace(scan, object=reference.object, corners_px=reference.corners_px)


def refuse_other_frames(source: str, n_reference: int, n_frames: int) -> None:
    """Refuse a reference that has another number of frames than the scan.

    Raises
    ------
    DataError
        It is so.
    """
    if n_reference != n_frames:
        raise DataError(
            f"{source}: the reference has {n_reference} frames and the scan "
            f"{n_frames}: it must have been made from the same frames"
        )
