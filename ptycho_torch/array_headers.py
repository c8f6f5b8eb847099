"""The header of an array in an NPZ archive: read strictly, and without numpy."""

from __future__ import annotations

import ast
import math
import re
import warnings
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

__all__ = ["NUMBERS", "Archive", "ArrayHeader", "one_line", "parse_header", "read_array_header"]

MAX_HEADER_BYTES = 10_000
"""Longest npy header that is read, bytes; an honest one takes 128."""

_MAGIC = b"\x93NUMPY"
_LENGTH_BYTES = {(1, 0): 2, (2, 0): 4}
_KEYS = {"descr", "fortran_order", "shape"}
_DTYPE = re.compile(r"[<>|=]?([biufcUO])([0-9]{0,9})")
_WHOLE = {1, 2, 4, 8}
NUMBERS: Mapping[str, set[int]] = {"b": {1}, "i": _WHOLE, "u": _WHOLE, "f": {2, 4, 8}, "c": {8, 16}}
"""Kind of numbers, one letter, to the bytes that they may take."""


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
        Its kind, one letter: f real, c complex, i and u integer, b boolean, U text, O object, V others.
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


class Archive(Protocol):
    """An open file of named arrays, which are read whole or piece by piece."""

    source: str
    members: Mapping[str, ArrayHeader]

    def read(self, name: str, max_items: int | None = None) -> NDArray[Any]:
        """Read one array, or no more than its first items, flat."""
        ...

    def blocks(self, name: str, max_items: int) -> Iterator[NDArray[Any]]:
        """Read an array piece by piece, each flat."""
        ...


def read_array_header(stream: IO[bytes], info: zipfile.ZipInfo) -> ArrayHeader:
    """Read the header of an archive's member, and check that its data are as long as it says.

    Raises
    ------
    ValueError
        It is no npy header.
    EOFError
        The data are longer or shorter than its shape says.
    """
    shape, is_fortran, descr, offset = parse_header(stream)
    match = _DTYPE.fullmatch(descr)
    kind = match.group(1) if match else "V"
    itemsize = int((match and match.group(2)) or 0) * (4 if kind == "U" else 1)
    if kind in NUMBERS and itemsize not in NUMBERS[kind]:
        kind = "V"
    if kind in {*NUMBERS, "U"}:
        size = math.prod(shape) * itemsize
        if size != info.file_size - offset:
            there = info.file_size - offset
            raise EOFError(f"shape {one_line(shape)} takes {one_line(size)} bytes, {there} are there")
    return ArrayHeader(shape, one_line(descr), kind, is_fortran, kind == "O", info.CRC)


def parse_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, str, int]:
    """Read an npy header: shape, whether it is in Fortran order, type, and where the items begin.

    Raises
    ------
    ValueError
        It is none, or of a kind that is not read.
    """
    start = stream.read(8)
    if len(start) != 8 or start[:6] != _MAGIC:
        raise ValueError("it is no npy array")
    version = (start[6], start[7])
    width = _LENGTH_BYTES.get(version)
    if width is None:
        raise ValueError(f"npy version {version[0]}.{version[1]} is unknown, 1.0 and 2.0 are read")
    size = int.from_bytes(stream.read(width), "little")
    if size > MAX_HEADER_BYTES:
        raise ValueError(f"its header takes {size} bytes, at most {MAX_HEADER_BYTES} are read")
    header = _literal(stream.read(size))
    if not isinstance(header, dict) or header.keys() != _KEYS:
        raise ValueError("its header is no dictionary of descr, fortran_order and shape")
    shape, is_fortran, descr = header["shape"], header["fortran_order"], header["descr"]
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"its shape is {one_line(shape)}")
    if type(is_fortran) is not bool:
        raise ValueError(f"its fortran_order is {one_line(is_fortran)}")
    return shape, is_fortran, str(descr), 8 + width + size


def _literal(text: bytes) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python will refuse one day
            return ast.literal_eval(text.decode("latin-1").strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError("its header is no Python literal") from error


def one_line(value: object, most: int = 60) -> str:
    """Give a value as it can stand in a sentence: printable, on one line, and not endless."""
    try:
        text = str(value)
    except ValueError:  # an integer with more digits than Python prints
        return "a number beyond all bounds"
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= most else f"{text[: most - 3]}..."
