from __future__ import annotations

import hashlib
from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ptycho_torch.data.grouping import (
    group_neighbours,
    group_squares,
    groups_digest,
    select_frames,
    split_frames,
)
from ptycho_torch.errors import DataError


def raster(rows: int, columns: int, step_px: float = 3.0) -> np.ndarray:
    return np.stack(np.divmod(np.arange(rows * columns), columns), axis=1) * step_px


def scattered(n_frames: int, seed: int = 0) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).uniform(0, 50, (n_frames, 2))


@settings(max_examples=30, deadline=None)
@example(n_frames=3, fraction=0.5, seed=0)
@given(n_frames=st.integers(2, 300), fraction=st.floats(0.0, 0.5), seed=st.integers(0, 2**40))
def test_every_frame_is_on_exactly_one_side_of_the_split(n_frames, fraction, seed):
    wanted = 0 if fraction == 0 else max(1, round(fraction * n_frames))
    if wanted > max(n_frames / 2, fraction * n_frames):
        with pytest.raises(DataError, match="too few to hold out"):
            split_frames(n_frames, fraction, seed)
        return
    train, held_out = split_frames(n_frames, fraction, seed)
    assert np.array_equal(np.sort(np.concatenate([train, held_out])), np.arange(n_frames))
    assert np.all(np.diff(train) > 0)
    assert np.all(np.diff(held_out) > 0)
    assert len(held_out) == wanted


def test_the_split_follows_the_seed_and_nothing_else():
    first, again, other = (split_frames(200, 0.1, seed)[1] for seed in (4, 4, 5))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_held_out_clusters_are_compact_so_that_their_frames_overlap():
    positions_px = raster(20, 20)
    train, held_out = split_frames(400, 0.05, 3, positions_px=positions_px, cluster=5)
    assert len(held_out) == 20
    assert not set(train) & set(held_out)
    groups = held_out[group_neighbours(positions_px[held_out], 2, len(held_out), neighbor_count=4, seed=0)]
    spans = np.ptp(positions_px[groups], axis=1).max()
    assert spans <= 3 * 3.0


def test_too_few_frames_to_hold_a_cluster_out_are_refused():
    with pytest.raises(DataError, match="validation_fraction to 0"):
        split_frames(8, 0.05, 0, positions_px=raster(2, 4), cluster=5)


def test_a_split_that_leaves_nothing_to_train_on_is_refused():
    with pytest.raises(DataError, match="validation"):
        split_frames(1, 0.5, 0)


def test_a_subsample_has_the_asked_size_or_is_refused():
    drawn = select_frames(50, 20, 1)
    assert len(set(drawn)) == 20
    assert np.all(np.diff(drawn) > 0)
    assert np.array_equal(select_frames(50, 20, 1, sequential=True), np.arange(20))
    assert np.array_equal(select_frames(50, None, 1), np.arange(50))
    assert not np.array_equal(drawn, select_frames(50, 20, 2))
    with pytest.raises(DataError, match="50 frames"):
        select_frames(50, 51, 1)


@settings(max_examples=25, deadline=None)
@given(
    n_frames=st.integers(6, 60),
    share=st.floats(0.05, 1.0),
    seed=st.integers(0, 2**31),
    is_raster=st.booleans(),
)
def test_a_group_is_a_seed_and_three_of_its_nearest_neighbours(n_frames, share, seed, is_raster):
    positions_px = raster(n_frames, 1) if is_raster else scattered(n_frames, seed)
    n_groups = max(1, int(share * n_frames))
    groups = group_neighbours(positions_px, 2, n_groups, neighbor_count=5, seed=seed)
    assert groups.shape == (n_groups, 4)
    assert len(set(groups[:, 0])) == n_groups
    for group in groups:
        assert len(set(group)) == 4
        distance = np.linalg.norm(positions_px - positions_px[group[0]], axis=1)
        assert distance[group[1:]].max() <= np.sort(distance)[5] + 1e-9


def test_ties_on_a_raster_go_to_the_lower_index():
    positions_px = raster(5, 5)
    groups = group_neighbours(positions_px, 2, 25, neighbor_count=3, seed=0)
    assert groups[groups[:, 0] == 12][0].tolist() == [12, 7, 11, 13]
    shifted = group_neighbours(positions_px + 0.1, 2, 25, neighbor_count=3, seed=0)
    assert np.array_equal(groups, shifted)


