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
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any

from ptycho_torch.errors import DataError, DataFileNotFoundError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ArrayHeader", "NpzArchive", "npz_members", "open_npz", "write_npz"]

MAX_HEADER_BYTES = 10_000
"""Longest npy header that is read, bytes; an honest one takes 128."""
MAX_UNPACKED_RATIO = 200
"""A bz2 file may unpack to this many times its size, or to the floor if that is more."""
UNPACKED_FLOOR_BYTES = 1 << 30

_EPOCH = (1980, 1, 1, 0, 0, 0)
_SPOOL_BYTES = 1 << 28
_BLOCK_BYTES = 1 << 20
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError)


@dataclass(frozen=True)
class ArrayHeader:
    """What a member of an NPZ archive says it is.

    Parameters
    ----------
    shape
        Its shape.
    dtype
        numpy's name of its type with byte order: ``"<f4"``, ``"<c8"``, ``"|O"``.
    kind
        Its kind, one letter: f real, c complex, i and u integer, b boolean, U text, O object, V record.
    is_fortran
        It is stored with the first axis running fastest.
    is_pickled
        It holds Python objects and is never read.
    checksum
        CRC-32 of the stored member, its header included.
    """

    shape: tuple[int, ...]
    dtype: str
    kind: str
    is_fortran: bool
    is_pickled: bool
    checksum: int


class NpzArchive:
    """An open NPZ archive.

    Parameters
    ----------
    source
        The file's name, for messages.
    members
        Array name to header.
    """

    def __init__(self, file: zipfile.ZipFile, source: str) -> None:
        self.source = source
        self._file = file
        self.members: Mapping[str, ArrayHeader] = MappingProxyType(_read_headers(file, source))

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
        import numpy as np

        header = self.members[name]
        if header.is_pickled:
            raise DataError(
                f"{self.source}: {name} holds pickled Python objects, which are never read: "
                "store it as a plain numeric array"
            )
        size = math.prod(header.shape)
        count = size if max_items is None else min(size, max_items)
        dtype = np.dtype(header.dtype)
        with _damage_reported(self.source, name), self._file.open(f"{name}.npy") as stream:
            _parse_header(stream)
            content = stream.read(count * dtype.itemsize)
            if len(content) != count * dtype.itemsize:
                raise EOFError(f"{len(content)} of {count * dtype.itemsize} bytes")
        items = np.frombuffer(content, dtype)
        if max_items is not None:
            return items
        return items.reshape(header.shape, order="F" if header.is_fortran else "C")


def npz_members(path: str | Path) -> Mapping[str, ArrayHeader]:
    """List the arrays of an NPZ archive, plain or compressed by bz2, from their headers alone.

    Raises
    ------
    DataFileNotFoundError
        When there is no such file.
    DataError
        When it is no NPZ archive, or cut short, or a header is not what its data are.
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
        When it is no NPZ archive, or cut short, or a header is not what its data are.
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
            raise DataError(f"{path.name}: is no NPZ archive, neither plain nor compressed by bz2")
        with _damage_reported(path.name, "the archive"):
            file = stack.enter_context(zipfile.ZipFile(stream))
        yield NpzArchive(file, path.name)


def write_npz(stream: IO[bytes], members: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as an NPZ archive whose bytes follow from the arrays alone.

    ``numpy.savez`` will not do: it asks for the 64-bit format, which releases of Python mark differently.

    Parameters
    ----------
    stream
        Where it goes.
    members
        Name to array.
    """
    import numpy as np
    from numpy.lib import format as npy_format

    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in sorted(members.items()):
            content = io.BytesIO()
            npy_format.write_array(content, np.asarray(array, order="C"), version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", date_time=_EPOCH), content.getvalue())


def _unpacked(packed: IO[bytes], path: Path, stack: ExitStack) -> IO[bytes]:
    limit = max(UNPACKED_FLOOR_BYTES, MAX_UNPACKED_RATIO * path.stat().st_size)
    spool = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115 - the caller's stack closes it
    stack.enter_context(spool)
    with _damage_reported(path.name, "the bz2 stream"), bz2.open(packed) as stream:
        while block := stream.read(_BLOCK_BYTES):
            if spool.tell() + len(block) > limit:
                raise DataError(f"{path.name}: unpacks to more than {limit} bytes: no scan of its size does")
            spool.write(block)
    spool.seek(0)
    return spool


@contextmanager
def _damage_reported(source: str, what: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except _DAMAGE as error:
        raise DataError(
            f"{source}: {what} is damaged, or the file was cut short: fetch it again ({error})"
        ) from error


def _read_headers(file: zipfile.ZipFile, source: str) -> dict[str, ArrayHeader]:
    headers: dict[str, ArrayHeader] = {}
    for info in file.infolist():
        name = info.filename.removesuffix(".npy")
        if name == info.filename:
            continue
        if name in headers:
            raise DataError(f"{source}: {name} is in the archive twice: write the file again")
        with _damage_reported(source, name), file.open(info) as stream:
            shape, is_fortran, dtype, offset = _parse_header(stream)
            size = math.prod(shape) * dtype.itemsize
            if not dtype.hasobject and size != info.file_size - offset:
                raise EOFError(f"shape {shape} takes {size} bytes, {info.file_size - offset} are there")
        headers[name] = ArrayHeader(shape, dtype.str, dtype.kind, is_fortran, dtype.hasobject, info.CRC)
    return headers


def _parse_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    from numpy.lib import format as npy

    start = stream.read(8)
    version = npy.read_magic(io.BytesIO(start))
    width = {(1, 0): 2, (2, 0): 4}.get(version)
    if width is None:
        raise ValueError(f"npy version {version[0]}.{version[1]} is unknown, 1.0 and 2.0 are read")
    length = stream.read(width)
    size = int.from_bytes(length, "little")
    if size > MAX_HEADER_BYTES:
        raise ValueError(f"its header takes {size} bytes, at most {MAX_HEADER_BYTES} are read")
    text = io.BytesIO(length + stream.read(size))
    parse = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, is_fortran, dtype = parse(text, max_header_size=MAX_HEADER_BYTES)
    if any(isinstance(side, bool) or side < 0 for side in shape):
        raise ValueError(f"its shape is {shape}")
    return shape, is_fortran, dtype, 8 + width + size
