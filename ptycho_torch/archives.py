"""NPZ archives: what is inside, without pickle, within bounds, and without reading more than is asked for."""

from __future__ import annotations

import bz2
import io
import math
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any

from ptycho_torch.array_headers import ArrayHeader, one_line, parse_header, read_array_header
from ptycho_torch.errors import DataError, DataFileNotFoundError, NoArchiveError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "ArrayHeader",
    "NpzArchive",
    "damage_reported",
    "npz_members",
    "open_npz",
    "row_blocks",
    "write_npz",
]

MAX_UNPACKED_RATIO = 200
"""A file may unpack to this many times its size, or to the floor if that is more."""
UNPACKED_FLOOR_BYTES = 1 << 30
MAX_MEMBERS = 1000
"""Most members of an archive that are looked at; a scan has a dozen."""

_LOCAL_HEADER_BYTES, _LOCAL_NAME_LENGTH = 30, slice(26, 28)
_IS_UTF8 = 0x800
_EPOCH = (1980, 1, 1, 0, 0, 0)
_SPOOL_BYTES = 1 << 28
_BLOCK_BYTES = 1 << 20
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError)


class NpzArchive:
    """An open NPZ archive.

    Parameters
    ----------
    source
        The file's name, for messages.
    members
        Array name to header.
    """

    def __init__(self, file: zipfile.ZipFile, source: str, stream: IO[bytes]) -> None:
        self.source = source
        self._file = file
        self.members: Mapping[str, ArrayHeader] = MappingProxyType(_read_headers(file, source, stream))

    def read(self, name: str, max_items: int | None = None) -> NDArray[Any]:
        """Read one array, or the first items of it in the order of storage.

        Parameters
        ----------
        name
            A key of `members`.
        max_items
            Read no more than this many items; the result is then flat.

        Raises
        ------
        DataError
            When the member holds pickled objects or is damaged.
        """
        header = self.members[name]
        size = math.prod(header.shape)
        if max_items is not None:
            return next(self.blocks(name, max_items))
        (items,) = self.blocks(name, max(size, 1))
        return items.reshape(header.shape, order="F" if header.is_fortran else "C")

    def blocks(self, name: str, max_items: int) -> Iterator[NDArray[Any]]:
        """Read an array piece by piece, in the order of storage; there is one piece at least.

        Parameters
        ----------
        name
            A key of `members`.
        max_items
            Items of a piece; the last may be shorter.

        Raises
        ------
        DataError
            When the member holds pickled objects, something else than numbers or text, or is damaged.
        """
        import numpy as np

        header = self.members[name]
        if header.is_pickled or header.kind == "V":
            held = "pickled Python objects" if header.is_pickled else f"items of type {header.dtype}"
            raise DataError(f"{self.source}: {name} holds {held}, which are never read: store plain numbers")
        dtype = np.dtype(header.dtype)
        left = math.prod(header.shape)
        with damage_reported(self.source, name), self._file.open(f"{name}.npy") as stream:
            parse_header(stream)
            while True:
                count = min(left, max_items)
                content = stream.read(count * dtype.itemsize)
                if len(content) != count * dtype.itemsize:
                    raise EOFError(f"{len(content)} of {count * dtype.itemsize} bytes")
                yield np.frombuffer(content, dtype)
                left -= count
                if left == 0:
                    return


def npz_members(path: str | Path) -> Mapping[str, ArrayHeader]:
    """List the arrays of an NPZ archive, plain or compressed by bz2, from their headers alone.

    Raises
    ------
    DataFileNotFoundError
        When there is no such file.
    DataError
        When it is no NPZ archive (``NoArchiveError``), or cut short, or a header is not what its data are.
    """
    with open_npz(path) as archive:
        return archive.members


@contextmanager
def open_npz(path: str | Path) -> Iterator[NpzArchive]:
    """Open an NPZ archive; one compressed by bz2 is unpacked once, into memory or a scratch file.

    Raises
    ------
    DataFileNotFoundError
        When there is no such file.
    DataError
        When it is no NPZ archive (``NoArchiveError``), or cut short, or a header is not what its data are.
    """
    path = Path(path)
    with ExitStack() as stack:
        try:
            stream: IO[bytes] = stack.enter_context(path.open("rb"))
        except FileNotFoundError as error:
            raise DataFileNotFoundError(f"{path}: there is no such file: check its path") from error
        except OSError as error:
            raise DataError(f"{path.name}: cannot be opened: {error.strerror}") from error
        magic = stream.read(4)
        stream.seek(0)
        if magic.startswith(b"BZh"):
            stream = _unpacked(stream, path, stack)
        elif not magic.startswith(b"PK"):
            raise NoArchiveError(f"{path.name}: is no NPZ archive, neither plain nor compressed by bz2")
        with damage_reported(path.name, "the archive"):
            file = stack.enter_context(zipfile.ZipFile(stream))
        yield NpzArchive(file, path.name, stream)