def test_all_neighbours_get_their_turn():
    groups = group_neighbours(raster(9, 9), 2, 81, neighbor_count=8, seed=5)
    offsets = {tuple(step) for group in groups for step in raster(9, 9)[group[1:]] - raster(9, 9)[group[0]]}
    assert len(offsets) >= 8


def test_groups_follow_the_seed_and_sequential_sampling_the_file():
    positions_px = scattered(40)
    first, again, other = (
        group_neighbours(positions_px, 2, 20, neighbor_count=6, seed=seed) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    sequential = group_neighbours(positions_px, 2, 20, neighbor_count=6, seed=1, sequential=True)
    assert np.array_equal(sequential[:, 0], np.arange(20))


def test_gridsize_one_groups_are_single_frames():
    groups = group_neighbours(scattered(10), 1, 10, neighbor_count=4, seed=0)
    assert np.array_equal(groups, np.arange(10)[:, None])


def test_frames_at_one_position_are_still_other_frames():
    groups = group_neighbours(np.zeros((6, 2)), 2, 6, neighbor_count=4, seed=0)
    assert all(len(set(group)) == 4 for group in groups)


def test_oversampling_gives_only_different_groups():
    groups = group_neighbours(scattered(12), 2, 48, neighbor_count=4, seed=0, oversample=True)
    assert len({tuple(group) for group in groups}) == 48
    assert set(np.unique(groups[:, 0], return_counts=True)[1]) == {len(list(combinations(range(4), 3)))}


def test_an_uneven_oversampling_spreads_over_the_frames():
    groups = group_neighbours(scattered(12), 2, 29, neighbor_count=4, seed=0, oversample=True)
    assert len({tuple(group) for group in groups}) == 29
    assert sorted(np.unique(groups[:, 0], return_counts=True)[1]) == [2] * 7 + [3] * 5


@pytest.mark.parametrize(
    ("n_frames", "gridsize", "n_groups", "neighbor_count", "oversample", "complaint"),
    [
        (20, 2, 21, 4, False, "only 20 frames can be seeds"),
        (20, 1, 21, 4, False, "data.oversample"),
        (20, 2, 81, 4, True, "form only 80 different"),
        (20, 1, 21, 4, True, "form only 20 different"),
        (3, 2, 1, 4, False, "a group takes 4 frames but there are 3"),
        (0, 1, 1, 4, False, "there are 0"),
        (20, 2, 5, 2, False, "neighbor_count is 2"),
        (20, 2, 0, 4, False, "n_groups is 0"),
    ],
)
def test_a_demand_that_the_frames_cannot_meet_is_refused(
    n_frames, gridsize, n_groups, neighbor_count, oversample, complaint
):
    with pytest.raises(DataError, match=complaint):
        group_neighbours(
            scattered(n_frames),
            gridsize,
            n_groups,
            neighbor_count=neighbor_count,
            seed=0,
            oversample=oversample,
        )


def test_the_groups_digest_can_be_recomputed_by_hand():
    groups = np.array([[0, 1], [2, 3], [4, 5]])
    by_hand = hashlib.sha256(b"groups|int64|3,2\n" + groups.astype("<i8").tobytes()).hexdigest()
    assert groups_digest(groups) == by_hand
    assert groups_digest(groups, groups[:1]) != by_hand
    assert groups_digest(groups[::-1]) != by_hand


def test_squares_are_drawn_by_the_seed_and_none_twice():
    positions_px = raster(9, 9)
    first, again, other = (group_squares(positions_px, 30, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len({tuple(group) for group in first}) == 30
    ordered = group_squares(positions_px, 3, seed=1, sequential=True)
    assert ordered.tolist() == [[0, 1, 9, 10], [1, 2, 10, 11], [2, 3, 11, 12]]


def test_frames_that_form_no_square_are_refused():
    with pytest.raises(DataError, match=r"4 frames form no square.*'nearest'"):
        group_squares(raster(1, 4), None, seed=0)


def test_more_squares_than_there_are_cannot_be_asked_for():
    with pytest.raises(
        DataError, match=r"n_groups is 10 but .* only 9 squares of 2 x 2 neighbours: lower it to 9"
    ):
        group_squares(raster(4, 4), 10, seed=0)
