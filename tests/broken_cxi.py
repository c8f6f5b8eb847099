"""CXI files that no run may begin with: how each is made. What is said of each: ``broken_data.txt``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.torch.readers.cxi_files import DETECTOR, cxi_members, pixel_m, save_cxi

__all__ = ["BROKEN_CXI", "ODD_CXI"]

SIDE, N_FRAMES = 64, 12
Make = Callable[[Path], object]


def late(value: int) -> np.ndarray:
    """Return counts in which one pixel of the last frame is something else."""
    counts: np.ndarray = cxi_members()[f"{DETECTOR}/data"]
    counts[-1, 5, 7] = value
    return counts


def holding_cxi(**changes: Any) -> Make:
    return lambda path: save_cxi(path, **changes)


def cxi_with(change: Callable[[Any], object]) -> Make:
    """Put other frames into an open CXI file that holds none yet."""

    def make(path: Path) -> None:
        save_cxi(path, data=None)
        with h5py.File(path, "a") as file:
            del file["entry_1/data_1/data"]
            change(file)

    return make


def cxi_elsewhere(file: Any) -> None:
    file["entry_1/data_1/data"] = h5py.ExternalLink("/etc/passwd", "/data")


def cxi_virtual(file: Any) -> None:
    layout = h5py.VirtualLayout(shape=(N_FRAMES, SIDE, SIDE), dtype="i4")
    layout[:] = h5py.VirtualSource("other.h5", "data", shape=(N_FRAMES, SIDE, SIDE))
    file.create_virtual_dataset("entry_1/data_1/data", layout)


def cxi_of_bytes(file: Any) -> None:
    name, size = "entry_1/data_1/data", 4 * N_FRAMES * SIDE * SIDE
    file.create_dataset(name, (N_FRAMES, SIDE, SIDE), "i4", external=[("/etc/passwd", 0, size)])


def cxi_of_terabytes(file: Any) -> None:
    file.create_dataset("entry_1/data_1/data", (1 << 20, 1 << 12, 1 << 12), "u2", chunks=(1, 64, 64))


BROKEN_CXI: Mapping[str, Make] = {
    "cxi_that_is_cut": lambda path: save_cxi(path).write_bytes(path.read_bytes()[:9000]),
    "cxi_of_an_image": cxi_with(lambda file: file.__delitem__("entry_1/sample_1")),
    "cxi_frames_in_another_file": cxi_with(cxi_elsewhere),
    "cxi_frames_of_other_files": cxi_with(cxi_virtual),
    "cxi_frames_in_raw_bytes_of_another_file": cxi_with(cxi_of_bytes),
    "cxi_frames_of_terabytes": cxi_with(cxi_of_terabytes),
    "cxi_frames_of_text": cxi_with(lambda file: file.__setitem__("entry_1/data_1/data", ["1", "2"])),
    "cxi_frames_that_are_not_square": holding_cxi(data=np.ones((N_FRAMES, 64, 32), np.int32)),
    "cxi_negative_counts": holding_cxi(data=late(-3)),
    "cxi_too_few_positions": holding_cxi(translation=np.ones((3, 3))),
    "cxi_positions_of_one_axis": holding_cxi(translation=np.ones((N_FRAMES, 1))),
    "cxi_nan_among_the_positions": holding_cxi(translation=np.full((N_FRAMES, 3), np.nan)),
    "cxi_positions_in_pixels": holding_cxi(translation=np.arange(3.0 * N_FRAMES).reshape(N_FRAMES, 3)),
    "cxi_without_a_distance": holding_cxi(distance=None),
    "cxi_of_no_wavelength": holding_cxi(wavelength=0.0),
    "cxi_energy_in_electronvolt": holding_cxi(**{"../source_1/energy": 12398.4}),
    "cxi_tilted_detector": holding_cxi(basis_vectors=np.array([[0, 0, 1], [1, 0, 0]]) * 75e-6),
    "cxi_beam_off_the_centre": holding_cxi(corner_position=np.zeros(3)),
    "cxi_mask_of_numbers": holding_cxi(mask=np.ones((SIDE, SIDE), np.float32)),
    "cxi_mask_that_uses_nothing": holding_cxi(mask=np.ones((SIDE, SIDE), np.uint32)),
    "cxi_without_a_probe": holding_cxi(illumination=None),
    "cxi_probe_of_another_size": holding_cxi(illumination=np.ones((32, 32), complex)),
    "cxi_near_field": holding_cxi(
        translation=np.arange(3.0 * N_FRAMES).reshape(N_FRAMES, 3) * 40 * pixel_m(64)
    ),
}
"""Name to what makes the file, at the path that it is given."""

ODD_CXI: Mapping[str, Make] = {
    "cxi": holding_cxi(),
    "cxi_masked": holding_cxi(mask=(late(-1)[-1] < 0).astype(np.uint32), data=late(-1)),
}
"""The same for files that must be read."""
