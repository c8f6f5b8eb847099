"""The Lightning module: predict patches, run the physics, compare with the measurement."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor
from torch.optim import Adam, Optimizer

from ptycho_torch.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_torch.cuda_graph import Pass, RecordedPass
from ptycho_torch.data.dataset import Batch, Scaling
from ptycho_torch.differentiated import Differentiated, sum_of_losses
from ptycho_torch.errors import DataError
from ptycho_torch.exact.norm import gradient_norm
from ptycho_torch.losses import LOSSES, Loss
from ptycho_torch.models import GENERATORS
from ptycho_torch.physics.forward import forward_model_of, window_px
from ptycho_torch.schedulers import SCHEDULERS
from ptycho_torch.side_by_side import SideBySide
from ptycho_torch.total_variation import total_variation

__all__ = ["PtychoModule"]

PIXELS_AT_ONCE = 8 * 64 * 64
"""Pixels of the diffraction patterns for which a thread holds the network's intermediate results."""


@dataclasses.dataclass
class _Mean:
    total: float = 0.0
    samples: int = 0

    def add(self, value: float, samples: int) -> None:
        self.total += value * samples
        self.samples += samples

    @property
    def value(self) -> float:
        return self.total / self.samples


class PtychoModule(pl.LightningModule):
    """A generator trained through the forward model, without labels.

    Parameters
    ----------
    model, training, execution
        The resolved configurations.
    probe
        Probe modes (M, N, N), complex.
    scaling
        Frozen scales of the training data.
    max_offset_px
        Largest absolute offset of a pattern from its group's mean in training and validation groups,
        pixels. Needed for gridsize 2, where it sets the canvas on which patches are merged.

    Raises
    ------
    DataError
        If the probe does not fit the model or its mask, or `max_offset_px` is missing or too large to merge
        patches.
    """

    def __init__(
        self,
        *,
        model: ModelConfig,
        training: TrainingConfig,
        execution: PyTorchExecutionConfig,
        probe: np.ndarray,
        scaling: Scaling,
        max_offset_px: float | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.training_config = training
        self.execution = execution
        self.generator = GENERATORS[model.generator](model).to(memory_format=torch.channels_last)
        self.forward_model = forward_model_of(model, probe, scaling.intensity_scale, max_offset_px)
        self.loss: Loss = LOSSES[training.loss](mean_counts=scaling.mean_counts)
        self._description = {
            "model": dataclasses.asdict(model),
            "training": dataclasses.asdict(training),
            "scaling": dataclasses.asdict(scaling),
            "max_offset_px": max_offset_px,
        }
        self._scaling = scaling
        self._epoch_loss = _Mean()
        self.is_recorded = True
        """Whether a graphics card replays its steps; not while somebody looks into one."""
        self.side_by_side = SideBySide()
        """Who computes the portions of a batch, on a processor."""
        self._passes: dict[tuple[torch.Size, bool], RecordedPass] = {}

    @property
    def scaling(self) -> Scaling:
        """The scales of the training data; a trained intensity scale is the one that was learnt."""
        if not self.model.intensity_scale_trainable:
            return self._scaling
        learnt = float(self.forward_model.counts_per_unit.detach())
        return dataclasses.replace(self._scaling, intensity_scale=learnt)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put into a checkpoint, in plain values, what describes the module, and the epoch's loss so far."""
        checkpoint["hyper_parameters"] = self._description
        checkpoint["epoch_loss"] = dataclasses.asdict(self._epoch_loss)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the epoch's mean loss where the checkpoint stands."""
        self._epoch_loss = _Mean(**checkpoint["epoch_loss"])

    def predict_patches(self, input_amplitude: Tensor) -> Tensor:
        """Return object patches [B, C', N, N] of scaled diffraction amplitudes [B, C, N, N].

        C' is C, or 1 where ``object_big`` is off and a group shares one patch.
        """
        patches: Tensor = self.generator(input_amplitude)
        return patches

    def predict_patches_in_portions(self, input_amplitude: Tensor) -> Tensor:
        """Return :meth:`predict_patches` without gradients, computed as :meth:`batch_loss_in_parts` does."""
        portions = [input_amplitude[portion] for portion in _portions(input_amplitude)]
        predict = torch.inference_mode()(self.predict_patches)
        return torch.cat(list(self.side_by_side([functools.partial(predict, some) for some in portions])))

    def forward(self, input_amplitude: Tensor) -> Tensor:
        """Return :meth:`predict_patches`."""
        return self.predict_patches(input_amplitude)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch and count it in the epoch's mean."""
        loss = self.batch_loss_in_parts(batch)
        self._epoch_loss.add(float(loss.detach()), len(batch.input_amplitude))
        return loss

    def on_fit_start(self) -> None:
        """Record anew what a card replays: a recording holds places of memory, which may be others now."""
        self._passes.clear()

    def on_fit_end(self) -> None:
        """Free what a card has recorded."""
        self._passes.clear()

    def on_train_batch_end(self, outputs: STEP_OUTPUT, batch: Any, batch_idx: int) -> None:
        """Log an epoch's mean ``train_loss``, and a trained ``intensity_scale``, when its last batch ends."""
        # Lightning's own mean is not saved with a checkpoint, so a resumed epoch would have another.
        if self.trainer.is_last_batch:
            self.log("train_loss", self._epoch_loss.value, on_step=False, on_epoch=True, batch_size=1)
            self._epoch_loss = _Mean()
            if self.model.intensity_scale_trainable:
                scale = self.scaling.intensity_scale
                self.log("intensity_scale", scale, on_step=False, on_epoch=True, batch_size=1)

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch and log its mean over the validation samples as ``val_loss``."""
        loss = self.batch_loss_in_parts(batch)
        samples = len(batch.input_amplitude)
        self.log("val_loss", loss, on_step=False, on_epoch=True, batch_size=samples)
        return loss

    def batch_loss(self, batch: Batch) -> Tensor:
        """Return the loss of one batch, with the total variation of its patches where that has a weight."""
        patches = self.predict_patches(batch.input_amplitude)
        loss = self.loss(self.forward_model(patches, batch.offsets_px), batch.measured_intensity, batch.mask)
        if self.training_config.tv_weight == 0:
            return loss
        weight = self.training_config.tv_weight / self.model.amplitude_level
        return loss + weight * total_variation(patches, window_px(self.model))

    def batch_loss_in_parts(self, batch: Batch) -> Tensor:
        """Return the loss of one batch, as the device computes it best.

        On a processor the groups pass through the network a few at a time, by portions that torch's threads
        share: value and gradients are those of :meth:`batch_loss` but for rounding, the memory of a thread is
        that of the few. A graphics card takes the batch at once, and replays what it has recorded of a batch
        of that shape.
        """
        portions = _portions(batch.input_amplitude)
        if len(portions) == 1 and not (batch.input_amplitude.is_cuda and torch.is_grad_enabled()):
            return self.batch_loss(batch)
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        compute: Callable[[], tuple[Tensor, Sequence[Tensor]]]
        if batch.input_amplitude.is_cuda:
            compute = functools.partial(self._pass(batch, parameters), batch)
        else:
            groups = len(batch.input_amplitude)
            shares = [
                functools.partial(self._share_of_loss, batch.portion(portion.start, portion.stop), groups)
                for portion in portions
            ]
            if not torch.is_grad_enabled():
                return torch.stack(list(self.side_by_side(list(map(torch.inference_mode(), shares))))).sum()
            compute = functools.partial(sum_of_losses, shares, parameters, self.side_by_side)
        loss: Tensor = Differentiated.apply(compute, *parameters)  # type: ignore[no-untyped-call]
        return loss

    def _pass(self, batch: Batch, parameters: Sequence[Tensor]) -> Pass:
        def compute(batch: Batch) -> tuple[Tensor, Sequence[Tensor]]:
            return sum_of_losses([functools.partial(self.batch_loss, batch)], parameters)

        if not self.is_recorded:
            return compute
        kind = (batch.input_amplitude.shape, batch.mask is None)
        if kind not in self._passes:
            self._passes[kind] = RecordedPass(compute, batch)
        return self._passes[kind]

    def _share_of_loss(self, portion: Batch, groups: int) -> Tensor:
        return self.batch_loss(portion) * (len(portion.input_amplitude) / groups)

    def configure_optimizers(self) -> Any:
        """Return fused Adam, whose roots are the same on every CPU, and the scheduler that was asked for."""
        optimizer = Adam(self.parameters(), lr=self.execution.learning_rate, fused=True)
        schedule = SCHEDULERS[self.execution.scheduler](
            optimizer, self.training_config, self.steps_per_epoch, self.execution.checkpoint_monitor_metric
        )
        return optimizer if schedule is None else {"optimizer": optimizer, "lr_scheduler": schedule}

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimizer steps in one epoch."""
        training, execution = self.training_config, self.execution
        batches = math.ceil(training.n_groups / (training.batch_size * execution.n_devices))
        return math.ceil(batches / execution.accum_steps)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Scale all gradients so that their common norm is at most `gradient_clip_val`."""
        if gradient_clip_val is None:
            return
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        norm = gradient_norm(self.parameters())
        if norm > gradient_clip_val:
            for gradient in gradients:
                gradient.mul_(gradient_clip_val / norm)

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Take the network's weights, not what belongs to a scan, from another module's ``state_dict``."""
        own = {name: tensor for name, tensor in weights.items() if name.startswith("generator.")}
        try:
            self.generator.load_state_dict({name.partition(".")[2]: tensor for name, tensor in own.items()})
        except RuntimeError as error:
            raise DataError(
                "the checkpoint that init_from names holds another network than the same settings give "
                f"in this version: {' '.join(str(error).split())}"
            ) from error

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Mapping[str, Any], execution: PyTorchExecutionConfig
    ) -> PtychoModule:
        """Rebuild a trained module from a loaded checkpoint file.

        Parameters
        ----------
        checkpoint
            What ``torch.load(path, weights_only=True)`` returned.
        execution
            How the module will be executed now.
        """
        stored = checkpoint["hyper_parameters"]
        state = checkpoint["state_dict"]
        unit = state["forward_model.probe_unit"]
        module = cls(
            model=ModelConfig(**stored["model"]),
            training=TrainingConfig(**stored["training"]),
            execution=execution,
            probe=(torch.view_as_complex(state["forward_model.probe_parts"]) * unit).numpy(),
            scaling=Scaling(**stored["scaling"]),
            max_offset_px=stored["max_offset_px"],
        )
        module.load_state_dict(state)
        return module


def _portions(input_amplitude: Tensor) -> list[slice]:
    groups = len(input_amplitude)
    if input_amplitude.device.type != "cpu":
        return [slice(0, groups)]
    at_once = max(1, PIXELS_AT_ONCE // math.prod(input_amplitude.shape[1:]))
    return [slice(first, first + at_once) for first in range(0, groups, at_once)]
