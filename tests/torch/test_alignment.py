from __future__ import annotations

import numpy as np
import pytest

from ptycho_torch.alignment import Aligned, align_with_truth, largest_rectangle, likeness, well_covered
from ptycho_torch.errors import DataError
from ptycho_torch.metrics import compare_aligned
from ptycho_torch.stitching import Reconstruction, stitch
from tests.torch.known_object import KnownScan, make_known_scan


@pytest.fixture
def known_scan() -> KnownScan:
    return make_known_scan()


def reconstruct(scan: KnownScan, corners_px: np.ndarray | None = None) -> Reconstruction:
    corners = scan.corners_px if corners_px is None else corners_px
    return stitch(scan.patches, corners, scan.probe_intensity)


def align(made: Reconstruction, obj: np.ndarray, truth: np.ndarray) -> Aligned:
    return align_with_truth(obj, made.coverage, made.frame_origin_px, truth)


def ramp(shape: tuple[int, ...], slopes: tuple[float, float]) -> np.ndarray:
    rows, columns = (np.arange(side) for side in shape)
    return np.exp(1j * (slopes[0] * rows[:, None] + slopes[1] * columns[None, :]))


def test_the_pixels_compared_are_the_same_ones_of_the_object_grid(known_scan: KnownScan) -> None:
    made = reconstruct(known_scan)
    aligned = align(made, made.object, known_scan.object)
    row, column = aligned.origin_px
    height, width = aligned.truth.shape
    there = known_scan.object[row : row + height, column : column + width]
    gauge = aligned.truth[0, 0] / there[0, 0]
    assert abs(gauge) == pytest.approx(1)
    np.testing.assert_allclose(aligned.truth, there * gauge)
    np.testing.assert_allclose(aligned.object, aligned.truth, atol=0.05)


@pytest.mark.parametrize("slopes", [(0.0, 0.0), (0.03, -0.02), (-0.3, 0.5), (1.5, -2.5)])
def test_global_phase_ramp_and_scale_are_found_and_removed(
    known_scan: KnownScan, slopes: tuple[float, float]
) -> None:
    made = reconstruct(known_scan)
    plain = align(made, made.object, known_scan.object)
    spoiled = made.object * ramp(made.object.shape, slopes) * 0.3 * np.exp(2.4j)
    aligned = align(made, spoiled, known_scan.object)
    assert aligned.ramp_rad_per_px == pytest.approx(slopes, abs=2e-3)
    assert aligned.scale == pytest.approx(plain.scale / 0.3, rel=1e-3)
    corner = np.array(aligned.origin_px) - made.frame_origin_px
    middle = corner + (np.array(aligned.truth.shape) - 1) / 2
    added = 2.4 + float(np.dot(slopes, middle))
    assert np.exp(1j * (aligned.phase_rad + added)) == pytest.approx(np.exp(1j * plain.phase_rad), abs=0.02)
    assert aligned.shift_px == pytest.approx((0, 0), abs=0.02)
    np.testing.assert_allclose(aligned.object, plain.object, atol=0.02)


def test_a_ramp_is_found_to_a_milliradian_per_pixel_under_strong_noise(known_scan: KnownScan) -> None:
    made = reconstruct(known_scan)
    noise = np.random.default_rng(1).normal(size=(*made.object.shape, 2)) @ [0.3, 0.3j]
    spoiled = (made.object + noise) * ramp(made.object.shape, (0.3, -0.5))
    aligned = align(made, spoiled, known_scan.object)
    assert aligned.ramp_rad_per_px == pytest.approx((0.3, -0.5), abs=1e-3)


@pytest.mark.parametrize("shift", [(0.5, 0.0), (-0.37, 0.81), (1.62, -2.25), (-3.0, 3.0)])
def test_a_sub_pixel_shift_is_found_and_removed(known_scan: KnownScan, shift: tuple[float, float]) -> None:
    made = reconstruct(known_scan, known_scan.corners_px + shift)
    aligned = align(made, made.object * ramp(made.object.shape, (0.2, 0.1)), known_scan.object)
    assert aligned.shift_px == pytest.approx(shift, abs=0.03)
    assert likeness(aligned.object, aligned.truth) > 0.99


def test_the_figures_do_not_depend_on_what_diffraction_cannot_see(known_scan: KnownScan) -> None:
    made = reconstruct(known_scan)
    plain = compare_aligned(align(made, made.object, known_scan.object))
    moved = reconstruct(known_scan, known_scan.corners_px + np.array([1.25, -0.5]))
    spoiled = moved.object * ramp(moved.object.shape, (-0.11, 0.07)) * 4.2 * np.exp(-1j)
    figures = compare_aligned(align(moved, spoiled, known_scan.object))
    for name in ("phase_correlation", "amplitude_correlation", "phase_ssim", "amplitude_ssim"):
        assert plain[name] > 0.99
        assert figures[name] == pytest.approx(plain[name], abs=0.01)


def test_noise_is_not_shifted_into_likeness(known_scan: KnownScan) -> None:
    made = reconstruct(known_scan)
    noise = np.random.default_rng(0).normal(size=(*made.object.shape, 2)) @ [1, 1j]
    aligned = align(made, noise, known_scan.object)
    assert likeness(aligned.object, aligned.truth) < 0.1


@pytest.mark.parametrize("origin", [(0, 0), (-20, -20)])
def test_a_truth_that_the_canvas_misses_is_refused(known_scan: KnownScan, origin: tuple[int, int]) -> None:
    made = reconstruct(known_scan)
    with pytest.raises(DataError, match="share one object grid"):
        align_with_truth(made.object, made.coverage, np.array([1000, 0]) + origin, known_scan.object)


def test_images_that_do_not_fit_together_are_refused(known_scan: KnownScan) -> None:
    made = reconstruct(known_scan)
    with pytest.raises(DataError, match="do not fit"):
        align_with_truth(made.object, made.coverage[1:], made.frame_origin_px, known_scan.object)


def test_the_largest_rectangle_is_the_one_that_brute_force_finds() -> None:
    generator = np.random.default_rng(3)
    for _ in range(30):
        mask = generator.random((7, 9)) < 0.7
        rows, columns = largest_rectangle(mask)
        assert mask[rows, columns].all()
        best = max(
            (bottom - top) * (right - left)
            for top in range(7)
            for bottom in range(top, 8)
            for left in range(9)
            for right in range(left, 10)
            if mask[top:bottom, left:right].all()
        )
        assert (rows.stop - rows.start) * (columns.stop - columns.start) == best


def test_nothing_is_well_covered_where_nothing_is_covered() -> None:
    assert not well_covered(np.zeros((4, 4))).any()
    np.testing.assert_array_equal(well_covered(np.array([[0, 1, 10, 10]])), [[False, False, True, True]])
