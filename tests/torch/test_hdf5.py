from __future__ import annotations

import os
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho_torch import hdf5
from ptycho_torch.errors import DataError
from ptycho_torch.hdf5 import open_hdf5

SECRET = np.arange(6.0)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["x"] = SECRET
    return path


def test_a_link_inside_the_file_is_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["deep/down/x"] = SECRET
        file["deep/short"] = h5py.SoftLink("down")
        file["first/link"] = h5py.SoftLink("/deep/short/x")
    with open_hdf5(tmp_path / "a.h5", ["first/link", "absent/x"]) as archive:
        assert list(archive.members) == ["first/link"]
        assert np.array_equal(archive.read("first/link"), SECRET)


def link_in_the_middle(file: h5py.File, other: Path) -> None:
    file["group"] = h5py.ExternalLink(str(other), "/")
    file["x"] = h5py.SoftLink("/group/x")


def virtual(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout(shape=(6,), dtype="f8")
    layout[:] = h5py.VirtualSource(str(other), "x", shape=(6,))
    file.create_virtual_dataset("x", layout)


def endless_virtual(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout(shape=(6,), dtype="f8", maxshape=(None,))
    source = h5py.VirtualSource(str(other), "x", shape=(6,), maxshape=(None,))
    layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
    file.create_virtual_dataset("x", layout)


def external_storage(file: h5py.File, other: Path) -> None:
    file.create_dataset("x", shape=(6,), dtype="f8", external=[(str(other), 0, 48)])


OPENERS = {
    "link": lambda file, other: file.__setitem__("x", h5py.ExternalLink(str(other), "/x")),
    "link_in_the_middle": link_in_the_middle,
    "virtual": virtual,
    "endless_virtual": endless_virtual,
    "external_storage": external_storage,
}


@pytest.mark.parametrize("opener", list(OPENERS))
def test_no_other_file_is_ever_opened(opener: str, tmp_path: Path, other: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        OPENERS[opener](file, other)
    other.unlink()
    os.mkfifo(other)  # opening it would wait for ever
    with pytest.raises(DataError, match="never opened"), open_hdf5(path, ["x"]):
        pass


def test_links_in_a_circle_come_to_an_end(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file["y"] = h5py.SoftLink("/y"), h5py.SoftLink("/x")
    with pytest.raises(DataError, match="over more than 16 links"), open_hdf5(tmp_path / "a.h5", ["x"]):
        pass


def test_a_claimed_shape_is_no_memory(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", shape=(1 << 20, 1024, 1024), dtype="f4", chunks=(1, 64, 64))
    assert (tmp_path / "a.h5").stat().st_size < 1 << 20
    with pytest.raises(DataError, match="no scan of the file's size does"), open_hdf5(tmp_path / "a.h5", "x"):
        pass


def test_a_chunk_that_unpacks_to_more_than_it_is_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5, "UNPACKED_FLOOR_BYTES", 1 << 20)  # a bomb of a gigabyte would do it too
    with h5py.File(tmp_path / "a.h5", "w") as file:
        sound = file.create_dataset("sound", shape=(100,), dtype="f8", chunks=(100,), compression="gzip")
        bomb = file.create_dataset("bomb", shape=(100,), dtype="f8", chunks=(100,), compression="gzip")
        for dataset, size in ((sound, 800), (bomb, 1 << 24)):
            dataset.id.write_direct_chunk((0,), zlib.compress(bytes(size)))
    with open_hdf5(tmp_path / "a.h5", ["sound"]) as archive:
        assert not archive.read("sound").any()
    with pytest.raises(DataError, match="unpacks to more than its chunks of 800 bytes"):  # noqa: SIM117
        with open_hdf5(tmp_path / "a.h5", ["bomb"]):
            pass


def test_no_plugin_is_looked_for(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((8,))
        creation.set_filter(32004, h5py.h5z.FLAG_OPTIONAL, ())
        h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F64LE, h5py.h5s.create_simple((8,)), creation)
    with pytest.raises(DataError, match="filter 32004"), open_hdf5(tmp_path / "a.h5", ["x"]):
        pass


def test_texts_and_references_are_never_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = ["a text"]
    with (
        open_hdf5(tmp_path / "a.h5", ["x"]) as archive,
        pytest.raises(DataError, match="store plain numbers"),
    ):
        archive.read("x")
