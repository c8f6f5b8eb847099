"""Arrays of an NPZ archive, read without pickle and within bounds."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from ptycho_torch.errors import DataError, DataFileNotFoundError

MAX_MEMBER_BYTES = 1 << 36
"""Largest array that is read, bytes: a header that promises more is taken for a broken file."""

_READ_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)


class Archive:
    """The arrays of one NPZ file, by name; nothing is read before it is asked for.

    Parameters
    ----------
    file
        The open zip file.
    source
        Its name, for messages.
    """

    def __init__(self, file: zipfile.ZipFile, source: str) -> None:
        self._file = file
        self.source = source
        members = [info for info in file.infolist() if info.filename.endswith(".npy")]
        self._members = {info.filename.removesuffix(".npy"): info for info in members}
        if len(self._members) != len(members):
            raise DataError(f"{source}: an array name occurs twice in the archive: write the file again")

    @property
    def names(self) -> frozenset[str]:
        """Names of the arrays, pickled ones included: those can be listed but not loaded."""
        return frozenset(self._members)

    def load(self, name: str) -> NDArray[Any]:
        """Read one array into memory, C-contiguous and in native byte order; its checksum is verified.

        Raises
        ------
        DataError
            When the array is absent, damaged, pickled or larger than its own header says.
        """
        if name not in self._members:
            raise DataError(f"{self.source}: there is no array {name!r} (there are: {', '.join(sorted(self.names))})")
        try:
            with self._file.open(self._members[name]) as stream:
                return self._read(name, stream)
        except DataError:
            raise
        except _READ_ERRORS as error:
            raise DataError(f"{self.source}: array {name!r} cannot be read, the file is damaged ({error})") from error

    def _read(self, name: str, stream: IO[bytes]) -> NDArray[Any]:
        version = npy_format.read_magic(stream)
        read_header = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
        if version not in read_header:
            raise DataError(f"{self.source}: array {name!r} has npy version {version} (legal: 1.0 and 2.0)")
        shape, is_fortran, dtype = read_header[version](stream)
        if dtype.hasobject:
            raise DataError(f"{self.source}: array {name!r} holds pickled objects, which are never loaded: store numbers")
        size = math.prod(shape) * dtype.itemsize
        held = self._members[name].file_size - stream.tell()
        if size != held or size > MAX_MEMBER_BYTES:
            raise DataError(f"{self.source}: array {name!r} of shape {shape} takes {size} bytes, the file holds {held}")
        array = np.empty(shape[::-1] if is_fortran else shape, dtype)
        _fill(array, stream)
        array = array.T if is_fortran else array
        return np.asarray(array, dtype=dtype.newbyteorder("="), order="C")


def _fill(array: NDArray[Any], stream: IO[bytes]) -> None:
    buffer = memoryview(array.reshape(-1).view(np.uint8)) if array.size else memoryview(b"")
    filled = 0
    while block := stream.read(1 << 20):
        buffer[filled : filled + len(block)] = block
        filled += len(block)
    if filled != len(buffer):
        raise EOFError(f"{filled} bytes instead of {len(buffer)}")


@contextmanager
def open_archive(file: Path | IO[bytes], source: str) -> Iterator[Archive]:
    """Open an NPZ archive for reading.

    Parameters
    ----------
    file
        Path, or an open binary stream.
    source
        Its name, for messages.

    Raises
    ------
    DataFileNotFoundError
        When there is no such file.
    DataError
        When it is no zip archive.
    """
    try:
        opened = zipfile.ZipFile(file)
    except FileNotFoundError as error:
        raise DataFileNotFoundError(f"{source}: there is no such file") from error
    except _READ_ERRORS as error:
        raise DataError(f"{source}: not an NPZ file, or a damaged one ({error})") from error
    with opened:
        yield Archive(opened, source)
