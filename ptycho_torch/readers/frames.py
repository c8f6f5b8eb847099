"""The frames of an open file, read piece by piece: for a check that must see all and need not hold all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from ptycho_torch.archives import NpzArchive

__all__ = ["PIECE_FRAMES", "pieces", "stored_pieces"]

PIECE_FRAMES = 64
"""Frames that are looked at together."""


def pieces(stack: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Cut a stack (J, N, N) in memory into pieces of frames."""
    return (stack[first : first + PIECE_FRAMES] for first in range(0, len(stack), PIECE_FRAMES))


def stored_pieces(archive: NpzArchive, name: str, shape: tuple[int, int, int]) -> Iterator[NDArray[Any]]:
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
