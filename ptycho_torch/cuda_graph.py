"""What a graphics card does again and again, recorded once and replayed: one call instead of a thousand.

A replay starts the very kernels of the recording, in their order, so it computes the bits that the recorded
calls would.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Generic, TypeAlias, TypeVar

import torch
from torch import Tensor

from ptycho_torch.data.dataset import Batch

__all__ = ["Pass", "RecordedPass", "Recording"]

ResultT = TypeVar("ResultT")
Pass: TypeAlias = Callable[[Batch], tuple[Tensor, Sequence[Tensor]]]
"""The loss of a batch and its gradients."""

_WARM_UPS = 2
"""Calls before the recording, in which libraries choose their algorithms and take their work space."""


class Recording(Generic[ResultT]):
    """A computation on a graphics card, recorded.

    Parameters
    ----------
    compute
        The computation. All that it reads lies at fixed places of the card's memory, and so does what it
        returns, until the next replay.
    """

    def __init__(self, compute: Callable[[], ResultT]) -> None:
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UPS):
                compute()
        here.wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        # Loaders may take page-locked memory in threads of their own meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._result = compute()

    def replay(self) -> ResultT:
        """Compute again, and return the result, in the place where it always lies."""
        self._graph.replay()
        return self._result


class RecordedPass:
    """The loss of a batch and its gradients, recorded for batches of one shape, with a mask or without.

    Parameters
    ----------
    compute
        Computes them.
    batch
        Such a batch, on the card.
    """

    def __init__(self, compute: Pass, batch: Batch) -> None:
        self._batch = dataclasses.replace(
            batch,
            input_amplitude=batch.input_amplitude.clone(),
            measured_intensity=batch.measured_intensity.clone(),
            offsets_px=batch.offsets_px.clone(),
            mask=None if batch.mask is None else batch.mask.clone(),
        )
        self._recording = Recording(lambda: compute(self._batch))

    def __call__(self, batch: Batch) -> tuple[Tensor, Sequence[Tensor]]:
        """Return the loss and the gradients; the latter are overwritten by the next call."""
        self._batch.input_amplitude.copy_(batch.input_amplitude)
        self._batch.measured_intensity.copy_(batch.measured_intensity)
        self._batch.offsets_px.copy_(batch.offsets_px)
        if self._batch.mask is not None and batch.mask is not None:
            self._batch.mask.copy_(batch.mask)
        loss, gradients = self._recording.replay()
        return loss.clone(), gradients
