"""Planted errors of orientation, and what the R-factor makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ptycho_torch.data.simulate import simulate_scan
from ptycho_torch.errors import DataError
from ptycho_torch.misreadings import ROOTS
from ptycho_torch.orientation import AS_READ, explanations, judge_object
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
    found = explanations(scan)
    assert len(found) == 3 * 14
    as_read = found.pop(AS_READ)
    assert as_read.r_factor < 0.1 < min(one.r_factor for one in found.values())
    assert judge_object(scan) is None


@pytest.mark.parametrize("planted", PLANTED)
def test_what_is_turned_is_named(scan: Scan, planted: str) -> None:
    with pytest.raises(
        DataError, match=rf"as they are read, but of 0\.0\d+ with {planted}: correct the file"
    ):
        judge_object(PLANTED[planted](scan))


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
        judge_object(PLANTED[planted](symmetric))


class TestWithAReference:
    def test_the_scan_may_stand_on_another_grid(self, scan: Scan) -> None:
        moved = replace(
            scan, corners_px=scan.corners_px + MOVED_PX, object=None, probe=np.ones_like(scan.probe)
        )
        assert explanations(moved, scan)[AS_READ].r_factor < 0.1
        judge_object(moved, scan)

    def test_coordinates_that_the_scan_alone_has_exchanged_are_named(self, scan: Scan) -> None:
        moved = replace(exchanged(scan), corners_px=scan.corners_px[:, ::-1] + MOVED_PX, object=None)
        with pytest.raises(
            DataError, match=r"but of 0\.0\d+ with xcoords and ycoords exchanged: correct the file"
        ):
            judge_object(moved, scan)

    def test_coordinates_exchanged_in_both_are_named(self, scan: Scan) -> None:
        wrong = exchanged(scan)
        with pytest.raises(
            DataError, match="with xcoords and ycoords exchanged here and in the reference: correct"
        ):
            judge_object(replace(wrong, corners_px=wrong.corners_px + MOVED_PX), wrong)

    def test_a_detector_that_is_transposed_is_named(self, scan: Scan) -> None:
        with pytest.raises(DataError, match=r"but of 0\.0\d+ with the detector transposed: correct the file"):
            judge_object(replace(detector_transposed(scan), object=None), scan)

    def test_one_of_other_frames_says_nothing(self, scan: Scan) -> None:
        fewer = replace(scan, diffraction=scan.diffraction[:-1], corners_px=scan.corners_px[:-1])
        assert explanations(fewer, scan) == {}


def test_an_object_that_tells_nothing_refuses_nothing(scan: Scan) -> None:
    wrong = exchanged(scan)
    assert judge_object(replace(wrong, object=None)) is None
    said = judge_object(replace(wrong, object=np.ones_like(scan.object)))
    assert said is not None
    assert "cannot tell how the frames are turned" in said
    assert explanations(replace(scan, corners_px=scan.corners_px + 500)) == {}
    assert explanations(replace(scan, diffraction=scan.diffraction[:1], corners_px=scan.corners_px[:1])) == {}


MISREAD = {
    "the zero frequency moved from the corner to the centre": lambda frames: np.fft.ifftshift(frames, (1, 2)),
    r"the roots of the values \(the file holds intensities\)": np.square,
    r"the squares of the values \(data.units: the file holds amplitudes\)": np.sqrt,
    "the detector turned by a quarter turn, clockwise, about the middle of the frames": lambda frames: (
        np.rot90(frames, 1, (1, 2))
    ),
    "the detector turned by a quarter turn, anticlockwise": lambda frames: np.roll(
        np.rot90(frames, -1, (1, 2)), 1, axis=2
    ),
    "the detector's columns reversed, about the middle of the frames": lambda frames: frames[:, :, ::-1],
    "the detector transposed about its other diagonal": lambda frames: np.roll(
        frames.swapaxes(1, 2)[:, ::-1, ::-1], 1, axis=(1, 2)
    ),
    "the zero frequency moved from the corner to the centre and the roots of the values": lambda frames: (
        np.fft.ifftshift(frames, (1, 2)) ** 2
    ),
    "xcoords and ycoords exchanged and the zero frequency moved": None,
}


@pytest.mark.parametrize(
    ("cure", "photons"),
    [*((cure, 1e6) for cure in MISREAD), *((cure, 2e4) for cure in MISREAD if "squares" not in cure)],
)
def test_the_reading_that_explains_the_frames_is_named_and_no_other(
    scan: Scan, cure: str, photons: float
) -> None:
    assert scan.object is not None
    generator = np.random.default_rng(5)
    counts, _ = simulate_frames(scan.object, scan.probe, scan.corners_px, photons, generator)
    wrong = replace(scan, diffraction=np.sqrt(np.stack(list(counts))).astype(np.float32), mask=None)
    assert judge_object(wrong) is None
    if (misread := MISREAD[cure]) is not None:
        wrong = replace(wrong, diffraction=misread(wrong.diffraction))
    else:
        wrong = replace(exchanged(wrong), diffraction=np.fft.ifftshift(wrong.diffraction, (1, 2)))
    with pytest.raises(
        DataError, match=rf"as they are read, but of 0\.\d+ with {cure}[^,]*: correct the file"
    ):
        judge_object(wrong)


@pytest.mark.parametrize(("power", "is_refused"), [(1.55, False), (1.58, True)])
def test_other_values_are_tried_once_the_mean_frames_are_unlike(
    symmetric: Scan, power: float, is_refused: bool
) -> None:
    """Speckles of a strong object: their mean frame is smooth whatever the values are, so it says little."""
    assert symmetric.object is not None
    generator = np.random.default_rng(3)
    probe = symmetric.probe * np.exp(2j * generator.normal(size=symmetric.probe.shape[-2:]))
    probe = probe.astype(np.complex64)
    obj = (np.abs(symmetric.object) * np.exp(3j * np.angle(symmetric.object))).astype(np.complex64)
    counts, _ = simulate_frames(obj, probe, symmetric.corners_px, 1e6, generator)
    bent = np.stack(list(counts)).astype(np.float64) ** (power / 2)
    speckled = replace(symmetric, object=obj, probe=probe, diffraction=bent.astype(np.float32), mask=None)
    tried = explanations(speckled, is_thorough=True)
    assert tried[AS_READ].of_means == pytest.approx(0.155 if is_refused else 0.145, abs=0.005)
    assert tried[ROOTS].ratio < 0.8 * tried[AS_READ].ratio < 0.8
    if is_refused:
        with pytest.raises(DataError, match=r"with the roots of the values"):
            judge_object(speckled)
    else:
        assert judge_object(speckled) is None


def test_frames_that_no_reading_explains_are_refused_and_no_cure_is_named(scan: Scan) -> None:
    foreign = np.roll(scan.diffraction, (13, -9), axis=(1, 2))
    with pytest.raises(
        DataError, match=r"R-factor of [12]\.\d+, the mean .* with 0\.\d+, and no other reading"
    ) as caught:
        judge_object(replace(scan, diffraction=foreign, mask=None))
    assert "but of" not in str(caught.value)


def noise_like(obj: np.ndarray, blur_px: float = 0) -> np.ndarray:
    generator = np.random.default_rng(8)
    parts = (gaussian_filter(generator.normal(size=obj.shape), blur_px) for _ in range(2))
    real, imaginary = (part / part.std() for part in parts)
    return (real + 1j * imaginary).astype(np.complex64)


def test_a_first_guess_of_noise_is_no_contradiction_but_a_note(scan: Scan) -> None:
    assert scan.object is not None
    said = judge_object(replace(scan, object=noise_like(scan.object)))
    assert said is not None
    assert "it is noise, perhaps a first guess" in said


def test_an_object_of_smooth_noise_and_a_reference_of_noise_are_refused(scan: Scan) -> None:
    assert scan.object is not None
    with pytest.raises(DataError, match="no other reading that was tried explains them"):
        judge_object(replace(scan, object=noise_like(scan.object, blur_px=0.6)))
    with pytest.raises(DataError, match="no other reading that was tried explains them"):
        judge_object(replace(scan, object=None), replace(scan, object=noise_like(scan.object)))


def test_noise_that_was_in_the_beam_is_an_object_like_any_other(scan: Scan) -> None:
    assert scan.object is not None
    noise = noise_like(scan.object)
    counts, _ = simulate_frames(noise, scan.probe, scan.corners_px, 1e6, np.random.default_rng(3))
    frames = np.sqrt(np.stack(list(counts))).astype(np.float32)
    lit = replace(scan, object=noise, diffraction=frames, mask=None)
    assert judge_object(lit) is None
    with pytest.raises(DataError, match=r"but of 0\.0\d+ with the detector transposed: correct the file"):
        judge_object(replace(lit, diffraction=frames.swapaxes(1, 2)))


def test_frames_in_another_order_than_their_positions_are_doubted(scan: Scan) -> None:
    shuffled = scan.diffraction[np.random.default_rng(6).permutation(scan.n_frames)]
    try:
        said = str(judge_object(replace(scan, diffraction=shuffled)))
    except DataError as error:
        said = str(error)
    assert "belong together" in said
    assert "but of" not in said


def test_frames_of_a_few_photons_are_not_judged(scan: Scan) -> None:
    assert scan.object is not None
    counts, _ = simulate_frames(scan.object, scan.probe, scan.corners_px, 20, np.random.default_rng(5))
    dark = replace(scan, diffraction=np.sqrt(np.stack(list(counts))).astype(np.float32), mask=None)
    assert explanations(dark)[AS_READ].of_mean > 1
    assert judge_object(dark) is None
