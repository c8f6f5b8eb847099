"""Which frames are held out, and which overlapping frames form one sample."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ptycho_torch.demand import check_demand, held_out_frames
from ptycho_torch.errors import DataError
from ptycho_torch.exact.seeding import generator
from ptycho_torch.raster import raster_squares
from ptycho_torch.readers.scan import arrays_digest

_TIE_TOLERANCE = 1e-9


def select_frames(
    n_frames: int, n_subsample: int | None, seed: int, *, sequential: bool = False
) -> NDArray[np.int64]:
    """Choose the frames that are used at all.

    Parameters
    ----------
    n_frames
        Number J of frames of the scan.
    n_subsample
        Number of frames to keep; None keeps all.
    seed
        The run's seed.
    sequential
        Keep the first frames instead of drawing them.

    Returns
    -------
    ndarray
        Frame indices in ascending order.

    Raises
    ------
    DataError
        When the scan has fewer frames than are to be kept.
    """
    if n_subsample is None:
        return np.arange(n_frames, dtype=np.int64)
    if n_subsample > n_frames:
        raise DataError(f"data.n_subsample is {n_subsample} but the scan has {n_frames} frames: lower it")
    if sequential:
        return np.arange(n_subsample, dtype=np.int64)
    return np.sort(_draw_order(n_frames, seed, "subsample")[:n_subsample])


def split_frames(
    n_frames: int,
    validation_fraction: float,
    seed: int,
    *,
    positions_px: NDArray[np.float64] | None = None,
    cluster: int = 1,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hold out frames for validation; no frame is on both sides.

    For groups the held-out frames must be neighbours, or they would hardly overlap: they are then taken in
    compact clusters of a drawn frame and its nearest ones.

    Parameters
    ----------
    n_frames
        Number J of frames.
    validation_fraction
        Fraction held out, rounded to whole clusters; above 0 at least one cluster.
    seed
        The run's seed.
    positions_px
        (J, 2) positions; needed when `cluster` is above 1.
    cluster
        Frames per cluster.

    Returns
    -------
    tuple of ndarray
        Training and validation frames, each in ascending order.

    Raises
    ------
    DataError
        When validation would take more than half of the frames.
    """
    frames = np.arange(n_frames, dtype=np.int64)
    if validation_fraction == 0:
        return frames, frames[:0]
    n_clusters = held_out_frames(n_frames, validation_fraction, cluster) // cluster
    is_held_out = np.zeros(n_frames, dtype=bool)
    starts = _draw_order(n_frames, seed, "validation")
    if cluster == 1 or positions_px is None:
        is_held_out[starts[:n_clusters]] = True
    else:
        _hold_out_clusters(is_held_out, starts, positions_px, n_clusters, cluster)
    return frames[~is_held_out], frames[is_held_out]


def _hold_out_clusters(
    is_held_out: NDArray[np.bool_],
    starts: NDArray[np.int64],
    positions_px: NDArray[np.float64],
    n_clusters: int,
    cluster: int,
) -> None:
    # Where all clusters do not fit side by side, the last ones take the nearest frames that are left.
    for must_be_whole in (True, False):
        for start in starts:
            if is_held_out.sum() == n_clusters * cluster:
                return
            distance = _squared_distance(positions_px, positions_px[start])
            if not must_be_whole:
                distance = np.where(is_held_out, np.inf, distance)
            members = np.argsort(distance, kind="stable")[:cluster]
            if not is_held_out[members].any():
                is_held_out[members] = True


