"""Data files that no run may begin with: how each is made. What is said of each: ``broken_data.txt``."""

from __future__ import annotations

import bz2
import io
import os
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ptycho_torch.archives import write_npz
from tests.broken_cxi import BROKEN_CXI, ODD_CXI

__all__ = ["BROKEN", "ODD_BUT_LEGAL", "SPECS", "spec_for"]

SIDE, N_FRAMES = 64, 12
Make = Callable[[Path], object]

_SPEC = "name: x\ndata: {{train: {{file: scan.npz{more}}}{data}}}\ntraining: {{n_groups: {groups}}}\n{last}"


def arrays(**changes: Any) -> dict[str, np.ndarray]:
    """Return the arrays of a sound scan, some replaced, added, or (None) left out."""
    counts = np.random.default_rng(3).poisson(2.0, (N_FRAMES, SIDE, SIDE))
    sound = {
        "diffraction": np.sqrt(counts).astype(np.float32),
        "xcoords": np.linspace(40.0, 90.0, N_FRAMES),
        "ycoords": np.linspace(50.0, 70.0, N_FRAMES),
        "probeGuess": np.ones((SIDE, SIDE), np.complex64),
    }
    return {name: array for name, array in (sound | changes).items() if array is not None}


def tike(**changes: Any) -> dict[str, np.ndarray]:
    """Return the arrays of a sound scan in tike's format, some replaced."""
    sound = {
        "data": np.random.default_rng(4).poisson(2.0, (1, 5, SIDE, SIDE)).astype(np.float32),
        "scan": np.arange(10.0).reshape(1, 5, 2),
        "probe": np.ones((1, 1, 1, 1, SIDE, SIDE), np.complex64),
    }
    return sound | changes


def npz(members: Mapping[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    write_npz(stream, members)
    return stream.getvalue()


def holding(**changes: Any) -> Make:
    return lambda path: path.write_bytes(npz(arrays(**changes)))


def holding_tike(**changes: Any) -> Make:
    return lambda path: path.write_bytes(npz(tike(**changes)))


def with_bytes(content: bytes | Callable[[], bytes]) -> Make:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content())


def pickled(number: int) -> Make:
    def make(path: Path) -> None:
        np.savez(path, **arrays(xcoords=np.array([{}] * number, dtype=object)))

    return make


def late(value: float, dtype: Any = np.float32) -> np.ndarray:
    """Return frames in which one pixel of the last is something else."""
    stack = arrays()["diffraction"].astype(dtype)
    stack[-1, 5, 7] = value
    return stack


def npy(header: str, body: bytes = b"", version: int = 1) -> bytes:
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(header)) + header.encode() + body


def member(content: bytes, name: str = "xcoords.npy", **settings: Any) -> Make:
    """Put a member of any content beside sound ones."""

    def make(path: Path) -> None:
        path.write_bytes(npz(arrays(**{name.removesuffix(".npy"): None})))
        with zipfile.ZipFile(path, "a", **settings) as archive:
            archive.writestr(zipfile.ZipInfo(name), content, settings.get("compression"))

    return make


