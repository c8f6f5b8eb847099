"""NPZ archives that are written: the same arrays give the same bytes, whatever writes them."""

from __future__ import annotations

import io
import zipfile

import numpy as np

from ptycho_torch.archives import write_npz


def written(**members: np.ndarray) -> bytes:
    stream = io.BytesIO()
    write_npz(stream, members)
    return stream.getvalue()


def test_what_is_written_is_read_back_by_numpy() -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3).T, "b": np.array("text"), "c": np.zeros(0, np.complex64)}
    read = np.load(io.BytesIO(written(**arrays)))
    assert sorted(read) == sorted(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype


def test_the_bytes_do_not_depend_on_order_or_memory_layout() -> None:
    a, b = np.arange(6.0).reshape(2, 3), np.arange(3)
    assert written(a=a, b=b) == written(b=b, a=np.asfortranarray(a))


def test_nothing_in_the_archive_tells_the_time_or_the_version_of_python() -> None:
    with zipfile.ZipFile(io.BytesIO(written(a=np.arange(3)))) as archive:
        (member,) = archive.infolist()
    assert member.date_time == (1980, 1, 1, 0, 0, 0)
    assert (member.create_version, member.extract_version, member.extra) == (20, 20, b"")
