from __future__ import annotations

import bz2
import os
from pathlib import Path

import numpy as np
import pytest

from ptycho_torch.errors import DataError
from ptycho_torch.readers import read_scan


@pytest.fixture
def members():
    rng = np.random.Generator(np.random.PCG64(3))
    return {
        "data": rng.poisson(5, (1, 7, 8, 8)).astype(np.float32),
        "scan": rng.uniform(-20, 20, (1, 7, 2)).astype(np.float32),
        "probe": rng.normal(size=(1, 1, 1, 2, 8, 8)).astype(np.complex64),
    }


@pytest.fixture
def write(tmp_path: Path):
    def write_members(members):
        path = tmp_path / "scan.npz.bz2"
        np.savez(tmp_path / "plain.npz", **members)
        path.write_bytes(bz2.compress((tmp_path / "plain.npz").read_bytes()))
        return path

    return write_members


def test_the_corner_frequency_moves_to_the_centre_and_counts_become_amplitudes(members, write):
    scan = read_scan(write(members))
    assert scan.units == "count_intensity"
    for frame, counts in zip(scan.diffraction, members["data"][0], strict=True):
        assert frame[4, 4] == np.float32(np.sqrt(np.float64(counts[0, 0])))
        assert np.array_equal(np.fft.ifftshift(frame), np.sqrt(counts.astype(np.float64)).astype(np.float32))


def test_rows_stay_rows_and_the_origin_becomes_zero(members, write):
    scan = read_scan(write(members))
    given = members["scan"][0].astype(np.float64)
    assert np.array_equal(scan.corners_px, given - given.min(axis=0))


def test_modes_are_kept(members, write):
    assert np.array_equal(read_scan(write(members)).probe, members["probe"][0, 0, 0])


def test_plain_and_packed_files_are_the_same_scan(members, write, tmp_path: Path):
    packed, plain = read_scan(write(members)), read_scan(tmp_path / "plain.npz")
    assert np.array_equal(packed.diffraction, plain.diffraction)


def test_other_units_than_the_formats_own_are_refused(members, write):
    with pytest.raises(DataError, match="tike files hold counts"):
        read_scan(write(members), units="normalized_amplitude")


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("data", np.ones((7, 8, 8))),
        ("data", np.ones((2, 7, 8, 8))),
        ("scan", np.ones((1, 7, 3))),
        ("scan", np.ones((1, 0, 2))),
        ("probe", np.ones((1, 1, 2, 2, 8, 8), complex)),
        ("probe", np.ones((1, 1, 1, 1, 8, 8))),
    ],
)
def test_arrays_of_another_shape_are_refused(members, write, name, array):
    with pytest.raises(DataError, match=name):
        read_scan(write(members | {name: array}))


def test_a_cut_bz2_stream_is_refused(members, write):
    path = write(members)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="damaged"):
        read_scan(path)


def data_folder() -> Path:
    if "HARNESS_DATA" not in os.environ:
        pytest.skip("HARNESS_DATA does not name a folder with the measured data")
    return Path(os.environ["HARNESS_DATA"])


def measured(name: str) -> Path:
    path = data_folder() / name
    if not path.exists():
        pytest.skip(f"{name} is not in the folder that HARNESS_DATA names")
    return path


def test_the_measured_siemens_star_equals_its_converted_file():
    original = read_scan(measured("siemens-star-small.npz.bz2"))
    converted = read_scan(measured("siemens_tike_N128_K516.npz"), positions="center")
    assert np.array_equal(original.diffraction, converted.diffraction)
    relative = [scan.corners_px - scan.corners_px[0] for scan in (original, converted)]
    np.testing.assert_allclose(relative[0], relative[1], rtol=0, atol=1e-4)
    assert converted.units == "count_amplitude"