def shaped(shape: str, body: bytes = b"\0" * 96, descr: str = "<f8") -> Make:
    return member(npy(f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n", body))


def patched(old: bytes, new: bytes, members: Mapping[str, np.ndarray] | None = None) -> Make:
    """Change bytes of a sound file: the last place at which they stand."""

    def make(path: Path) -> None:
        content = npz(arrays() if members is None else members)
        place = content.rindex(old)
        path.write_bytes(content[:place] + new + content[place + len(old) :])

    return make


def directory_field(offset: int, value: bytes) -> Make:
    """Change a field of the last entry of the archive's directory."""

    def make(path: Path) -> None:
        content = bytearray(npz(arrays()))
        entry = content.rindex(b"PK\x01\x02")
        content[entry + offset : entry + offset + len(value)] = value
        path.write_bytes(bytes(content))

    return make


def twice(path: Path) -> None:
    path.write_bytes(npz(arrays()))
    with zipfile.ZipFile(path) as archive:
        content, info = archive.read("xcoords.npy"), archive.getinfo("xcoords.npy")
    renamed = npz(arrays() | {"xcoordz": arrays()["xcoords"]}).replace(b"xcoordz.npy", info.filename.encode())
    path.write_bytes(renamed)
    assert content in renamed


def crowded(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(1001):
            archive.writestr(zipfile.ZipInfo(f"{number}.npy"), b"")


def flipped_bit(path: Path) -> None:
    content = bytearray(npz(arrays()))
    content[content.rindex(arrays()["diffraction"][-1].tobytes()[:64])] ^= 1
    path.write_bytes(bytes(content))


def cut(kept: float, pack: Callable[[bytes], bytes] = bytes) -> Make:
    def make(path: Path) -> None:
        content = pack(npz(arrays()))
        path.write_bytes(content[: int(kept * len(content))])

    return make


def bare_npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, arrays()["diffraction"])
    return stream.getvalue()


_STACK = arrays()["diffraction"]
_RECORD = np.zeros(N_FRAMES, dtype=[("a", "<f4"), ("b", "<f4")])
_OBJECT = np.ones((160, 160), np.complex64)
_HUGE = struct.pack("<I", 0xF0000000)

BROKEN: Mapping[str, Make] = {
    # What stands where a file should.
    "no_file": lambda path: None,
    "a_folder": lambda path: path.mkdir(),
    "a_pipe": os.mkfifo,
    "a_link_to_nothing": lambda path: path.symlink_to("nowhere.npz"),
    "an_empty_file": with_bytes(b""),
    "a_text": with_bytes(b"x,y\n1,2\n"),
    "an_hdf5_file": with_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64)),
    "a_bare_npy": with_bytes(bare_npy),
    "the_letters_of_a_zip": with_bytes(b"PK\x03\x04 and nothing else"),
    "another_file_than_the_digest_says": holding(),
    # Files that were cut short or damaged.
    "cut_in_half": cut(0.5),
    "cut_at_the_end": cut(0.999),
    "cut_bz2": cut(0.9, bz2.compress),
    "bz2_of_a_text": with_bytes(lambda: bz2.compress(b"no archive")),
    "one_flipped_bit": flipped_bit,
    # Archives that are made to harm or to confuse.
    "claims_gigabytes": directory_field(24, _HUGE),
    "claims_more_than_is_stored": directory_field(20, _HUGE),
    "another_name_in_the_directory": patched(b"probeGuess.npy", b"probeGuezz.npy"),
    "a_member_elsewhere": directory_field(42, struct.pack("<I", 12345)),
    "an_encrypted_member": directory_field(8, struct.pack("<H", 1)),
    "an_unknown_compression": directory_field(10, struct.pack("<H", 97)),
    "lzma_compression": member(
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (0,), }\n"), compression=zipfile.ZIP_LZMA
    ),
    "a_name_that_leaves_the_folder": lambda path: path.write_bytes(
        npz(arrays(diffraction=None) | {"../../diffraction": _STACK})
    ),
    "a_name_of_two_lines": lambda path: path.write_bytes(
        npz(arrays(diffraction=None) | {"diffraction\n": _STACK})
    ),
    "a_member_twice": twice,
    "a_thousand_members": crowded,
    # Headers that lie.
    "a_shape_of_terabytes": shaped("(1000000000000,)"),
    "a_shape_beyond_all_numbers": shaped("(" + "9" * 400 + ",)"),
    "a_shape_smaller_than_the_data": shaped("(11,)"),
    "a_negative_shape": shaped("(-12,)"),
    "a_shape_that_is_computed": shaped("(2**10,)"),
    "a_shape_of_truth_values": shaped("(True,)"),
    "no_header_at_all": member(b"x = 1, 2, 3"),
    "a_header_that_is_a_program": member(npy("__import__('os').abort()")),
    "a_header_nested_deeply": member(npy("[" * 5000)),
    "a_header_without_end": member(b"\x93NUMPY\x02\x00\xff\xff\xff\xff"),
    "an_npy_of_the_future": member(npy("{}", version=9)),
    "a_type_that_does_not_exist": shaped("(12,)", descr="<f3"),
    # Arrays that are absent, or of another kind.
    "no_positions": holding(xcoords=None, ycoords=None),
    "nothing_that_is_wanted": lambda path: path.write_bytes(npz({"image": np.zeros(3)})),
    "pickled_positions": pickled(N_FRAMES),
    "records_for_positions": holding(xcoords=_RECORD),
    "two_stacks_that_differ": holding(diff3d=_STACK * 2),
    "complex_frames": holding(diffraction=_STACK.astype(np.complex64)),
    "frames_of_text": holding(diffraction=np.full((N_FRAMES, SIDE, SIDE), "1")),
    "frames_of_truth_values": holding(diffraction=_STACK > 1),
    "complex_positions": holding(xcoords=np.ones(N_FRAMES, complex)),
    "a_real_probe": holding(probeGuess=np.ones((SIDE, SIDE))),
    # Shapes that disagree.
    "one_frame_alone": holding(diffraction=_STACK[0]),
    "a_stack_of_stacks": holding(diffraction=_STACK[None]),
    "frames_on_the_last_axis": holding(diffraction=np.moveaxis(_STACK, 0, -1)),
    "frames_that_are_not_square": holding(diffraction=_STACK[:, :, :32]),
    "an_odd_side": holding(diffraction=_STACK[:, 1:, 1:], probeGuess=np.ones((63, 63), complex)),
    "a_side_that_no_network_has": holding(
        diffraction=_STACK[:, :32, :32], probeGuess=np.ones((32, 32), complex)
    ),
    "no_frames": holding(diffraction=_STACK[:0], xcoords=np.zeros(0), ycoords=np.zeros(0)),
    "frames_of_no_pixels": holding(diffraction=_STACK[:, :0, :0], probeGuess=np.ones((0, 0), complex)),
    "more_positions_than_frames": holding(xcoords=np.arange(13.0), ycoords=np.arange(13.0)),
    "fewer_positions_than_frames": holding(xcoords=np.arange(11.0), ycoords=np.arange(11.0)),
    "more_rows_than_columns": holding(ycoords=np.arange(13.0)),
    "positions_in_a_table": holding(xcoords=np.ones((N_FRAMES, 1))),
    "a_probe_of_another_size": holding(probeGuess=np.ones((32, 32), complex)),
    "modes_on_the_last_axis": holding(probeGuess=np.ones((SIDE, SIDE, 2), complex)),
    "a_probe_without_modes": holding(probeGuess=np.ones((0, SIDE, SIDE), complex)),
    "an_object_of_one_dimension": holding(objectGuess=np.ones(9, complex)),
    "a_mask_of_another_size": holding(mask=np.ones((32, 32), bool)),
    # Values that cannot be.
    "nan_in_the_last_frame": holding(diffraction=late(np.nan)),
    "infinity_in_the_last_frame": holding(diffraction=late(np.inf)),
    "a_negative_pixel_in_the_last_frame": holding(diffraction=late(-1.0)),
    "negative_counts": holding(diffraction=late(-3, np.int32)),
    "an_amplitude_beyond_float32": holding(diffraction=late(1e300, np.float64)),
    "frames_of_darkness": holding(diffraction=_STACK * 0),
    "frames_on_an_endless_scale": holding(
        diffraction=_STACK * np.float32(1e20), units=np.array("count_amplitude")
    ),
    "a_probe_on_an_endless_scale": holding(probeGuess=np.full((SIDE, SIDE), 1e20, np.complex64)),
    "frames_that_are_all_the_same": holding(diffraction=np.repeat(_STACK[:1], N_FRAMES, axis=0)),
    "one_position_for_all_frames": holding(xcoords=np.full(N_FRAMES, 50.0), ycoords=np.full(N_FRAMES, 60.0)),
    "nan_among_the_positions": holding(ycoords=np.full(N_FRAMES, np.nan)),
    "infinity_among_the_positions": holding(xcoords=np.full(N_FRAMES, np.inf)),
    "positions_in_metres": holding(
        xcoords=np.linspace(0, 2e-6, N_FRAMES), ycoords=np.linspace(0, 1e-6, N_FRAMES)
    ),
    "positions_in_nanometres": holding(xcoords=np.linspace(0, 9e6, N_FRAMES)),
    "a_probe_of_darkness": holding(probeGuess=np.zeros((SIDE, SIDE), complex)),
    "nan_in_the_probe": holding(probeGuess=np.full((SIDE, SIDE), np.nan, complex)),
    "a_probe_beyond_float32": holding(probeGuess=np.full((SIDE, SIDE), 1e300, complex)),
    "infinity_in_the_object": holding(objectGuess=np.full((160, 160), np.inf, complex)),
    "a_mask_of_numbers": holding(mask=np.ones((SIDE, SIDE))),
    "a_mask_that_uses_nothing": holding(mask=np.zeros((SIDE, SIDE), bool)),
    "patches_outside_the_object": holding(objectGuess=_OBJECT[:100, :100]),
    # What the file says of itself, and what is asked of it.
    "units_that_do_not_exist": holding(units=np.array("photons")),
    "units_as_a_number": holding(units=np.array(3)),
    "a_convention_that_does_not_exist": holding(positions=np.array("corner")),
    "units_that_the_spec_contradicts": holding(units=np.array("normalized_amplitude")),
    "a_convention_that_the_spec_contradicts": holding(positions=np.array("center")),
    "counts_called_amplitudes": holding(diffraction=np.rint(_STACK**2)),
    "zero_groups": holding(),
    "more_groups_than_frames": holding(),
    "more_members_than_frames": holding(
        diffraction=_STACK[:3], xcoords=np.arange(3.0), ycoords=np.arange(3.0)
    ),
    "a_group_wider_than_its_canvas": holding(
        xcoords=np.repeat([40.0, 1040.0], 6), ycoords=np.linspace(40, 60, N_FRAMES)[np.r_[0:12:2, 1:12:2]]
    ),
    "too_few_frames_to_hold_out": holding(
        diffraction=_STACK[:6], xcoords=np.arange(6.0), ycoords=np.arange(6.0)
    ),
    "more_groups_than_there_are": holding(),
    # tike's format.
    "two_views": holding_tike(data=np.ones((2, 5, SIDE, SIDE), np.float32)),
    "three_coordinates": holding_tike(scan=np.ones((1, 5, 3))),
    "a_position_too_few": holding_tike(scan=np.ones((1, 4, 2))),
    "a_probe_for_each_frame": holding_tike(probe=np.ones((1, 5, 1, 1, SIDE, SIDE), complex)),
    "nan_in_counts": holding_tike(data=np.full((1, 5, SIDE, SIDE), np.nan, np.float32)),
    "nan_in_tikes_scan": holding_tike(scan=np.full((1, 5, 2), np.nan)),
    **BROKEN_CXI,
}
"""Name to what makes the file, at the path that it is given."""

