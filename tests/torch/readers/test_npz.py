from __future__ import annotations

import bz2
import os
from pathlib import Path

import numpy as np
import pytest

from ptycho_torch.errors import ConfigError, DataError, DataFileNotFoundError
from ptycho_torch.headers import read_header
from ptycho_torch.readers import READERS, read_scan
from tests.torch.made_up_scans import make_scan


@pytest.fixture
def members():
    """The arrays of a file in the peer's convention."""
    scan = make_scan(object=None)
    return {
        "diffraction": scan.diffraction,
        "xcoords": scan.corners_px[:, 1] + 4,
        "ycoords": scan.corners_px[:, 0] + 4,
        "probeGuess": scan.probe[0],
    }


@pytest.fixture
def write(tmp_path: Path):
    def write_members(members, name="scan.npz"):
        np.savez(tmp_path / name, **members)
        return tmp_path / name

    return write_members


def test_x_is_the_column_and_y_is_the_row(members, write):
    scan = read_scan(write(members))
    np.testing.assert_allclose(scan.corners_px, make_scan().corners_px, rtol=0, atol=1e-14)


def test_the_two_position_conventions_differ_by_half_a_pixel(members, write):
    path = write(members)
    peer, centre = read_scan(path), read_scan(path, positions="center")
    np.testing.assert_allclose(centre.corners_px - peer.corners_px, 0.5, rtol=0, atol=1e-12)


def test_both_names_of_the_stack_are_read(members, write):
    first = read_scan(write(members))
    members["diff3d"] = members["diffraction"]
    both = read_scan(write(members))
    del members["diffraction"]
    second = read_scan(write(members))
    assert np.array_equal(first.diffraction, second.diffraction)
    assert np.array_equal(first.diffraction, both.diffraction)


def test_two_stacks_that_differ_are_refused(members, write):
    members["diff3d"] = members["diffraction"] * 2
    with pytest.raises(DataError, match=r"'diffraction' and 'diff3d'"):
        read_scan(write(members))


def test_counts_and_their_roots_are_the_same_scan(members, write):
    counts = np.rint(members["diffraction"].astype(np.float64) ** 2)
    roots = read_scan(write(members), units="count_amplitude")
    for dtype in (np.uint8, np.uint16, np.int32, np.float32, np.float64):
        read = read_scan(write(members | {"diffraction": counts.astype(dtype)}), units="count_intensity")
        assert np.array_equal(read.diffraction, roots.diffraction)
        assert read.units == "count_intensity"


def test_the_root_of_large_16_bit_counts_does_not_wrap(members, write):
    counts = np.full((36, 8, 8), 65535, dtype=np.uint16)
    counts[0] = 0
    scan = read_scan(write(members | {"diffraction": counts}), units="count_intensity")
    assert np.array_equal(scan.diffraction[1:], np.full((35, 8, 8), np.float32(np.sqrt(65535.0))))


@pytest.mark.parametrize("units", ["count_amplitude", "normalized_amplitude"])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_integer_counts_under_the_amplitude_name_are_refused(members, write, units, dtype):
    counts = np.rint(members["diffraction"].astype(np.float64) ** 2).astype(dtype)
    with pytest.raises(DataError, match="set data.units to 'count_intensity'"):
        read_scan(write(members | {"diffraction": counts}), units=units)


def test_units_are_told_from_the_values_when_nobody_names_them(members, write):
    amplitude = members["diffraction"]
    counts = np.rint(amplitude.astype(np.float64) ** 2)
    seen = [
        read_scan(write(members | {"diffraction": stack})).units
        for stack in (amplitude, counts, counts.astype(np.int32), amplitude * np.float32(0.0137))
    ]
    assert seen == ["count_amplitude", "count_intensity", "count_intensity", "normalized_amplitude"]


def test_what_the_file_says_of_itself_is_not_overruled(members, write):
    path = write(members | {"units": np.array("count_amplitude"), "positions": np.array("center")})
    assert read_scan(path, positions="center").units == "count_amplitude"
    with pytest.raises(DataError) as caught:
        read_scan(path, positions="ptychopinn", units="normalized_amplitude")
    assert "data.positions" in str(caught.value)
    assert "data.units" in str(caught.value)


def test_an_illegal_convention_or_unit_is_refused(members, write):
    with pytest.raises(DataError, match="legal: ptychopinn, center"):
        read_scan(write(members), positions="centre")
    with pytest.raises(DataError, match="count_amplitude, count_intensity"):
        read_scan(write(members), units="photons")


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (1, 8, 8)])
def test_one_probe_mode_is_read_in_each_of_its_shapes(members, write, shape):
    probe = members["probeGuess"]
    read = read_scan(write(members | {"probeGuess": probe.reshape(shape).astype(np.complex128)})).probe
    assert read.shape == (1, 8, 8)
    assert np.array_equal(read[0], probe)


