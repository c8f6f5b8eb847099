from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho_torch.archives import npz_members, open_npz
from ptycho_torch.errors import DataError, DataFileNotFoundError
from ptycho_torch.headers import infer_units, read_header
from tests.torch.sample_scans import project_arrays, save, save_project_scan, tike_arrays


class Bomb:
    """Fails the test when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[int]]:
        return os._exit, (13,)


def npy_with_header(header: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def raw_npz(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_project_file_tells_side_frames_modes_units_and_extent(tmp_path: Path) -> None:
    header = read_header(save_project_scan(tmp_path / "scan.npz"))
    assert (header.N, header.n_frames, header.n_modes, header.units) == (64, 12, 1, "count_amplitude")
    assert (header.position_min_px, header.position_max_px) == ((50.0, 40.0), (70.0, 90.0))
    assert (header.format, header.dtype, header.object_shape, header.positions) == ("npz", "<f4", None, None)
    assert header.keys == ("diffraction", "probeGuess", "xcoords", "ycoords")
    assert header.name == "scan.npz"


def test_the_other_name_of_the_diffraction_stack_is_read_too(tmp_path: Path) -> None:
    stack = project_arrays()["diffraction"]
    header = read_header(save_project_scan(tmp_path / "scan.npz", diffraction=None, diff3d=stack))
    assert (header.N, header.n_frames, header.units) == (64, 12, "count_amplitude")


def test_both_names_are_accepted_only_with_equal_content(tmp_path: Path) -> None:
    stack = project_arrays()["diffraction"]
    assert read_header(save_project_scan(tmp_path / "same.npz", diff3d=stack)).n_frames == 12
    with pytest.raises(DataError, match="both there and differ"):
        read_header(save_project_scan(tmp_path / "other.npz", diff3d=stack + 1))


@pytest.mark.parametrize(
    ("shape", "modes"), [((64, 64), 1), ((64, 64, 1), 1), ((3, 64, 64), 3), ((1, 64, 64), 1)]
)
def test_every_legal_probe_shape_tells_its_modes(tmp_path: Path, shape: tuple[int, ...], modes: int) -> None:
    scan = save_project_scan(tmp_path / "scan.npz", probeGuess=np.ones(shape, dtype=np.complex128))
    assert read_header(scan).n_modes == modes


def test_what_a_file_states_about_itself_is_taken_over(tmp_path: Path) -> None:
    scan = save_project_scan(
        tmp_path / "scan.npz", units=np.array("normalized_amplitude"), positions=np.array("center")
    )
    header = read_header(scan)
    assert (header.units, header.are_units_stated, header.positions) == (
        "normalized_amplitude",
        True,
        "center",
    )


@pytest.mark.parametrize("suffix", [".npz", ".npz.bz2"])
def test_a_tike_file_is_read_plain_and_compressed(tmp_path: Path, suffix: str) -> None:
    header = read_header(save(tmp_path / f"star{suffix}", tike_arrays(n_frames=5, modes=2)))
    assert (header.format, header.N, header.n_frames, header.n_modes) == ("tike", 64, 5, 2)
    assert (header.units, header.position_min_px, header.position_max_px) == (
        "count_intensity",
        (0.0, -4.0),
        (4.0, 0.0),
    )


def test_arrays_stored_with_the_first_axis_fastest_keep_their_shape(tmp_path: Path) -> None:
    positions = np.asfortranarray(np.arange(10, dtype=np.float32).reshape(1, 5, 2))
    header = read_header(save(tmp_path / "star.npz", tike_arrays(n_frames=5) | {"scan": positions}))
    assert header.position_max_px == (8.0, 9.0)


def test_a_pickled_member_that_nobody_needs_is_left_alone(tmp_path: Path) -> None:
    metadata = np.array([Bomb()], dtype=object)
    scan = save_project_scan(tmp_path / "scan.npz", _metadata=metadata)
    assert npz_members(scan)["_metadata"].is_pickled
    assert read_header(scan).n_frames == 12


def test_a_pickled_array_is_refused_and_never_unpickled(tmp_path: Path) -> None:
    scan = save_project_scan(tmp_path / "scan.npz", xcoords=np.array([Bomb()] * 12, dtype=object))
    with pytest.raises(DataError, match="xcoords holds pickled Python objects"):
        read_header(scan)
    with open_npz(scan) as archive, pytest.raises(DataError, match="never read"):
        archive.read("xcoords")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"xcoords": None}, "missing are xcoords; the file holds diffraction, probeGuess, ycoords"),
        ({"xcoords": np.zeros(11)}, "ycoords holds 12 positions but xcoords 11"),
        ({"xcoords": np.zeros(11), "ycoords": np.zeros(11)}, "11 positions for 12 frames: give one each"),
        ({"xcoords": np.zeros(13), "ycoords": np.zeros(13)}, "13 positions for 12 frames: give one each"),
        ({"xcoords": np.zeros((12, 1))}, r"xcoords has shape \(12, 1\)"),
        ({"xcoords": np.full(12, np.nan)}, "positions hold NaN"),
        ({"xcoords": np.zeros(12, dtype=np.complex64)}, "xcoords has type <c8, but must be real"),
        (
            {"diffraction": np.zeros((12, 64, 64), dtype=np.complex64)},
            "diffraction has type <c8, but must be real",
        ),
        ({"diffraction": np.zeros((12, 64), dtype=np.float32)}, r"diffraction has shape \(12, 64\)"),
        ({"diffraction": np.zeros((12, 64, 32), dtype=np.float32)}, "frames must be square"),
        ({"diffraction": np.zeros((64, 64, 12), dtype=np.float32)}, "frames on the last axis"),
        ({"diffraction": np.full((12, 64, 64), -1, dtype=np.float32)}, "negative values"),
        ({"diffraction": np.full((12, 64, 64), np.inf, dtype=np.float32)}, "NaN or infinity"),
        ({"probeGuess": np.ones((64, 64))}, "probeGuess has type <f8, but must be complex"),
        ({"probeGuess": np.ones((32, 32), dtype=complex)}, r"probeGuess has shape \(32, 32\)"),
        ({"probeGuess": np.ones((64, 64, 2), dtype=complex)}, r"probeGuess has shape \(64, 64, 2\)"),
        ({"probeGuess": np.ones((0, 64, 64), dtype=complex)}, "there is no mode"),
        ({"objectGuess": np.ones(5, dtype=complex)}, r"objectGuess has shape \(5,\)"),
        ({"units": np.array("photons")}, "units is 'photons'"),
        ({"positions": np.array("corner")}, "positions is 'corner'"),
    ],
)
def test_what_breaks_the_data_contract_is_said_in_a_sentence(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        read_header(save_project_scan(tmp_path / "scan.npz", **changes))


def test_a_scan_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no frames"):
        read_header(save(tmp_path / "scan.npz", project_arrays(n_frames=0)))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data": np.ones((2, 5, 64, 64), dtype=np.float32)}, "one view"),
        ({"scan": np.zeros((1, 4, 2))}, "4 positions for 5 frames"),
        ({"scan": np.zeros((1, 5, 3))}, r"must be \(1, J, 2\)"),
        ({"probe": np.ones((1, 5, 1, 1, 64, 64), dtype=complex)}, "probe has shape"),
        ({"probe": np.ones((1, 1, 1, 1, 32, 32), dtype=complex)}, "probe has shape"),
    ],
)
def test_a_tike_file_that_is_inconsistent_is_refused(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        read_header(save(tmp_path / "star.npz", tike_arrays() | changes))


def test_everything_that_is_wrong_with_a_file_is_said_at_once(tmp_path: Path) -> None:
    scan = save_project_scan(
        tmp_path / "scan.npz", ycoords=None, probeGuess=np.ones(3, dtype=complex), diffraction=np.zeros(3)
    )
    with pytest.raises(DataError) as caught:
        read_header(scan)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert all(line.startswith("scan.npz: ") for line in lines)


def test_a_missing_file_is_a_file_not_found_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz") as caught:
        read_header(tmp_path / "nowhere.npz")
    assert isinstance(caught.value, DataFileNotFoundError)


def test_a_folder_is_no_scan(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be opened"):
        read_header(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n", b"PK", b"BZh9 not really"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scan.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"scan\.npz"):
        read_header(path)


@pytest.mark.parametrize("suffix", [".npz", ".npz.bz2"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_short_is_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    path = save(tmp_path / f"scan{suffix}", project_arrays(n_frames=4))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DataError, match="cut short"):
        read_header(path)


def test_a_flipped_bit_in_a_fully_read_member_is_found(tmp_path: Path) -> None:
    path = save_project_scan(tmp_path / "scan.npz")
    content = bytearray(path.read_bytes())
    content[content.index(project_arrays()["xcoords"].tobytes()) + 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="xcoords is damaged"):
        read_header(path)


@pytest.mark.parametrize(
    "member",
    [
        npy_with_header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (10**9,), }\n"),
        npy_with_header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000,), }\n"),
        npy_with_header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }\n"),
        npy_with_header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }" + b" " * 20_000),
        npy_with_header(b"__import__('os')"),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
        b"\x93NUMPY\x09\x00",
        b"not an array",
        b"",
    ],
)
def test_an_array_header_that_promises_too_much_or_makes_no_sense_is_refused(
    tmp_path: Path, member: bytes
) -> None:
    with pytest.raises(DataError, match="x is damaged"):
        npz_members(raw_npz(tmp_path / "scan.npz", {"x.npy": member}))


def test_a_small_file_that_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "bomb.npz.bz2", {"x": np.zeros(1 << 20)})
    monkeypatch.setattr("ptycho_torch.archives.UNPACKED_FLOOR_BYTES", 1 << 20)
    with pytest.raises(DataError, match="unpacks to more than"):
        npz_members(path)


def test_a_name_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    member = io.BytesIO()
    np.save(member, np.zeros(2))
    path = tmp_path / "scan.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", member.getvalue())
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("x.npy", member.getvalue())
    with pytest.raises(DataError, match="twice"):
        npz_members(path)


def test_members_are_listed_with_shape_type_and_order(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", {"c": np.zeros((2, 3), dtype=">f4"), "f": np.zeros((2, 3), order="F")})
    members = npz_members(path)
    assert [(m.shape, m.dtype, m.kind, m.is_fortran) for m in (members["c"], members["f"])] == [
        ((2, 3), ">f4", "f", False),
        ((2, 3), "<f8", "f", True),
    ]


@pytest.mark.parametrize("photons", [3.0, 1e3, 1e9])
def test_roots_of_counts_are_told_from_counts_and_from_arbitrary_units(photons: float) -> None:
    counts = np.random.default_rng(1).poisson(photons * np.geomspace(1e-6, 1, 4000))
    amplitude = np.sqrt(counts).astype(np.float32)
    assert infer_units(amplitude) == "count_amplitude"
    assert infer_units(counts.astype(np.float32)) == "count_intensity"
    assert infer_units(counts) == "count_intensity"
    assert infer_units(amplitude / np.float32(amplitude.max())) == "normalized_amplitude"


def test_blank_frames_tell_no_units() -> None:
    assert infer_units(np.zeros(100, dtype=np.float32)) is None


def test_counts_in_an_integer_type_are_counts_even_when_blank() -> None:
    assert infer_units(np.zeros(100, dtype=np.uint16)) == "count_intensity"


def test_reading_a_header_loads_neither_torch_nor_h5py(tmp_path: Path) -> None:
    path = save_project_scan(tmp_path / "scan.npz")
    program = (
        "import sys, ptycho_torch.headers as h; assert 'numpy' not in sys.modules;"
        "h.read_header(sys.argv[1]); assert not {'torch', 'lightning', 'h5py'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)


def test_a_header_survives_pickle(tmp_path: Path) -> None:
    header = read_header(save_project_scan(tmp_path / "scan.npz"))
    assert pickle.loads(pickle.dumps(header)) == header


@pytest.mark.skipif(
    "HARNESS_DATA" not in os.environ, reason="HARNESS_DATA names no folder with measured scans"
)
@pytest.mark.parametrize(
    ("file", "side", "n_frames", "units"),
    [
        ("siemens-star-small.npz.bz2", 128, 516, "count_intensity"),
        ("siemens_tike_N128_K516.npz", 128, 516, "count_amplitude"),
        ("synth_deadleaves_N64_K1024_1e09.npz", 64, 1024, "count_amplitude"),
        ("synth_deadleaves_N64_K1024_1e04.npz", 64, 1024, "count_amplitude"),
    ],
)
def test_measured_and_simulated_files_are_recognised(file: str, side: int, n_frames: int, units: str) -> None:
    path = Path(os.environ["HARNESS_DATA"]) / file
    if not path.exists():
        pytest.skip(f"{file} is not in HARNESS_DATA")
    header = read_header(path)
    assert (header.N, header.n_frames, header.n_modes, header.units) == (side, n_frames, 1, units)


def test_positions_in_metres_are_refused(tmp_path: Path) -> None:
    metres = np.linspace(0, 2e-6, 12)
    with pytest.raises(DataError, match="span 2e-06 px: give them in pixels"):
        read_header(save_project_scan(tmp_path / "scan.npz", xcoords=metres, ycoords=metres))