ODD_BUT_LEGAL: Mapping[str, Make] = {
    "fortran_order": lambda path: np.savez(
        path, **{name: np.asfortranarray(array) for name, array in arrays().items()}
    ),
    "big_endian": lambda path: np.savez(
        path, **{name: array.astype(array.dtype.newbyteorder(">")) for name, array in arrays().items()}
    ),
    "compressed": lambda path: np.savez_compressed(path, **arrays()),
    "packed_by_bz2": lambda path: path.write_bytes(bz2.compress(npz(arrays()))),
    "both_names_equal": holding(diff3d=_STACK),
    "counts_in_16_bits": holding(diffraction=np.rint(_STACK**2).astype(np.uint16)),
    "nan_under_the_mask": holding(
        diffraction=late(np.nan), mask=~np.isnan(late(np.nan)[-1]), units=np.array("count_amplitude")
    ),
    "pickled_metadata": lambda path: np.savez(path, **arrays(), _metadata=np.array({}, dtype=object)),
    "a_record_that_nobody_needs": holding(notes=_RECORD),
    "tike": holding_tike(),
    **ODD_CXI,
}
"""The same for files that must be read."""

SPECS: Mapping[str, Mapping[str, str]] = {
    "another_file_than_the_digest_says": {"more": f", sha256: {'0' * 64}"},
    "patches_outside_the_object": {"more": ", positions: center"},
    "units_that_the_spec_contradicts": {"more": ", units: count_amplitude"},
    "a_convention_that_the_spec_contradicts": {"more": ", positions: ptychopinn"},
    "counts_called_amplitudes": {"more": ", units: count_amplitude"},
    "zero_groups": {"groups": "0"},
    "more_groups_than_frames": {"groups": "12"},
    "more_members_than_frames": {"groups": "2", "last": "model: {gridsize: 2}\n"},
    "a_group_wider_than_its_canvas": {
        "last": "model: {gridsize: 2}\n",
        "data": ", neighbor_count: 7, validation_fraction: 0",
    },
    "too_few_frames_to_hold_out": {"groups": "2", "last": "model: {gridsize: 2}\n"},
    "more_groups_than_there_are": {"groups": "99", "data": ", oversample: true", "last": "model: {N: 64}\n"},
}
"""What the spec of a case says beside its file."""


def spec_for(case: str) -> str:
    """Return the text of the spec that names a case's file ``scan.npz``."""
    settings = {"more": "", "data": "", "groups": "2", "last": ""} | SPECS.get(case, {})
    return _SPEC.format(**settings)
