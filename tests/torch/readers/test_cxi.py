from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho_torch.errors import DataError
from ptycho_torch.headers import read_header
from ptycho_torch.readers import read_scan
from ptycho_torch.readers.frames import held
from tests.torch.readers.cxi_files import (
    DETECTOR,
    DETECTOR_PIXEL_M,
    SOURCE,
    WAVELENGTH_M,
    cxi_members,
    pixel_m,
    save_cxi,
)

SIDE = 64
BASIS = np.array([[0, -1], [-1, 0], [0, 0]]) * DETECTOR_PIXEL_M


def test_counts_become_amplitudes_and_metres_become_pixels(tmp_path: Path) -> None:
    scan = read_scan(save_cxi(tmp_path / "scan.cxi"))
    counts = cxi_members()[f"{DETECTOR}/data"]
    assert np.array_equal(scan.diffraction, np.sqrt(counts.astype(np.float64)).astype(np.float32))
    assert np.allclose(scan.corners_px, np.arange(12)[:, None] * [2, 3], atol=1e-6)
    assert (scan.units, scan.mask) == ("count_intensity", None)


def test_a_header_tells_the_pixel_of_the_object(tmp_path: Path) -> None:
    header = read_header(save_cxi(tmp_path / "scan.cxi"))
    assert header.pixel_size_m == pytest.approx((pixel_m(SIDE), pixel_m(SIDE)))
    assert (header.format, header.N, header.n_frames, header.n_modes) == ("cxi", SIDE, 12, 1)
    assert header.fresnel_number is None


def test_an_energy_in_joule_stands_for_the_wavelength(tmp_path: Path) -> None:
    energy = 6.62607015e-34 * 299792458 / WAVELENGTH_M
    members = {"wavelength": None, "energy": None}
    path = save_cxi(tmp_path / "scan.cxi", **members)
    with h5py.File(path, "a") as file:
        file[f"{SOURCE}/energy"] = energy
    assert read_header(path).pixel_size_m == pytest.approx((pixel_m(SIDE), pixel_m(SIDE)))


def test_basis_vectors_turn_the_positions_with_the_detector(tmp_path: Path) -> None:
    straight = read_scan(save_cxi(tmp_path / "straight.cxi", basis_vectors=BASIS)).corners_px
    transposed = read_scan(save_cxi(tmp_path / "transposed.cxi", basis_vectors=BASIS[:, ::-1])).corners_px
    mirrored = read_scan(save_cxi(tmp_path / "mirrored.cxi", basis_vectors=BASIS * [1, -1])).corners_px
    assert np.array_equal(transposed, straight[:, ::-1])
    assert np.allclose(mirrored[:, 0], straight[:, 0])
    assert np.allclose(mirrored[:, 1], straight[::-1, 1])


def test_the_rows_of_two_basis_vectors_are_read_as_their_columns(tmp_path: Path) -> None:
    columns, rows = (
        read_scan(save_cxi(tmp_path / f"{number}.cxi", basis_vectors=basis))
        for number, basis in enumerate((BASIS, BASIS.T))
    )
    assert np.array_equal(columns.corners_px, rows.corners_px)


def test_a_pixel_that_is_not_square_gives_each_axis_its_own_pixels(tmp_path: Path) -> None:
    scan = read_scan(save_cxi(tmp_path / "scan.cxi", y_pixel_size=2 * DETECTOR_PIXEL_M))
    assert np.allclose(scan.corners_px[1], [4, 3], atol=1e-6)


def test_zero_is_a_good_pixel_and_so_is_one_with_signal(tmp_path: Path) -> None:
    mask = np.zeros((SIDE, SIDE), np.uint32)
    mask[1, 2], mask[3, 4], mask[5, 6] = 1, 0x1000, 0x1002
    scan = read_scan(save_cxi(tmp_path / "scan.cxi", mask=mask))
    assert scan.mask is not None
    assert np.argwhere(~scan.mask).tolist() == [[1, 2], [5, 6]]


