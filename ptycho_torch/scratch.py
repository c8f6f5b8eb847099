"""Stacks of equal arrays that need not fit in memory: in a scratch file, read and written by rows."""

from __future__ import annotations

import math
import os
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["ScratchStack", "Store", "in_memory", "scratch_in"]

Store: TypeAlias = Callable[[tuple[int, ...], DTypeLike], NDArray[Any]]
"""Makes an array, empty, whose rows along the first axis can be set and got."""


def in_memory(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Make an array in memory."""
    return np.empty(shape, dtype)


def scratch_in(folder: Path) -> Store:
    """Return what makes stacks in unnamed files of a folder, which are gone with the process."""

    def store(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        # Only rows are asked of it, and an array of rows is what it gives.
        stack: Any = ScratchStack(shape, dtype, folder)
        return stack  # type: ignore[no-any-return]

    return store


class ScratchStack:
    """An array in an unnamed file; slices and lists of rows are read when they are asked for.

    Parameters
    ----------
    shape, dtype
        Of the whole array.
    folder
        Where the file is.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike, folder: Path) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.ndim = len(shape)
        self._row_bytes = math.prod(shape[1:]) * self.dtype.itemsize
        with tempfile.TemporaryFile(dir=folder) as file:
            self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | NDArray[Any]) -> NDArray[Any]:
        if isinstance(key, slice):
            first, last, _ = key.indices(len(self))
            return self._read(first, max(last - first, 0))
        rows = np.asarray(key)
        gathered = np.empty((rows.size, *self.shape[1:]), self.dtype)
        for place, row in enumerate(rows.ravel().tolist()):
            gathered[place] = self._read(row, 1)[0]
        return gathered.reshape(*rows.shape, *self.shape[1:])

    def __setitem__(self, key: slice, rows: NDArray[Any]) -> None:
        first, last, _ = key.indices(len(self))
        content = np.ascontiguousarray(rows, self.dtype)
        if content.shape != (last - first, *self.shape[1:]):
            raise ValueError(f"rows {first} to {last} of {self.shape} are given as {content.shape}")
        place, left = first * self._row_bytes, content.data.cast("B")
        while left:
            written = os.pwrite(self._descriptor, left, place)
            place, left = place + written, left[written:]

    def _read(self, first: int, count: int) -> NDArray[Any]:
        rows = np.empty((count, *self.shape[1:]), self.dtype)
        place, left = first * self._row_bytes, rows.data.cast("B")
        while left:
            read = os.preadv(self._descriptor, [left], place)
            if read == 0:
                raise EOFError(f"rows {first} to {first + count} of {self.shape} were never written")
            place, left = place + read, left[read:]
        return rows
