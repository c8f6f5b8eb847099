"""What is fed with mutilated input: each function takes bytes and lets through nothing but our own refusals.

Whoever feeds them, hypothesis in the tests or atheris in ``make fuzz``: an exception that is no refusal, or a
refusal that is no proper sentence, is a finding.
"""

from __future__ import annotations

import io
import os
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from harness.errors import SpecError
from harness.inventory import Inventory
from harness.resolve import resolve
from harness.spec import read_spec
from ptycho_torch.errors import DataError
from ptycho_torch.headers import read_header
from ptycho_torch.readers import read_scan

__all__ = ["TARGETS", "FindingError", "archive_from", "demand"]

_HERE = Inventory("local", "x86_64", "a processor", frozenset({"avx2", "fma"}), 2)
_NAMES = ("diffraction", "diff3d", "xcoords", "ycoords", "probeGuess", "objectGuess", "mask", "units")
_MORE_NAMES = ("positions", "data", "scan", "probe", "_metadata", "../diffraction", "a\nb", "")
_TYPES = ("<f4", "<f8", ">f4", "<f2", "<c8", "<c16", ">c8", "|u1", "<u2", "<i4", "<i8", "|b1", "<U5", "|O")
_MORE_TYPES = ("<f16", "|S3", "<M8[s]", "|V4", "f4", "<f3", "<U0", "|i0", "(2,)<f4", "O")


class FindingError(Exception):
    """Input was refused, but not as a user should be told."""


def demand(is_met: bool, what: str, sentence: str) -> None:
    """Make a finding of a refusal that has not what it must have."""
    if not is_met:
        raise FindingError(f"a refusal must have {what}: {sentence!r}")


def read_yaml(data: bytes, folder: Path) -> None:
    """Read a spec, and resolve it."""
    path = folder / f"fuzz-{os.getpid()}.yaml"
    path.write_bytes(data)
    try:
        resolve(read_spec(path), _HERE)
    except SpecError as error:
        for problem in error.problems:
            demand(problem.sentence != "" and "\n" not in problem.sentence, "one sentence", problem.sentence)
            demand(problem.place is not None, "a place", problem.sentence)
        str(error).encode("utf-8")


def read_raw_scan(data: bytes, folder: Path) -> None:
    """Read bytes as a scan file."""
    path = folder / f"fuzz-{os.getpid()}.npz"
    path.write_bytes(data)
    try:
        header = read_header(path)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read_scan(path, positions=header.positions or "ptychopinn", units=header.units)
    except DataError as error:
        for sentence in str(error).split("\n"):
            demand(sentence.startswith(path.name), "the file's name in front", sentence)
            demand(sentence.isprintable() and len(sentence) < 1000, "a short, printable sentence", sentence)


def read_built_scan(data: bytes, folder: Path) -> None:
    """Read the archive that bytes describe: sound as a zip file, so that what is inside is looked at."""
    read_raw_scan(archive_from(data), folder)


def archive_from(data: bytes) -> bytes:
    """Build an archive in which any member may have any header and content.

    Parameters
    ----------
    data
        Choices, one byte each; where they end, every further choice is zero.
    """
    stream, choices = io.BytesIO(), _Choices(data)
    with zipfile.ZipFile(stream, "w") as archive:
        legal = _legal_members()
        for name in legal:
            if choices.among(8) == 7:
                continue
            content = _altered(legal[name], choices) if choices.among(2) else legal[name]
            _add(archive, name, content, choices)
        for _ in range(choices.among(4)):
            name = (*_NAMES, *_MORE_NAMES)[choices.among(16)]
            _add(archive, name, _altered(legal["xcoords"], choices), choices)
    return stream.getvalue()


class _Choices:
    def __init__(self, data: bytes) -> None:
        self._left = iter(data)

    def among(self, number: int) -> int:
        return next(self._left, 0) % number

    def text(self, length: int) -> bytes:
        return bytes(next(self._left, 32) for _ in range(length))


def _add(archive: zipfile.ZipFile, name: str, content: bytes, choices: _Choices) -> None:
    info = zipfile.ZipInfo(f"{name}.npy")
    info.compress_type = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[choices.among(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name that is there already
        archive.writestr(info, content)


def _legal_members() -> dict[str, bytes]:
    counts = (np.arange(4 * 8 * 8) % 5).reshape(4, 8, 8)
    arrays: Mapping[str, np.ndarray] = {
        "diffraction": np.sqrt(counts).astype(np.float32),
        "xcoords": np.array([4.0, 5.0, 6.0, 7.0]),
        "ycoords": np.array([4.0, 6.0, 5.0, 7.0]),
        "probeGuess": np.ones((8, 8), np.complex64),
    }
    members = {}
    for name, array in arrays.items():
        stream = io.BytesIO()
        np.save(stream, array)
        members[name] = stream.getvalue()
    return members


def _altered(content: bytes, choices: _Choices) -> bytes:
    way = choices.among(4)
    if way == 0:
        place = choices.among(128) % len(content)
        return content[:place] + choices.text(choices.among(6)) + content[place + choices.among(6) :]
    if way == 1:
        shape = tuple(choices.among(9) for _ in range(choices.among(5)))
        descr = (*_TYPES, *_MORE_TYPES)[choices.among(24)]
        header = f"{{'descr': '{descr}', 'fortran_order': {bool(choices.among(2))}, 'shape': {shape}, }}"
        itemsize = int("".join(filter(str.isdigit, descr))[:2] or 0) * (4 if "U" in descr else 1)
        size = int(np.prod(shape)) * itemsize if choices.among(8) else choices.among(256)
        body = (choices.text(8) * (size // 8 + 1))[:size]
        return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + body
    if way == 2:
        header = choices.text(choices.among(256))
        return b"\x93NUMPY" + bytes([1 + choices.among(3), 0]) + len(header).to_bytes(2, "little") + header
    return content[:128] + choices.text(8) * ((len(content) - 128) // 8)


TARGETS: Mapping[str, Callable[[bytes, Path], None]] = {
    "yaml": read_yaml,
    "npz": read_raw_scan,
    "arrays": read_built_scan,
}
"""Name of a reader to the function that feeds it."""
