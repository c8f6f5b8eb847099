"""Whether the frames of a scan suffice for what is asked of them: arithmetic, before any is read."""

from __future__ import annotations

import math

from ptycho_torch.errors import DataError

__all__ = ["check_demand", "frames_held_together", "held_out_frames"]


def frames_held_together(gridsize: int, neighbor_count: int) -> int:
    """Return how many frames are held out together: one, or one with those that may join its group."""
    return 1 if gridsize == 1 else neighbor_count + 1


def held_out_frames(n_frames: int, validation_fraction: float, cluster: int) -> int:
    """Return the number of frames that are held out for validation.

    Parameters
    ----------
    n_frames
        Number J of frames.
    validation_fraction
        Fraction held out, rounded to whole clusters; above 0 at least one cluster.
    cluster
        Frames that are held out together.

    Raises
    ------
    DataError
        When validation would take more than half of the frames.
    """
    if validation_fraction == 0:
        return 0
    held_out = max(1, round(validation_fraction * n_frames / cluster)) * cluster
    if held_out > n_frames / 2 and held_out > validation_fraction * n_frames:
        raise DataError(
            f"{n_frames} frames are too few to hold out {held_out} for validation: "
            "set data.validation_fraction to 0, or give more frames or a test file"
        )
    return held_out


def check_demand(
    n_frames: int, size: int, n_groups: int, neighbor_count: int, *, is_oversampled: bool
) -> int:
    """Refuse a number of groups that the frames cannot form.

    Parameters
    ----------
    n_frames
        Frames that may be used.
    size
        Frames of a group.
    n_groups, neighbor_count
        As in ``TrainingConfig`` and ``DataConfig``.
    is_oversampled
        A frame may be the seed of several groups.

    Returns
    -------
    int
        In how many ways a seed can be completed to a group.

    Raises
    ------
    DataError
        When the frames do not suffice.
    """
    if n_groups < 1:
        raise DataError(f"training.n_groups is {n_groups} (legal: 1 or more)")
    if n_frames < size:
        raise DataError(
            f"a group takes {size} frames but there are {n_frames}: lower model.gridsize or give more frames"
        )
    available = min(neighbor_count, n_frames - 1)
    if available < size - 1:
        raise DataError(
            f"data.neighbor_count is {neighbor_count} but a group needs {size - 1} neighbours: "
            "raise it, or give more frames"
        )
    n_choices = math.comb(available, size - 1)
    if n_groups > n_frames and not is_oversampled:
        raise DataError(
            f"training.n_groups is {n_groups} but only {n_frames} frames can be seeds: "
            f"lower it to {n_frames} or less, or set data.oversample to true"
        )
    if n_groups > n_frames * n_choices:
        raise DataError(
            f"training.n_groups is {n_groups} but {n_frames} frames form only {n_frames * n_choices} "
            f"different groups with {available} neighbours: lower it or raise data.neighbor_count"
        )
    return n_choices
