"""Look into one batch of a training: a digest of every tensor in the order in which it is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch.utils.hooks import RemovableHandle

from ptycho_torch.data.dataset import Batch
from ptycho_torch.errors import PtychoError
from ptycho_torch.tracing import batch_loss, named_state, tensors_digest

__all__ = ["BatchExamination", "ExaminedError"]


class ExaminedError(PtychoError):
    """The batch that was to be looked into is done; there is no need to go on."""


class BatchExamination(Callback):
    """Digest what one batch holds, what the network makes of it, the gradients, and the state after it.

    Parameters
    ----------
    index
        Number of the batch, counted from the training's first one.
    report
        Told name to digest, in the order of computation: ``before/...`` (weights and optimizer slots),
        ``batch/...``, ``activation/...`` of every module in the order of the forward pass (``#2`` and so on
        where a batch passes in parts), ``loss``, ``gradient/...`` as accumulated so far, ``after/...``.
    """

    def __init__(self, index: int, report: Callable[[Mapping[str, str]], None]) -> None:
        self._index = index
        self._report = report
        self._seen: dict[str, str] = {}
        self._hooks: list[RemovableHandle] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Begin to look when the batch is the one."""
        if trainer.fit_loop.epoch_loop.total_batch_idx != self._index:
            return
        self._note_state("before", trainer, pl_module)
        for name in ("index", "input_amplitude", "measured_intensity", "offsets_px", "mask"):
            self._note(f"batch/{name}", getattr(batch, name))
        for name, module in pl_module.named_modules():
            if name:
                self._hooks.append(module.register_forward_hook(self._activation_hook(f"activation/{name}")))
        for name, parameter in pl_module.named_parameters():
            look = self._gradient_hook(f"gradient/{name}")
            hook = parameter.register_post_accumulate_grad_hook(look)  # type: ignore[no-untyped-call]
            self._hooks.append(hook)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: torch.Tensor) -> None:
        """Note the loss, of which this is the share in an accumulated step."""
        if trainer.fit_loop.epoch_loop.total_batch_idx == self._index:
            self._seen["loss"] = batch_loss(trainer, {"loss": loss.detach()}).hex()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Report what was seen, and leave the training."""
        if trainer.fit_loop.epoch_loop.total_batch_idx != self._index:
            return
        for hook in self._hooks:
            hook.remove()
        self._note_state("after", trainer, pl_module)
        self._report(self._seen)
        raise ExaminedError(f"batch {self._index} was looked into")

    def _note(self, name: str, value: object) -> None:
        values = value if isinstance(value, tuple | list) else (value,)
        found = [one for one in values if isinstance(one, torch.Tensor)]
        if found:
            calls = sum(seen == name or seen.startswith(f"{name}#") for seen in self._seen)
            self._seen[f"{name}#{calls + 1}" if calls else name] = tensors_digest(found)

    def _note_state(self, when: str, trainer: Trainer, module: LightningModule) -> None:
        for name, value in named_state(module, trainer.optimizers[0]):
            self._note(f"{when}/{name}", value)

    def _activation_hook(self, name: str) -> Callable[[torch.nn.Module, Any, Any], None]:
        def hook(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            self._note(name, output)

        return hook

    def _gradient_hook(self, name: str) -> Callable[[torch.Tensor], None]:
        def hook(parameter: torch.Tensor) -> None:
            self._note(name, parameter.grad)

        return hook