def group_neighbours(
    positions_px: NDArray[np.float64],
    gridsize: int,
    n_groups: int,
    *,
    neighbor_count: int,
    seed: int,
    sequential: bool = False,
    oversample: bool = False,
) -> NDArray[np.int64]:
    """Form groups of overlapping frames: a seed frame and C - 1 of its K nearest neighbours.

    Parameters
    ----------
    positions_px
        (J, 2) positions of the frames that may be used, pixels.
    gridsize
        A group holds C = ``gridsize**2`` frames.
    n_groups
        Number G of groups. No two groups have the same seed unless `oversample` is set; then none has
        the same seed and the same members.
    neighbor_count
        Number K of nearest neighbours, of which C - 1 are drawn.
    seed
        Seed of the draws.
    sequential
        Take the first frames as seeds instead of drawing them.
    oversample
        Allow more groups than frames.

    Returns
    -------
    ndarray
        (G, C) indices into `positions_px`; column 0 is the seed, the others ascend.

    Raises
    ------
    DataError
        When the frames do not suffice for the groups.
    """
    n_frames, size = len(positions_px), gridsize**2
    n_choices = check_demand(n_frames, size, n_groups, neighbor_count, is_oversampled=oversample)
    order = np.arange(n_frames) if sequential else _draw_order(n_frames, seed, "group seeds")
    rounds, rest = divmod(n_groups, n_frames)
    repeats = np.full(n_frames, rounds)
    repeats[order[:rest]] += 1
    seeds = np.flatnonzero(repeats)
    if size == 1:
        return seeds[:, None].astype(np.int64)
    neighbours = _nearest(positions_px, min(neighbor_count, n_frames - 1))
    choices = list(combinations(range(neighbours.shape[1]), size - 1)) if n_groups > n_frames else []
    draws = generator(seed, "group members")
    groups = []
    for index in seeds:
        if choices:
            drawn = np.argsort(draws.random(n_choices), kind="stable")[: repeats[index]]
            members = [choices[choice] for choice in drawn]
        else:
            members = [tuple(np.argsort(draws.random(neighbours.shape[1]), kind="stable")[: size - 1])]
        groups += [(index, *sorted(neighbours[index, list(member)])) for member in members]
    return np.array(groups, dtype=np.int64)


def group_squares(
    positions_px: NDArray[np.float64], n_groups: int | None, *, seed: int, sequential: bool = False
) -> NDArray[np.int64]:
    """Form groups of 2 x 2 neighbours of a raster.

    Parameters
    ----------
    positions_px
        (J, 2) positions of the frames that may be used, pixels: on a raster, in which frames may be missing.
    n_groups
        Number G of groups, no two of them alike; None: every square that there is.
    seed
        Seed of the draw.
    sequential
        Take the first squares instead of drawing them.

    Returns
    -------
    ndarray
        (G, 4) indices into `positions_px`: the frame, its right, its lower and its lower right neighbour.

    Raises
    ------
    DataError
        When the positions are no raster, or hold fewer squares.

    References
    ----------
    Hoidn et al., arXiv 2602.21361, section on simulated lines: the groups of gridsize 2.
    """
    squares = raster_squares(positions_px)
    if not len(squares):
        raise DataError(
            f"model.grouping is 'square', but {len(positions_px)} frames form no square of 2 x 2 neighbours: "
            "set it to 'nearest'"
        )
    wanted = len(squares) if n_groups is None else n_groups
    if wanted > len(squares):
        raise DataError(
            f"training.n_groups is {wanted} but the frames form only {len(squares)} squares of 2 x 2 "
            f"neighbours: lower it to {len(squares)} or less"
        )
    order = np.arange(len(squares)) if sequential else _draw_order(len(squares), seed, "group seeds")
    return squares[np.sort(order[:wanted])]


def _nearest(positions_px: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    # A raster scan has many equal distances: ties go to the lower index, whatever the tree's order is.
    tree = KDTree(positions_px)
    farthest = tree.query(positions_px, k=count + 1)[0][:, -1]
    within = tree.query_ball_point(positions_px, farthest * (1 + _TIE_TOLERANCE) + _TIE_TOLERANCE)
    nearest = np.empty((len(positions_px), count), dtype=np.int64)
    for index, found in enumerate(within):
        others = np.array(sorted(set(found) - {index}))
        distance = _squared_distance(positions_px[others], positions_px[index])
        nearest[index] = others[np.argsort(np.round(distance, 9), kind="stable")[:count]]
    return nearest


def _squared_distance(
    positions_px: NDArray[np.float64], point_px: NDArray[np.float64]
) -> NDArray[np.float64]:
    difference = positions_px - point_px
    return difference[:, 0] ** 2 + difference[:, 1] ** 2


def _draw_order(n_frames: int, seed: int, purpose: str) -> NDArray[np.int64]:
    return np.argsort(generator(seed, purpose).random(n_frames), kind="stable").astype(np.int64)


def groups_digest(groups: NDArray[np.int64], validation_groups: NDArray[np.int64] | None = None) -> str:
    """Digest which frames form which group.

    Parameters
    ----------
    groups
        (G, C) frame indices of the training groups.
    validation_groups
        The validation groups, where there are any.

    Returns
    -------
    str
        sha256, hexadecimal.
    """
    arrays = {"groups": groups}
    if validation_groups is not None:
        arrays["validation_groups"] = validation_groups
    return arrays_digest(arrays)
