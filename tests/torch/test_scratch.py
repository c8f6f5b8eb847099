from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ptycho_torch.readers import read_scan
from ptycho_torch.readers.frames import hold_in
from ptycho_torch.scratch import in_memory, scratch_in
from ptycho_torch.stitching import stitch, synchronise_phases
from tests.torch.known_object import make_known_scan
from tests.torch.sample_scans import project_arrays, save, save_project_scan, tike_arrays


def test_rows_come_back_as_they_were_written_and_nothing_is_left_in_the_folder(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(10, 3, 4)).astype(np.complex64)
    stack = scratch_in(tmp_path)(rows.shape, np.complex64)
    stack[4:10], stack[0:4] = rows[4:], rows[:4]
    assert np.array_equal(stack[2:7], rows[2:7])
    assert np.array_equal(stack[np.array([[7], [1]])], rows[[[7], [1]]])
    assert (len(stack), stack.shape, stack.ndim, stack.dtype) == (10, (10, 3, 4), 3, np.complex64)
    assert list(tmp_path.iterdir()) == []


def test_rows_that_were_never_written_are_no_zeros(tmp_path: Path) -> None:
    stack = scratch_in(tmp_path)((4, 2), np.float32)
    stack[0:1] = np.ones((1, 2))
    with pytest.raises(EOFError, match="never written"):
        stack[0:4]


def test_rows_of_another_shape_are_refused(tmp_path: Path) -> None:
    stack = scratch_in(tmp_path)((4, 2), np.float32)
    with pytest.raises(ValueError, match="are given as"):
        stack[0:2] = np.ones((1, 2))


@pytest.mark.parametrize("file_format", ["npz", "tike"])
def test_a_scan_read_into_scratch_is_the_scan(file_format: str, tmp_path: Path) -> None:
    path = tmp_path / "scan.npz"
    if file_format == "npz":
        save_project_scan(path, **project_arrays(n_frames=70))
    else:
        save(path, tike_arrays(n_frames=70))
    whole, streamed = read_scan(path), read_scan(path, hold=hold_in(scratch_in(tmp_path)))
    assert not isinstance(streamed.diffraction, np.ndarray)
    assert np.array_equal(streamed.diffraction[0:70], whole.diffraction)
    assert np.array_equal(streamed.corners_px, whole.corners_px)


def test_stitching_and_synchronising_from_scratch_changes_no_bit(tmp_path: Path) -> None:
    known_scan = make_known_scan()
    phases = np.random.default_rng(1).uniform(0, 6, len(known_scan.patches))
    patches = known_scan.patches * np.exp(1j * phases).astype(np.complex64)[:, None, None]
    objects = []
    for store in (in_memory, scratch_in(tmp_path)):
        given = store(patches.shape, np.complex64)
        given[0 : len(patches)] = patches
        turned = synchronise_phases(given, known_scan.corners_px, known_scan.probe_intensity, store=store)
        objects.append(stitch(turned, known_scan.corners_px, known_scan.probe_intensity))
    assert np.array_equal(objects[0].object, objects[1].object)
    assert np.array_equal(objects[0].coverage, objects[1].coverage)