def test_what_stands_under_the_mask_may_be_anything(tmp_path: Path) -> None:
    mask = np.zeros((SIDE, SIDE), np.uint32)
    mask[1, 2] = 1
    counts = cxi_members()[f"{DETECTOR}/data"]
    counts[:, 1, 2] = -1
    with pytest.raises(DataError, match="negative values"):
        read_scan(save_cxi(tmp_path / "open.cxi", data=counts))
    assert read_scan(save_cxi(tmp_path / "masked.cxi", data=counts, mask=mask)).n_frames == 12


def test_frames_may_be_packed_in_chunks(tmp_path: Path) -> None:
    plain = save_cxi(tmp_path / "plain.cxi")
    packed = save_cxi(tmp_path / "packed.cxi", data=None)
    with h5py.File(packed, "a") as file:
        file.create_dataset(
            f"{DETECTOR}/data",
            data=cxi_members()[f"{DETECTOR}/data"],
            chunks=(5, 16, 64),
            compression="gzip",
            shuffle=True,
        )
    assert np.array_equal(read_scan(plain).diffraction, read_scan(packed).diffraction)


def test_frames_are_handed_over_piece_by_piece(tmp_path: Path) -> None:
    frames = np.ones((200, SIDE, SIDE), np.int16)
    frames[0] = 2
    path = save_cxi(tmp_path / "scan.cxi", data=frames, translation=None)
    with h5py.File(path, "a") as file:
        del file["entry_1/data_1/translation"]
        file["entry_1/data_1/translation"] = np.arange(600.0).reshape(200, 3) * pixel_m(SIDE)
    sizes = []

    def hold(pieces, shape):
        return held((sizes.append(len(piece)) or piece for piece in pieces), shape)  # type: ignore[func-returns-value]

    assert read_scan(path, hold=hold).n_frames == 200
    assert sizes == [64, 64, 64, 8]


def test_several_modes_are_kept(tmp_path: Path) -> None:
    probe = np.stack([np.ones((SIDE, SIDE)), 1j * np.ones((SIDE, SIDE))]).astype(np.complex128)
    assert read_scan(save_cxi(tmp_path / "scan.cxi", illumination=probe)).probe.shape == (2, SIDE, SIDE)


def test_the_frames_centre_may_be_stated_and_is_then_checked(tmp_path: Path) -> None:
    corner = np.array([1, 1, 0]) * SIDE / 2 * DETECTOR_PIXEL_M
    assert read_scan(save_cxi(tmp_path / "scan.cxi", corner_position=corner)).n_frames == 12
    with pytest.raises(DataError, match=r"direct beam at row 32.0, column 22.0"):
        read_header(
            save_cxi(tmp_path / "off.cxi", corner_position=corner - np.array([10, 0, 0]) * DETECTOR_PIXEL_M)
        )


def test_wide_steps_are_a_near_field_with_its_fresnel_number(tmp_path: Path) -> None:
    translation = np.zeros((12, 3))
    translation[:, 0] = np.arange(12) * 40 * pixel_m(SIDE)
    path = save_cxi(tmp_path / "scan.cxi", translation=translation)
    assert read_header(path).fresnel_number == pytest.approx(40)
    with pytest.raises(DataError, match="near-field data: .* Fresnel number of 40"):
        read_scan(path)


def test_the_measured_near_field_file_is_read_and_refused_as_one() -> None:
    path = Path(os.environ.get("HARNESS_DATA", "")) / "PETRAIII_P25_Near_Field_Ptycho.cxi"
    if not path.is_file():
        pytest.skip("HARNESS_DATA names no folder with the measured near-field file")
    header = read_header(path)
    assert (header.N, header.n_frames, header.n_modes) == (100, 200, 0)
    assert header.pixel_size_m == pytest.approx((1.9946e-8, 1.9946e-8), rel=1e-4)
    assert header.fresnel_number == pytest.approx(59.8, abs=0.1)
    with pytest.raises(DataError, match="Fresnel number of 60"):
        read_scan(path)
