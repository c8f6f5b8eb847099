from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from ptycho_torch.errors import DataError
from ptycho_torch.placement import Frame
from ptycho_torch.stitching import Reconstruction, stitch, synchronise_phases
from tests.torch.known_object import KnownScan, make_known_scan


@pytest.fixture
def known_scan() -> KnownScan:
    return make_known_scan()


WELL = 0.2
MOVE = np.array([7, -40])


def truth_on_frame(scan: KnownScan, reconstruction: Reconstruction) -> np.ndarray:
    row, column = reconstruction.frame_origin_px
    height, width = reconstruction.object.shape
    rows, columns = (np.arange(start, start + size) for start, size in ((row, height), (column, width)))
    return scan.object[np.ix_(rows % scan.object.shape[0], columns % scan.object.shape[1])]


def inner(reconstruction: Reconstruction) -> tuple[slice, slice]:
    well = reconstruction.coverage > WELL
    rows, columns = (np.flatnonzero(well.mean(axis=axis) > 0.7) for axis in (1, 0))
    return slice(rows[0] + 3, rows[-1] - 2), slice(columns[0] + 3, columns[-1] - 2)


def similarity(first: np.ndarray, second: np.ndarray) -> float:
    return float(structural_similarity(first, second, data_range=float(np.ptp(second))))


def random_phases(count: int) -> np.ndarray:
    angles = np.random.default_rng(5).uniform(-np.pi, np.pi, count)
    return np.exp(1j * angles).astype(np.complex64)[:, None, None]


@pytest.mark.parametrize("middle_trim", [0, 20, 32])
def test_true_patches_give_back_the_object(known_scan: KnownScan, middle_trim: int) -> None:
    scan = known_scan
    made = stitch(scan.patches, scan.corners_px, scan.probe_intensity, middle_trim=middle_trim)
    truth, part = truth_on_frame(scan, made), inner(made)
    assert similarity(np.angle(made.object)[part], np.angle(truth)[part]) > 0.99
    assert similarity(np.abs(made.object)[part], np.abs(truth)[part]) > 0.99


def test_the_frame_says_where_the_canvas_lies_to_the_pixel(known_scan: KnownScan) -> None:
    scan = known_scan
    made = stitch(scan.patches, scan.corners_px, scan.probe_intensity)
    truth, part = truth_on_frame(scan, made), inner(made)
    errors = {
        (row, column): float(np.abs(np.roll(truth, (row, column), (0, 1)) - made.object)[part].mean())
        for row in (-1, 0, 1)
        for column in (-1, 0, 1)
    }
    assert min(errors, key=lambda shift: errors[shift]) == (0, 0)


def test_moving_all_positions_by_whole_pixels_moves_only_the_frame(known_scan: KnownScan) -> None:
    scan = known_scan
    corners = np.round(scan.corners_px * 16) / 16
    here = stitch(scan.patches, corners, scan.probe_intensity)
    there = stitch(scan.patches, corners + MOVE, scan.probe_intensity)
    np.testing.assert_array_equal(there.object, here.object)
    np.testing.assert_array_equal(there.frame_origin_px, here.frame_origin_px + MOVE)


def test_constant_patches_give_the_constant_wherever_the_canvas_is_covered(known_scan: KnownScan) -> None:
    scan = known_scan
    made = stitch(np.full_like(scan.patches, 0.3 - 0.4j), scan.corners_px, scan.probe_intensity)
    np.testing.assert_allclose(made.object[made.coverage > 0], 0.3 - 0.4j, rtol=1e-4)
    assert not made.object[made.coverage == 0].any()


def test_a_patch_counts_by_how_brightly_it_is_lit() -> None:
    patches = np.stack([np.full((16, 16), 1.0), np.full((16, 16), 3.0)]).astype(np.complex64)
    probe = np.full((16, 16), 1e-3)
    probe[:, :8] = 1.0
    made = stitch(patches, np.array([[0.0, 0.0], [0.0, 4.0]]), probe, middle_trim=16)
    row = made.object[8 - made.frame_origin_px[0], :].real
    lit_by_second_only = 10 - made.frame_origin_px[1]
    assert row[lit_by_second_only] == pytest.approx(3, abs=0.01)


