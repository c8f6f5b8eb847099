"""The frames of an open file, read piece by piece: for a check that must see all and need not hold all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.array_headers import Archive
from ptycho_torch.scratch import Store, in_memory

__all__ = ["PIECE_FRAMES", "Hold", "held", "hold_in", "hold_rows", "pieces", "stored_pieces"]

Hold: TypeAlias = Callable[[Iterator[NDArray[np.float32]], tuple[int, int, int]], NDArray[np.float32]]
"""Takes amplitudes piece by piece, and their shape (J, N, N), and gives what holds them, by rows."""

PIECE_FRAMES = 64
"""Frames that are looked at together."""


def hold_in(store: Store) -> Hold:
    """Return what keeps frames in an array that `store` makes."""

    def hold(amplitudes: Iterator[NDArray[np.float32]], shape: tuple[int, int, int]) -> NDArray[np.float32]:
        stack: NDArray[np.float32] = store(shape, np.float32)
        first = 0
        for piece in amplitudes:
            stack[first : first + len(piece)] = piece
            first += len(piece)
        return stack

    return hold


held = hold_in(in_memory)
"""Keeps all frames in memory."""


def hold_rows(rows: NDArray[np.int64]) -> Hold:
    """Return what keeps some frames only, by their numbers in rising order."""

    def hold(amplitudes: Iterator[NDArray[np.float32]], shape: tuple[int, int, int]) -> NDArray[np.float32]:
        kept, first = [np.empty((0, *shape[1:]), np.float32)], 0
        for piece in amplitudes:
            here = rows[(rows >= first) & (rows < first + len(piece))] - first
            kept.append(piece[here])
            first += len(piece)
        return np.concatenate(kept)

    return hold


def pieces(stack: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Cut a stack (J, N, N) in memory into pieces of frames."""
    return (stack[first : first + PIECE_FRAMES] for first in range(0, len(stack), PIECE_FRAMES))


def stored_pieces(archive: Archive, name: str, shape: tuple[int, int, int]) -> Iterator[NDArray[Any]]:
    """Read the pieces of a stack one after the other; only one that is stored frame-last is held as a whole.

    Parameters
    ----------
    archive
        The open archive.
    name
        Name of the stack in it.
    shape
        The stack's shape (J, N, N) without leading axes of length one.
    """
    sides = shape[1:]
    if archive.members[name].is_fortran:
        yield from pieces(archive.read(name).reshape(shape))
        return
    for items in archive.blocks(name, max(1, PIECE_FRAMES * sides[0] * sides[1])):
        yield items.reshape(-1, *sides)
