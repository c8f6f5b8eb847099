"""Write a training's trace: what every batch held and what every step made of it, bit by bit."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch.optim import Optimizer

from ptycho_torch.cuda_graph import Recording
from ptycho_torch.data.dataset import Batch
from ptycho_torch.exact.digest import little_endian_bytes
from ptycho_torch.exact.norm import gradient_norm
from ptycho_torch.trace import TraceLine, pack_sums

__all__ = [
    "WEIGHTS_EVERY",
    "TraceFile",
    "batch_digest",
    "batch_loss",
    "named_state",
    "tensor_sums",
    "tensors_digest",
]

WEIGHTS_EVERY = 10
"""Optimizer steps between two digests of all weights."""
_WEIGHTS_EVERY_ON_CARD = 100
"""The same on a graphics card, whose steps are shorter than a digest."""


class TraceFile(Callback):
    """Append a line to the trace for every batch.

    Parameters
    ----------
    path
        The trace.
    is_recorded
        Whether a graphics card replays the sums of the state.
    """

    def __init__(self, path: Path, *, is_recorded: bool = True) -> None:
        self._path = path
        self._is_recorded = is_recorded
        self._gradient: float | None = None
        self._rate = math.nan
        self._state = ""
        self._names: list[str] | None = None
        self._sums: Recording[torch.Tensor] | None = None
        self._data: Future[str] | None = None
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="trace")

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Sum up the weights and the optimizer's slots with which the batch begins."""
        if batch.index.is_cuda:
            self._data = self._aside.submit(batch_digest, batch)
        if self._sums is not None:
            self._state = pack_sums(_whole_numbers(self._sums.replay()))
            return
        named = list(named_state(pl_module, trainer.optimizers[0]))
        values = [value for _, value in named]
        self._state = pack_sums(tensor_sums(values))
        # The optimizer makes its slots in its first step; from then on the names stay.
        is_settled = trainer.global_step > 1
        self._names = None if is_settled else [name for name, _ in named]
        if is_settled and batch.index.is_cuda and self._is_recorded:
            self._sums = Recording(lambda: _sums(values))

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Note the gradient before it is clipped, and the rate that the step uses."""
        self._gradient = gradient_norm(pl_module.parameters())
        self._rate = float(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Batch, batch_idx: int
    ) -> None:
        """Write the batch's line."""
        if not isinstance(outputs, dict):
            raise TypeError("a trace needs the loss of every batch")
        has_stepped, self._gradient = self._gradient, None
        data, self._data = self._data, None
        step = trainer.global_step
        stride = _WEIGHTS_EVERY_ON_CARD if batch.index.is_cuda else WEIGHTS_EVERY
        strides = has_stepped is not None and step % stride == 0
        line = TraceLine(
            step=step,
            epoch=trainer.current_epoch,
            batch=batch_idx,
            data=batch_digest(batch) if data is None else data.result(),
            loss=batch_loss(trainer, outputs).hex(),
            gradient=None if has_stepped is None else has_stepped.hex(),
            rate=None if has_stepped is None else self._rate.hex(),
            weights=tensors_digest(pl_module.state_dict().values()) if strides else None,
            tensors=_digests(trainer, pl_module) if trainer.is_last_batch else None,
            state=self._state,
            names=self._names,
        )
        with self._path.open("a", encoding="ascii") as stream:
            stream.write(line.to_json() + "\n")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """End the thread that digests batches, and free what is recorded."""
        self._aside.shutdown()
        self._sums = None


def batch_loss(trainer: Trainer, outputs: Mapping[str, Any]) -> float:
    """Return the loss of a batch, of which Lightning hands on the share in an accumulated step."""
    return float(outputs["loss"]) * trainer.accumulate_grad_batches


def batch_digest(batch: Batch) -> str:
    """Digest a batch: the numbers of its groups, and every value of them."""
    return tensors_digest((batch.index, batch.input_amplitude, batch.measured_intensity, batch.offsets_px))


def named_state(module: LightningModule, optimizer: Optimizer) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every weight, then every slot of the optimizer, by name."""
    yield from module.state_dict().items()
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    for parameter, slots in optimizer.state.items():
        for slot, value in slots.items():
            if isinstance(value, torch.Tensor):
                yield f"optimizer/{slot}/{names[id(parameter)]}", value


def _digests(trainer: Trainer, module: LightningModule) -> dict[str, str]:
    return {name: tensors_digest((value,)) for name, value in named_state(module, trainer.optimizers[0])}


def tensor_sums(tensors: Iterable[torch.Tensor]) -> list[int]:
    """Add up the bits of each tensor as whole numbers of 64 bits, on the device where it is.

    This is no digest: it does not tell one order of the numbers from another. It finds every changed bit, and
    it is read off all the state before every batch, for which a digest would take too long.
    """
    found = list(tensors)
    return _whole_numbers(_sums(found)) if found else []


def _sums(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.stack([_words(tensor).sum(dtype=torch.int64) for tensor in tensors])


def _whole_numbers(sums: torch.Tensor) -> list[int]:
    return [one % 2**64 for one in sums.tolist()]


def _words(tensor: torch.Tensor) -> torch.Tensor:
    # Channels last is how a network's weights are stored: the same order however they are, mostly uncopied.
    ordered = tensor.detach().movedim(1, -1) if tensor.ndim == 4 else tensor.detach()
    flat = ordered.contiguous().reshape(-1)
    size = flat.numel() * flat.element_size()
    return flat.view(torch.int64 if size % 8 == 0 else torch.int32 if size % 4 == 0 else torch.uint8)


def tensors_digest(tensors: Iterable[torch.Tensor]) -> str:
    """Digest tensors by their values alone, 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        digest.update(little_endian_bytes(tensor))
    return digest.hexdigest()