def test_modes_stay_on_the_first_axis(members, write):
    modes = np.stack([members["probeGuess"] * scale for scale in (3, 2, 1)])
    assert np.array_equal(read_scan(write(members | {"probeGuess": modes})).probe, modes)


@pytest.mark.parametrize("shape", [(6, 6), (8, 8, 3), (8, 1, 8), (1, 1, 8, 8)])
def test_a_probe_of_the_wrong_rank_or_size_is_refused(members, write, shape):
    with pytest.raises(DataError, match="probeGuess"):
        read_scan(write(members | {"probeGuess": np.ones(shape, np.complex64)}))


def test_a_stack_with_frames_on_the_last_axis_is_refused_with_the_cure(members, write):
    stack = np.moveaxis(members["diffraction"], 0, -1)
    with pytest.raises(DataError, match=r"moveaxis\(stack, -1, 0\)"):
        read_scan(write(members | {"diffraction": stack}))


def test_a_complex_stack_is_refused(members, write):
    with pytest.raises(DataError, match="must be real"):
        read_scan(write(members | {"diffraction": members["diffraction"] + 0j}))


def test_everything_that_is_missing_is_named(members, write):
    with pytest.raises(DataError) as caught:
        read_scan(write({"diffraction": members["diffraction"]}))
    assert all(name in str(caught.value) for name in ("xcoords", "ycoords", "probeGuess"))


def test_positions_of_unequal_number_are_refused(members, write):
    for name in ("xcoords", "ycoords"):
        with pytest.raises(DataError, match="ycoords holds (35|36) positions but xcoords (35|36)"):
            read_scan(write(members | {name: members[name][:-1]}))


class Explosive:
    def __reduce__(self):
        return os._exit, (66,)


def test_pickled_metadata_is_never_unpickled(members, write):
    scan = read_scan(write(members | {"_metadata": np.array(Explosive(), dtype=object)}))
    assert scan.n_frames == 36


def test_a_pickled_stack_is_refused_without_loading_it(members, write):
    with pytest.raises(DataError, match="never read"):
        read_scan(write(members | {"diffraction": np.array([Explosive()], dtype=object)}))


def test_fortran_order_and_byte_order_do_not_matter(members, write):
    plain = read_scan(write(members))
    swapped = {
        name: np.asfortranarray(array.astype(array.dtype.newbyteorder(">")))
        for name, array in members.items()
    }
    other = read_scan(write(swapped))
    assert np.array_equal(plain.diffraction, other.diffraction)
    assert np.array_equal(plain.probe, other.probe)
    assert other.diffraction.dtype == np.dtype("=f4")


def test_one_flipped_bit_of_the_data_is_found(members, write):
    path = write(members)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        read_scan(path)


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"PK\x03\x04 and then nothing", b"\x89HDF\r\n\x1a\n", b"BZh9"]
)
def test_a_file_of_no_known_format_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "scan.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"scan\.npz"):
        read_scan(tmp_path / "scan.npz")


def test_a_truncated_file_is_refused(members, write):
    path = write(members)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"scan\.npz"):
        read_scan(path)


def test_a_missing_file_is_a_file_not_found_error(tmp_path: Path):
    with pytest.raises(DataFileNotFoundError):
        read_scan(tmp_path / "none.npz")
    assert issubclass(DataFileNotFoundError, FileNotFoundError)


def test_the_format_is_told_by_content_not_by_name(members, write, tmp_path: Path):
    assert read_header(write(members, "scan.bz2.npz")).format == "npz"
    tike = {
        "data": np.arange(192.0).reshape(1, 3, 8, 8),
        "scan": np.arange(6.0).reshape(1, 3, 2),
        "probe": np.ones((1, 1, 8, 8), complex),
    }
    plain = write(tike, "anything.npz")
    assert read_header(plain).format == "tike"
    (tmp_path / "packed").write_bytes(bz2.compress(plain.read_bytes()))
    assert read_header(tmp_path / "packed").format == "tike"


def test_an_unknown_format_is_refused_by_name(members, write):
    with pytest.raises(ConfigError, match="did you mean 'npz'"):
        read_scan(write(members), format="npy")


@pytest.mark.parametrize("name", list(READERS))
def test_every_reader_refuses_a_file_that_is_not_its_own(name: str, tmp_path: Path):
    np.savez(tmp_path / "other.npz", nothing=np.zeros(3))
    with pytest.raises(DataError, match=r"other\.npz"):
        READERS[name].read(tmp_path / "other.npz", positions="ptychopinn", units=None)
