"""Planted errors of orientation, and what the R-factor makes of them."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest

from ptycho_torch.data.simulate import simulate_scan
from ptycho_torch.errors import DataError
from ptycho_torch.orientation import AS_READ, orientation_r_factors, refuse_misoriented
from ptycho_torch.physics.simulation import simulate_frames
from ptycho_torch.readers.scan import Scan
from ptycho_torch.simulate_config import DeadLeaves, DetectorConfig, RasterScan, SimulateConfig

MOVED_PX = (-31.25, 7.5)
"""From the grid of the reference to that of the scan."""


@pytest.fixture(scope="module")
def symmetric() -> Scan:
    """Simulate a scan whose probe is the same when it is transposed."""
    return simulate_scan(
        SimulateConfig(
            object=DeadLeaves(size_px=110),
            scan=RasterScan(rows=5, columns=8),
            detector=DetectorConfig(dead_pixel_fraction=0.01),
            seed=2,
        )
    )


@pytest.fixture(scope="module")
def scan(symmetric: Scan) -> Scan:
    """Light the same object with a probe that is another one however it is turned."""
    assert symmetric.object is not None
    assert symmetric.mask is not None
    side = np.linspace(-1, 1, symmetric.side_px)
    shade = np.exp(1j * (2.5 * side[:, None] + side[None, :] ** 2)) * (
        1 + 0.7 * side[None, :] * side[:, None] ** 2
    )
    probe = (symmetric.probe * shade * (1 + 0.5 * side[None, :])).astype(np.complex64)
    counts, _ = simulate_frames(symmetric.object, probe, symmetric.corners_px, 1e6, np.random.default_rng(3))
    frames = np.sqrt(np.stack(list(counts))).astype(np.float32) * symmetric.mask
    return replace(symmetric, probe=probe, diffraction=frames)


def exchanged(scan: Scan) -> Scan:
    return replace(scan, corners_px=scan.corners_px[:, ::-1])


def detector_transposed(scan: Scan) -> Scan:
    assert scan.mask is not None
    return replace(scan, diffraction=scan.diffraction.swapaxes(1, 2), mask=scan.mask.T)


def object_transposed(scan: Scan) -> Scan:
    assert scan.object is not None
    return replace(scan, object=scan.object.T)


def rows_reversed(scan: Scan) -> Scan:
    assert scan.mask is not None
    return replace(
        scan,
        diffraction=np.roll(scan.diffraction[:, ::-1], 1, axis=1),
        mask=np.roll(scan.mask[::-1], 1, axis=0),
    )


PLANTED = {
    "xcoords and ycoords exchanged": exchanged,
    "the detector transposed": detector_transposed,
    "the object transposed": object_transposed,
    "the detector's rows reversed": rows_reversed,
    "xcoords and ycoords exchanged and the detector transposed": lambda scan: detector_transposed(
        exchanged(scan)
    ),
}


def test_a_scan_that_is_right_is_explained_best_as_it_is_read(scan: Scan) -> None:
    found = orientation_r_factors(scan)
    assert len(found) == 15
    as_read = found.pop(AS_READ)
    assert as_read < 0.1 < min(found.values())
    refuse_misoriented(scan)


@pytest.mark.parametrize("planted", PLANTED)
def test_what_is_turned_is_named(scan: Scan, planted: str) -> None:
    with pytest.raises(
        DataError, match=rf"as they are read, but of 0\.0\d+ with {planted}: correct the file"
    ):
        refuse_misoriented(PLANTED[planted](scan))


@pytest.mark.parametrize(
    ("planted", "also"),
    [
        ("xcoords and ycoords exchanged", "the object transposed and the detector transposed"),
        ("the object transposed", "xcoords and ycoords exchanged and the detector transposed"),
    ],
)
def test_a_symmetric_probe_cannot_tell_two_cases_apart_and_both_are_named(
    symmetric: Scan, planted: str, also: str
) -> None:
    with pytest.raises(
        DataError, match=f"with {planted} or with {also}, which these frames cannot tell apart"
    ):
        refuse_misoriented(PLANTED[planted](symmetric))


class TestWithAReference:
    def test_the_scan_may_stand_on_another_grid(self, scan: Scan) -> None:
        moved = replace(
            scan, corners_px=scan.corners_px + MOVED_PX, object=None, probe=np.ones_like(scan.probe)
        )
        assert orientation_r_factors(moved, scan)[AS_READ] < 0.1
        refuse_misoriented(moved, scan)

    def test_coordinates_that_the_scan_alone_has_exchanged_are_named(self, scan: Scan) -> None:
        moved = replace(exchanged(scan), corners_px=scan.corners_px[:, ::-1] + MOVED_PX, object=None)
        with pytest.raises(
            DataError, match=r"but of 0\.0\d+ with xcoords and ycoords exchanged: correct the file"
        ):
            refuse_misoriented(moved, scan)

    def test_coordinates_exchanged_in_both_are_named(self, scan: Scan) -> None:
        wrong = exchanged(scan)
        with pytest.raises(
            DataError, match="with xcoords and ycoords exchanged here and in the reference: correct"
        ):
            refuse_misoriented(replace(wrong, corners_px=wrong.corners_px + MOVED_PX), wrong)

    def test_a_detector_that_is_transposed_is_named(self, scan: Scan) -> None:
        with pytest.raises(DataError, match=r"but of 0\.0\d+ with the detector transposed: correct the file"):
            refuse_misoriented(replace(detector_transposed(scan), object=None), scan)

    def test_one_of_other_frames_says_nothing(self, scan: Scan) -> None:
        fewer = replace(scan, diffraction=scan.diffraction[:-1], corners_px=scan.corners_px[:-1])
        assert orientation_r_factors(fewer, scan) == {}


def test_an_object_that_tells_nothing_refuses_nothing(scan: Scan, caplog: pytest.LogCaptureFixture) -> None:
    wrong = exchanged(scan)
    refuse_misoriented(replace(wrong, object=None))
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        refuse_misoriented(replace(wrong, object=np.ones_like(scan.object)))
    [warning] = caplog.records
    assert "cannot tell how the frames are turned" in warning.getMessage()
    assert orientation_r_factors(replace(scan, corners_px=scan.corners_px + 500)) == {}