def write_npz(stream: IO[bytes], members: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as an NPZ archive whose bytes follow from the arrays alone.

    ``numpy.savez`` will not do: it asks for the 64-bit format, which releases of Python mark differently.

    Parameters
    ----------
    stream
        Where it goes.
    members
        Name to array, or to a stack of which only slices can be had: it is read piece by piece.
    """
    from numpy.lib import format as npy_format

    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in sorted(members.items()):
            said = {"descr": npy_format.dtype_to_descr(array.dtype), "fortran_order": False}
            header = io.BytesIO()
            npy_format.write_array_header_1_0(header, {**said, "shape": array.shape})
            info = zipfile.ZipInfo(f"{name}.npy", date_time=_EPOCH)
            info.file_size = header.tell() + math.prod(array.shape) * array.dtype.itemsize
            with archive.open(info, "w") as member:
                member.write(header.getvalue())
                for rows in row_blocks(array):
                    member.write(rows.data)


def row_blocks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Cut an array, or a stack of which only slices can be had, into blocks of rows in C order."""
    import numpy as np

    if array.ndim == 0:
        yield np.ascontiguousarray(array)
        return
    row_bytes = math.prod(array.shape[1:]) * array.dtype.itemsize
    step = max(1, _BLOCK_BYTES // max(row_bytes, 1))
    for first in range(0, array.shape[0], step):
        yield np.ascontiguousarray(array[first : first + step])


def _unpacked(packed: IO[bytes], path: Path, stack: ExitStack) -> IO[bytes]:
    limit = max(UNPACKED_FLOOR_BYTES, MAX_UNPACKED_RATIO * path.stat().st_size)
    spool = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115 - the caller's stack closes it
    stack.enter_context(spool)
    with damage_reported(path.name, "the bz2 stream"), bz2.open(packed) as stream:
        while block := stream.read(_BLOCK_BYTES):
            if spool.tell() + len(block) > limit:
                raise DataError(f"{path.name}: unpacks to more than {limit} bytes: no scan of its size does")
            spool.write(block)
    spool.seek(0)
    return spool


@contextmanager
def damage_reported(source: str, what: str, damage: tuple[type[Exception], ...] = _DAMAGE) -> Iterator[None]:
    """Turn the errors by which a library notices a damaged file into a ``DataError``."""
    try:
        yield
    except DataError:
        raise
    except damage as error:
        said = one_line(error, 200)
        raise DataError(
            f"{source}: {what} is damaged, or the file was cut short: fetch it again ({said})"
        ) from error


def _read_headers(file: zipfile.ZipFile, source: str, stream: IO[bytes]) -> dict[str, ArrayHeader]:
    members = file.infolist()
    if len(members) > MAX_MEMBERS:
        raise DataError(f"{source}: the archive has {len(members)} members: no scan has that many")
    limit = max(UNPACKED_FLOOR_BYTES, MAX_UNPACKED_RATIO * stream.seek(0, io.SEEK_END))
    if sum(info.file_size for info in members) > limit:
        raise DataError(f"{source}: unpacks to more than {limit} bytes: no scan of its size does")
    for info in members:
        with damage_reported(source, one_line(info.filename.removesuffix(".npy"))):
            _demand_its_place(info, stream)
    headers: dict[str, ArrayHeader] = {}
    for info in members:
        name = info.filename.removesuffix(".npy")
        if name == info.filename:
            continue
        shown = one_line(name)
        if name in headers:
            raise DataError(f"{source}: {shown} is in the archive twice: write the file again")
        if info.flag_bits & 1:
            raise DataError(f"{source}: {shown} is encrypted: store it without a password")
        if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise DataError(
                f"{source}: {shown} is compressed by method {info.compress_type}, which is not read: "
                "write the file with numpy.savez or numpy.savez_compressed"
            )
        with damage_reported(source, shown), file.open(info) as member:
            if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
                raise EOFError(f"{info.file_size} bytes are stored in {info.compress_size}")
            headers[name] = read_array_header(member, info)
    return headers


def _demand_its_place(info: zipfile.ZipInfo, stream: IO[bytes]) -> None:
    """Look whether a member begins where the directory says.

    Asked of all before any is opened: a stray one overlaps another, and of these two some releases of Python
    name the other.
    """
    stream.seek(info.header_offset)
    header = stream.read(_LOCAL_HEADER_BYTES)
    name = stream.read(int.from_bytes(header[_LOCAL_NAME_LENGTH], "little"))
    encoding = "utf-8" if info.flag_bits & _IS_UTF8 else "cp437"
    if not header.startswith(b"PK\3\4") or name.decode(encoding, "replace") != info.orig_filename:
        raise zipfile.BadZipFile("it does not begin where the archive's directory says")