def test_flat_windows_side_by_side_are_tiles() -> None:
    corners = np.array([(row, column) for row in (0, 6, 12) for column in (0, 6)], dtype=np.float64)
    random = np.random.default_rng(1)
    patches = (random.normal(size=(6, 16, 16)) + 1j * random.normal(size=(6, 16, 16))).astype(np.complex64)
    probe = random.uniform(0.1, 1, (16, 16))
    made = stitch(patches, corners, probe, middle_trim=6, window="flat")
    tiles = patches[:, 5:11, 5:11].reshape(3, 2, 6, 6).transpose(0, 2, 1, 3).reshape(18, 12)
    row, column = 5 - made.frame_origin_px
    inside = slice(row, row + 18), slice(column, column + 12)
    np.testing.assert_array_equal(made.object[inside], tiles)
    np.testing.assert_array_equal(made.coverage[inside], np.ones((18, 12)))
    assert made.coverage.sum() == 18 * 12


@pytest.mark.parametrize("trim", [6, 16])
@pytest.mark.parametrize("offset_px", [0.0, 0.3, 0.5, 0.8, "rounded"])
def test_flat_windows_side_by_side_leave_no_gap_wherever_the_raster_begins(
    offset_px: float | str, trim: int
) -> None:
    corners = np.array([(row, column) for row in (0, 1, 2) for column in (0, 1)], dtype=np.float64) * trim
    corners += (np.array([0, 1e-9, -1e-9] * 4).reshape(6, 2) + 3) if offset_px == "rounded" else offset_px
    place = corners[:, :, None] + np.arange(16)
    patches = (1 + 0.1 * place[:, 0, :, None] + 0.01j * place[:, 1, None, :]).astype(np.complex64)
    made = stitch(patches, corners, np.ones((16, 16)), middle_trim=trim, window="flat")
    rows, columns = (np.flatnonzero(made.coverage.any(axis=axis)) for axis in (1, 0))
    inside = np.ix_(rows, columns)
    np.testing.assert_array_equal(made.coverage[inside], np.ones((3 * trim, 2 * trim)))
    at = [one + start for one, start in zip((rows, columns), made.frame_origin_px, strict=True)]
    error = np.abs(made.object[inside] - (1 + 0.1 * at[0][:, None] + 0.01j * at[1][None, :]))
    assert error.max() < (0.005 if trim == 6 or offset_px in {0.0, "rounded"} else 0.06)


def test_a_flat_window_that_leaves_the_canvas_is_refused_where_it_is_rounded_up() -> None:
    given = Frame((0, 0), (16, 16))
    patch = np.ones((1, 16, 16), np.complex64)
    for row, is_refused in ((0.4, False), (0.6, True)):
        with pytest.raises(DataError, match="leave the canvas") if is_refused else nullcontext():
            stitch(patch, np.array([[row, 0]]), np.ones((16, 16)), middle_trim=16, window="flat", frame=given)


def test_flat_windows_weigh_alike_where_they_overlap() -> None:
    patches = np.stack([np.full((16, 16), 1.0), np.full((16, 16), 4.0)]).astype(np.complex64)
    probe = np.full((16, 16), 1e-3)
    probe[:, :8] = 1.0
    made = stitch(patches, np.array([[0.0, 0.0], [0.0, 4.0]]), probe, middle_trim=16, window="flat")
    row = made.object[8 - made.frame_origin_px[0], -made.frame_origin_px[1] :].real
    np.testing.assert_array_equal(row[:20], [1.0] * 4 + [2.5] * 12 + [4.0] * 4)


def test_numpy_arrays_and_tensors_give_the_same_bits(known_scan: KnownScan) -> None:
    scan = known_scan
    array = stitch(scan.patches, scan.corners_px, scan.probe_intensity)
    tensor = stitch(
        torch.tensor(scan.patches, requires_grad=True),
        scan.corners_px,
        torch.tensor(scan.probe_intensity),
    )
    np.testing.assert_array_equal(tensor.object, array.object)
    np.testing.assert_array_equal(tensor.coverage, array.coverage)
    assert array.object.dtype == np.complex64


def test_the_default_window_is_half_the_patch(known_scan: KnownScan) -> None:
    scan = known_scan
    half, default = (
        stitch(scan.patches, scan.corners_px, scan.probe_intensity, middle_trim=trim) for trim in (16, 0)
    )
    np.testing.assert_array_equal(default.object, half.object)


def test_padding_adds_the_edge_of_the_scan_and_keeps_the_interior(known_scan: KnownScan) -> None:
    scan = known_scan
    plain = stitch(scan.patches, scan.corners_px, scan.probe_intensity)
    padded = stitch(scan.patches, scan.corners_px, scan.probe_intensity, pad=True)
    row, column = plain.frame_origin_px - padded.frame_origin_px
    height, width = plain.object.shape
    same = padded.object[row : row + height, column : column + width]
    was_covered = plain.coverage > 0
    np.testing.assert_array_equal(same[was_covered], plain.object[was_covered])
    assert np.count_nonzero(padded.coverage) > 1.3 * np.count_nonzero(plain.coverage)
    truth = truth_on_frame(scan, padded)
    is_new = padded.coverage > 0.02
    is_new[row : row + height, column : column + width] &= ~was_covered
    assert np.abs(padded.object - truth)[is_new].mean() < 0.05


