"""Squares of neighbours on a raster."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho_torch.errors import DataError
from ptycho_torch.raster import num_raster_squares, raster_squares


def raster(rows: int, columns: int, step_px: float = 3.0) -> np.ndarray:
    return np.stack(np.divmod(np.arange(rows * columns), columns), axis=1) * step_px


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(2, 9),
    columns=st.integers(2, 9),
    steps_px=st.tuples(st.floats(1, 9), st.floats(1, 9)),
    seed=st.integers(0, 2**40),
    missing=st.integers(0, 3),
)
def test_squares_are_all_2_x_2_neighbours_in_whatever_order_the_frames_come(
    rows: int, columns: int, steps_px: tuple[float, float], seed: int, missing: int
) -> None:
    random = np.random.Generator(np.random.PCG64(seed))
    places = random.permutation(np.argwhere(np.ones((rows, columns))))[missing:]
    present = [np.unique(places[:, axis]) for axis in (0, 1)]
    if any(len(one) < 2 or np.diff(one).max() > 1 for one in present):
        return  # whole rows or columns are missing: of another raster
    held = {tuple(place) for place in places}
    corners = {(r, c) for r, c in held if {(r, c + 1), (r + 1, c), (r + 1, c + 1)} <= held}
    positions_px = places * np.array(steps_px) + random.uniform(-50, 50, 2)
    positions_px += random.uniform(-0.02, 0.02, positions_px.shape)
    squares = raster_squares(positions_px)
    assert {tuple(places[square[0]]) for square in squares} == corners
    assert len(squares) == len(corners) == num_raster_squares(positions_px)
    steps = places[squares] - places[squares[:, :1]]
    assert np.array_equal(steps, np.broadcast_to([(0, 0), (0, 1), (1, 0), (1, 1)], steps.shape))


@pytest.mark.parametrize("step_px", [5.3, 13.7])
def test_a_long_raster_in_single_precision_is_one(step_px: float) -> None:
    positions_px = (raster(3, 400, 1.0).astype(np.float32) * np.float32(step_px)).astype(np.float64)
    assert num_raster_squares(positions_px) == 2 * 399


@pytest.mark.parametrize(("square_px", "step_px"), [(4.0, 10.0), (2.5, 6.0), (3.0, 9.0)])
def test_squares_that_stand_apart_are_the_only_ones(square_px: float, step_px: float) -> None:
    apart = raster(5, 7, step_px)
    positions_px = (apart[:, None] + raster(2, 2, square_px)).reshape(-1, 2)
    squares = raster_squares(positions_px)
    assert np.array_equal(squares, np.arange(4 * 35).reshape(35, 4))


def test_pairs_at_uneven_distances_are_no_raster() -> None:
    uneven = (np.array([0.0, 10.0, 23.0])[:, None] + [0.0, 4.0]).ravel()
    with pytest.raises(DataError, match="no raster"):
        raster_squares(np.stack(np.meshgrid(uneven, uneven), axis=-1).reshape(-1, 2))


def test_scattered_positions_are_no_raster() -> None:
    scattered = np.random.Generator(np.random.PCG64(0)).uniform(0, 50, (40, 2))
    with pytest.raises(DataError, match=r"no raster of one spacing.*'nearest'"):
        raster_squares(scattered)
    assert num_raster_squares(scattered) == 0


def test_two_frames_at_one_place_are_refused() -> None:
    with pytest.raises(DataError, match="two frames share a place"):
        raster_squares(np.concatenate([raster(3, 3), raster(1, 1)]))
