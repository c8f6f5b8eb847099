"""Compute several things at a time, each in a thread of its own with its share of torch's threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["SideBySide"]

_Result = TypeVar("_Result")


class SideBySide:
    """Computes functions side by side and yields their results in the order of the functions.

    With T threads of torch, ``min(T, number of functions)`` are computed at a time, each with an equal share
    of the T (rounded down). What a function computes thus depends on T and on how many they are, never on
    which of them is done first.

    Parameters
    ----------
    in_turns
        Compute one after the other, to the same bits: for somebody who looks on.
    """

    def __init__(self, *, in_turns: bool = False) -> None:
        self._in_turns = in_turns
        self._pools: dict[tuple[int, int], ThreadPoolExecutor] = {}

    def __call__(self, functions: Sequence[Callable[[], _Result]]) -> Iterator[_Result]:
        """Yield the result of every function, which must set torch's modes (gradients or none) itself."""
        at_once = min(torch.get_num_threads(), len(functions))
        if at_once <= 1:
            return (function() for function in functions)
        return self._pool(at_once).map(_call, functions)

    def _pool(self, at_once: int) -> ThreadPoolExecutor:
        share = torch.get_num_threads() // at_once
        if (at_once, share) not in self._pools:
            workers = 1 if self._in_turns else at_once
            self._pools[at_once, share] = ThreadPoolExecutor(
                workers, "portion", initializer=_take_threads, initargs=(share,)
            )
        return self._pools[at_once, share]


def _take_threads(share: int) -> None:
    # Torch keeps the number by thread, so that of the caller stays. A thread that it does not know yet takes
    # the number that any thread set last: asking first makes it known.
    torch.get_num_threads()
    torch.set_num_threads(share)


def _call(function: Callable[[], _Result]) -> _Result:
    return function()