def test_all_patches_are_counted(known_scan: KnownScan) -> None:
    scan = known_scan
    made = stitch(scan.patches, scan.corners_px, scan.probe_intensity)
    assert (made.accepted, made.total) == (len(scan.patches), len(scan.patches))


def test_a_patch_off_the_given_canvas_is_refused_by_number(known_scan: KnownScan) -> None:
    scan = known_scan
    frame = Frame((0, 0), (96, 96))
    stitch(scan.patches, scan.corners_px, scan.probe_intensity, frame=frame)
    corners = scan.corners_px.copy()
    corners[5] = [0.0, 90.0]
    with pytest.raises(DataError, match=r"1 of 169 patches leave the canvas.*first patch 5"):
        stitch(scan.patches, corners, scan.probe_intensity, frame=frame)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"middle_trim": 15}, "middle_trim is 15"),
        ({"middle_trim": 34}, "from 0 to the patch's 32 px"),
        ({"corners_px": np.zeros((3, 2))}, r"corners_px has shape \(3, 2\)"),
        ({"corners_px": np.full((169, 2), np.nan)}, "corners_px hold 338 values that are not finite"),
        ({"corners_px": np.arange(338.0).reshape(169, 2) * 1e6}, "are they in pixels"),
        ({"probe_intensity": np.zeros((32, 32))}, "probe_intensity must not"),
        ({"probe_intensity": np.ones((16, 16))}, "probe_intensity has shape"),
        ({"patches": np.zeros((0, 32, 32))}, "at least one patch"),
        ({"patches": np.full((169, 32, 32), np.inf)}, "patches hold"),
    ],
)
def test_what_cannot_be_stitched_is_refused(
    known_scan: KnownScan, change: dict[str, Any], sentence: str
) -> None:
    arguments = {
        "patches": known_scan.patches,
        "corners_px": known_scan.corners_px,
        "probe_intensity": known_scan.probe_intensity,
    } | change
    with pytest.raises(DataError, match=sentence):
        stitch(**arguments)


def test_random_phases_of_the_patches_are_removed(known_scan: KnownScan) -> None:
    scan = known_scan
    spoiled = scan.patches * random_phases(len(scan.patches))
    before = stitch(spoiled, scan.corners_px, scan.probe_intensity)
    patches = synchronise_phases(spoiled, scan.corners_px, scan.probe_intensity)
    made = stitch(patches, scan.corners_px, scan.probe_intensity)
    truth, part = truth_on_frame(scan, made), inner(made)

    def alike(image: np.ndarray) -> float:
        gauge = np.vdot(image[part], truth[part])
        return similarity(np.angle(image * gauge)[part], np.angle(truth)[part])

    assert alike(before.object) < 0.2
    assert alike(made.object) > 0.99


def test_synchronising_rotates_each_patch_by_one_phase_and_nothing_else(known_scan: KnownScan) -> None:
    scan = known_scan
    spoiled = scan.patches * random_phases(len(scan.patches))
    turned = synchronise_phases(spoiled, scan.corners_px, scan.probe_intensity, rounds=2)
    ratio = turned / spoiled
    np.testing.assert_allclose(np.abs(ratio), 1, rtol=1e-4)
    np.testing.assert_allclose(ratio, ratio[:, :1, :1].repeat(32, 1).repeat(32, 2), rtol=1e-3)


def test_patches_that_agree_already_keep_their_relative_phases(known_scan: KnownScan) -> None:
    scan = known_scan
    kept = synchronise_phases(scan.patches, scan.corners_px, scan.probe_intensity)
    phases = np.angle((kept * scan.patches.conj()).sum(axis=(1, 2)))
    assert np.ptp(phases) < 0.02


def test_patches_that_are_zero_survive_synchronising(known_scan: KnownScan) -> None:
    scan = known_scan
    zeros = np.zeros_like(scan.patches)
    np.testing.assert_array_equal(synchronise_phases(zeros, scan.corners_px, scan.probe_intensity), zeros)


def test_no_round_at_all_is_refused(known_scan: KnownScan) -> None:
    with pytest.raises(DataError, match="give 1 or more"):
        synchronise_phases(known_scan.patches, known_scan.corners_px, known_scan.probe_intensity, rounds=0)
