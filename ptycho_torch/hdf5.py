"""HDF5 files read strictly: what a file says never opens another file, loads a plugin or fills the memory."""

from __future__ import annotations

import math
import posixpath
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ptycho_torch.archives import MAX_UNPACKED_RATIO, UNPACKED_FLOOR_BYTES, damage_reported
from ptycho_torch.array_headers import NUMBERS, ArrayHeader, one_line
from ptycho_torch.errors import DataError, DataFileNotFoundError

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

__all__ = ["HDF5_MAGIC", "Hdf5Archive", "open_hdf5"]

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
MAX_LINKS = 16
"""Soft links that are followed on the way to one dataset."""

_DEFLATE, _DEFLATE_RATIO = 1, 1032
_BUILT_IN_FILTERS = {_DEFLATE: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset"}
_FILTERS = {**_BUILT_IN_FILTERS, 32000: "lzf"}
_DAMAGE = (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, OverflowError, zlib.error)


class Hdf5Archive:
    """Some datasets of an open HDF5 file, by their paths.

    Parameters
    ----------
    source
        The file's name, for messages.
    members
        Path to header, for those of the wanted datasets that are there.
    """

    def __init__(self, file: h5py.File, source: str, packed_bytes: int, wanted: Sequence[str]) -> None:
        self.source = source
        self._limit = max(UNPACKED_FLOOR_BYTES, MAX_UNPACKED_RATIO * packed_bytes)
        self._datasets: dict[str, h5py.Dataset] = {}
        members: dict[str, ArrayHeader] = {}
        for path in wanted:
            with damage_reported(source, path, _DAMAGE):
                dataset = _find(file, path, source)
                if dataset is None:
                    continue
                _refuse_other_files(dataset, path, source)
                members[path] = self._header(dataset, path)
                self._datasets[path] = dataset
        self.members: Mapping[str, ArrayHeader] = MappingProxyType(members)

    def read(self, name: str, max_items: int | None = None) -> NDArray[Any]:
        """Read one dataset, or the first items of it as ``NpzArchive.read`` does.

        Raises
        ------
        DataError
            When it holds something else than numbers, or is damaged.
        """
        shape = self.members[name].shape
        if max_items is not None:
            return next(self.blocks(name, max_items))
        return next(self.blocks(name, max(math.prod(shape), 1))).reshape(shape)

    def blocks(self, name: str, max_items: int) -> Iterator[NDArray[Any]]:
        """Read a dataset piece by piece, in whole steps of its first axis; each piece is flat.

        Raises
        ------
        DataError
            When it holds something else than numbers, or is damaged.
        """
        header, dataset = self.members[name], self._datasets[name]
        if header.kind not in NUMBERS:
            raise DataError(f"{self.source}: {name} holds items of type {header.dtype}: store plain numbers")
        with damage_reported(self.source, name, _DAMAGE):
            if not header.shape or 0 in header.shape:
                yield dataset[()].reshape(-1)
                return
            rows = max(1, max_items // math.prod(header.shape[1:]))
            for first in range(0, header.shape[0], rows):
                yield dataset[first : first + rows].reshape(-1)

    def _header(self, dataset: h5py.Dataset, path: str) -> ArrayHeader:
        shape, dtype = dataset.shape, dataset.dtype
        if shape is None:
            raise DataError(f"{self.source}: {path} is an empty dataset: store numbers")
        kind = dtype.kind if dtype.itemsize in NUMBERS.get(dtype.kind, {dtype.itemsize}) else "V"
        size = math.prod(shape) * dtype.itemsize
        chunk = math.prod(dataset.chunks or ()) * dtype.itemsize
        if max(size, chunk) > self._limit:
            raise DataError(
                f"{self.source}: {path} of shape {one_line(shape)} takes {one_line(max(size, chunk))} bytes, "
                f"more than {self._limit}: no scan of the file's size does"
            )
        if _DEFLATE in _filters(dataset) and dataset.chunks is not None:
            self._refuse_bombs(dataset, path, chunk)
        return ArrayHeader(shape, one_line(dtype.str), kind, False, False, 0)

    def _refuse_bombs(self, dataset: h5py.Dataset, path: str, chunk_bytes: int) -> None:
        # The library unpacks a chunk to wherever it ends, whatever its size should be.
        for number in range(dataset.id.get_num_chunks()):
            info = dataset.id.get_chunk_info(number)
            if info.size * _DEFLATE_RATIO <= UNPACKED_FLOOR_BYTES or info.filter_mask:
                continue
            _, packed = dataset.id.read_direct_chunk(info.chunk_offset)
            unpacked = len(zlib.decompressobj().decompress(packed, chunk_bytes + 1))
            if unpacked > chunk_bytes:
                raise DataError(
                    f"{self.source}: {path} unpacks to more than its chunks of {chunk_bytes} bytes: "
                    "write the file again"
                )


@contextmanager
def open_hdf5(path: str | Path, wanted: Sequence[str]) -> Iterator[Hdf5Archive]:
    """Open an HDF5 file and look up datasets in it.

    Parameters
    ----------
    path
        The file.
    wanted
        Paths of datasets; soft links on the way are followed, links into other files never.

    Raises
    ------
    DataFileNotFoundError
        When there is no such file.
    DataError
        When it is no HDF5 file, is damaged, or what is wanted would be read from another file, takes a
        plugin, or claims more than a file of this size holds.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise DataFileNotFoundError(f"{path}: there is no such file: check its path")
    with damage_reported(path.name, "the HDF5 file", _DAMAGE):
        file = h5py.File(path, "r", locking=False)
    with file:
        yield Hdf5Archive(file, path.name, path.stat().st_size, wanted)


def _find(file: h5py.File, path: str, source: str) -> h5py.Dataset | None:
    """Walk to a dataset link by link, as the library would, but never into another file."""
    import h5py

    links_left = MAX_LINKS
    here, group, steps = "/", file["/"], path.split("/")
    while steps:
        step = steps.pop(0)
        if step in {"", "."}:
            continue
        # h5py's own look-ups follow a link to see whether it leads anywhere, and so open its file.
        if not isinstance(group, h5py.Group) or not group.id.links.exists(step.encode()):
            return None
        kind = group.id.links.get_info(step.encode()).type
        if kind == h5py.h5l.TYPE_SOFT:
            links_left -= 1
            if links_left < 0:
                raise DataError(f"{source}: {path} is reached over more than {MAX_LINKS} links")
            target = posixpath.join(here, group.id.links.get_val(step.encode()).decode())
            here, group, steps = "/", file["/"], [*target.split("/"), *steps]
        elif kind == h5py.h5l.TYPE_HARD:
            here, group = posixpath.join(here, step), group[step]
        else:
            raise DataError(
                f"{source}: {path} is a link into another file, which is never opened: store it here"
            )
    return group if isinstance(group, h5py.Dataset) else None


def _filters(dataset: h5py.Dataset) -> list[int]:
    creation = dataset.id.get_create_plist()
    return [creation.get_filter(number)[0] for number in range(creation.get_nfilters())]


def _refuse_other_files(dataset: h5py.Dataset, path: str, source: str) -> None:
    import h5py

    creation = dataset.id.get_create_plist()
    if creation.get_layout() == h5py.h5d.VIRTUAL or creation.get_external_count():
        raise DataError(f"{source}: {path} is stored in other files, which are never opened: store it here")
    unknown = [number for number in _filters(dataset) if number not in _FILTERS]
    if unknown:
        raise DataError(
            f"{source}: {path} is compressed by the filter {unknown[0]}, for which no plugin is loaded: "
            "compress it by gzip"
        )
