from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptycho_torch.errors import DataError
from ptycho_torch.readers import read_scan, save_scan, scan_digest
from ptycho_torch.readers.scan import arrays_digest
from tests.torch.made_up_scans import make_scan


def with_value(scan, place, value):
    stack = scan.diffraction.copy()
    stack[place] = value
    return replace(scan, diffraction=stack)


def test_a_legal_scan_passes_its_check():
    scan = make_scan()
    scan.check()
    assert (scan.n_frames, scan.side_px) == (36, 8)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"diffraction": np.ones((8, 8), np.float32)}, "2 dimensions"),
        ({"diffraction": np.ones((8, 8, 36), np.float32)}, r"moveaxis\(stack, -1, 0\)"),
        ({"diffraction": np.ones((36, 8, 9), np.float32)}, "crop it to squares"),
        ({"diffraction": np.ones((0, 8, 8), np.float32)}, "no frames"),
        ({"diffraction": np.ones((36, 7, 7), np.float32)}, "N must be even"),
        ({"diffraction": np.ones((36, 8, 8), np.complex64)}, "must be real"),
        ({"diffraction": np.zeros((36, 8, 8), np.float32)}, "zero in every frame"),
        ({"corners_px": np.zeros((35, 2))}, "35 for 36 frames"),
        ({"corners_px": np.zeros((37, 2))}, "37 for 36 frames"),
        ({"corners_px": np.full((36, 2), np.nan)}, "positions hold NaN"),
        ({"corners_px": np.linspace(-2, -1, 72).reshape(36, 2)}, "36 frames leave the 21x21 object"),
        ({"corners_px": np.full((36, 2), 3.0)}, "all 36 frames stand at one position"),
        ({"diffraction": np.ones((36, 8, 8), np.float32)}, "all 36 frames are the same"),
        ({"probe": np.full((1, 8, 8), 1e20, np.complex64)}, r"the probe: the largest value is 1e\+20"),
        ({"probe": np.ones((8, 8), np.complex64)}, r"legal: complex64 of shape \(any, 8, 8\)"),
        ({"probe": np.ones((1, 6, 6), np.complex64)}, "probe has shape"),
        ({"probe": np.ones((1, 8, 8), np.float32)}, "type float32"),
        ({"probe": np.zeros((1, 8, 8), np.complex64)}, "zero everywhere"),
        ({"probe": np.full((1, 8, 8), np.nan, np.complex64)}, "probe holds NaN"),
        ({"object": np.ones(9, np.complex64)}, "object has shape"),
        ({"object": np.full((21, 21), np.inf, np.complex64)}, "object holds NaN"),
        ({"mask": np.ones((8, 9), bool)}, "mask has shape"),
        ({"mask": np.ones((8, 8), np.uint8)}, "type uint8"),
        ({"mask": np.zeros((8, 8), bool)}, "uses no pixel"),
        ({"units": "photons"}, "legal: count_amplitude"),
    ],
)
def test_a_scan_that_breaks_the_contract_is_refused(fields, complaint):
    with pytest.raises(DataError, match=complaint):
        make_scan(**fields).check()


@pytest.mark.parametrize(("value", "complaint"), [(np.nan, "NaN"), (np.inf, "NaN"), (-1.0, "negative")])
def test_a_bad_pixel_is_found_in_any_frame(value, complaint):
    for frame in (0, 63, 64, 65, 99):
        scan = with_value(make_scan(rows=10, columns=10), (frame, 3, 4), value)
        with pytest.raises(DataError, match=rf"1 frames hold {complaint}.* frame {frame}:"):
            scan.check()


@pytest.mark.parametrize("factor", [1e20, 1e-20])
def test_frames_on_a_scale_that_cannot_be_computed_with_are_refused(factor):
    scan = make_scan()
    with pytest.raises(
        DataError, match=r"diffraction: the largest value is .*e[+-]\d+, too far from 1 .*: scale it"
    ):
        replace(scan, diffraction=scan.diffraction * np.float32(factor)).check()


def test_a_masked_pixel_may_hold_anything():
    mask = np.ones((8, 8), dtype=bool)
    mask[3, 4] = False
    with_value(make_scan(mask=mask), (5, 3, 4), np.nan).check()


def test_all_problems_are_reported_together():
    scan = make_scan(probe=np.ones((8, 8), np.complex64), corners_px=np.zeros((3, 2)), units="eV")
    with pytest.raises(DataError) as caught:
        scan.check()
    sentences = str(caught.value).splitlines()
    assert [sentence.split()[2].rstrip(":") for sentence in sentences] == ["positions", "probe", "units"]
    assert all(sentence.startswith("made up: ") for sentence in sentences)


def test_a_patch_may_touch_the_objects_edge_but_not_leave_it():
    corners_px = np.zeros((36, 2))
    corners_px[:, 0] = np.arange(36) / 36
    corners_px[1] = (13.0, 13.0)
    make_scan(corners_px=corners_px).check()
    corners_px[1, 1] += 1e-6
    with pytest.raises(DataError, match="of 1 frames leave"):
        make_scan(corners_px=corners_px).check()


def test_without_an_object_positions_may_have_any_origin():
    make_scan(object=None, corners_px=make_scan().corners_px - 1000).check()


def test_two_frames_at_one_position_are_only_warned_about(caplog):
    corners_px = make_scan().corners_px
    corners_px[4] = corners_px[9]
    with caplog.at_level(logging.WARNING):
        make_scan(corners_px=corners_px).check()
    assert "1 positions occur more than once" in caplog.text


def test_a_saved_scan_is_read_back_unchanged(tmp_path: Path):
    mask = np.ones((8, 8), dtype=bool)
    mask[0] = False
    scan = make_scan(mask=mask)
    save_scan(tmp_path / "scan.npz", scan)
    read = read_scan(tmp_path / "scan.npz")
    assert np.array_equal(read.diffraction, scan.diffraction)
    assert np.array_equal(read.probe, scan.probe)
    assert np.array_equal(read.object, scan.object)
    assert np.array_equal(read.mask, mask)
    assert read.units == "count_amplitude"
    np.testing.assert_allclose(read.corners_px, scan.corners_px, rtol=0, atol=1e-14)


def test_saving_twice_gives_the_same_bytes_and_leaves_nothing_else(tmp_path: Path):
    for name in ("one.npz", "two.npz"):
        save_scan(tmp_path / name, make_scan())
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.npz", "two.npz"]


def test_the_scan_digest_sees_every_field_but_the_source():
    scan = make_scan()
    digest = scan_digest(scan)
    assert digest == scan_digest(replace(scan, source="elsewhere"))
    corners_px = scan.corners_px.copy()
    corners_px[3, 1] = np.nextafter(corners_px[3, 1], 1e9)
    changed = [
        with_value(scan, (2, 1, 1), 77.0),
        replace(scan, corners_px=corners_px),
        replace(scan, probe=scan.probe * 2),
        replace(scan, units="normalized_amplitude"),
        replace(scan, object=None),
        replace(scan, mask=np.ones((8, 8), dtype=bool)),
    ]
    assert len({digest, *(scan_digest(other) for other in changed)}) == 7


def test_an_array_digest_does_not_depend_on_layout_or_byte_order():
    array = np.arange(12.0).reshape(3, 4)
    digest = arrays_digest({"a": array, "b": array})
    assert arrays_digest({"b": array.astype(">f8"), "a": np.asfortranarray(array)}) == digest
    assert arrays_digest({"b": array.T, "a": array}) != digest
