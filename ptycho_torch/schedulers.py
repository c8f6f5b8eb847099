"""How the learning rate changes.

Each entry takes an optimizer, the training configuration, the optimizer steps of an epoch and the monitored
metric, and returns what Lightning needs, or None for a constant rate.
"""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, ReduceLROnPlateau

from ptycho_torch.config import TrainingConfig
from ptycho_torch.variants import SCHEDULERS

__all__ = ["SCHEDULERS", "constant", "exponential", "multi_stage", "reduce_on_plateau", "warmup_cosine"]


def constant(optimizer: Optimizer, training: TrainingConfig, steps_per_epoch: int, monitor: str) -> None:
    """Keep the learning rate."""


def exponential(
    optimizer: Optimizer, training: TrainingConfig, steps_per_epoch: int, monitor: str
) -> dict[str, Any]:
    """Multiply the rate by ``exponential_gamma`` after every epoch."""
    return {"scheduler": ExponentialLR(optimizer, gamma=training.exponential_gamma), "interval": "epoch"}


def multi_stage(
    optimizer: Optimizer, training: TrainingConfig, steps_per_epoch: int, monitor: str
) -> dict[str, Any]:
    """Hold the rate at each of ``stage_factors`` in turn, changing at ``stage_epochs``."""
    factors = training.stage_factors
    changes = training.stage_epochs
    if changes is None:
        changes = tuple(training.epochs * stage // len(factors) for stage in range(1, len(factors)))

    def factor(epoch: int) -> float:
        return factors[sum(epoch >= change for change in changes)]

    return {"scheduler": LambdaLR(optimizer, factor), "interval": "epoch"}


def warmup_cosine(
    optimizer: Optimizer, training: TrainingConfig, steps_per_epoch: int, monitor: str
) -> dict[str, Any]:
    """Raise the rate linearly over the warm-up, then lower it along a cosine, step by step.

    The last step has ``lr_min_ratio`` of the full rate.
    """
    steps = training.epochs * steps_per_epoch
    epochs = training.lr_warmup_epochs or training.lr_warmup_fraction * training.epochs
    warmup = min(round(epochs * steps_per_epoch), steps - 1)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min((step - warmup) / max(steps - 1 - warmup, 1), 1.0)
        return training.lr_min_ratio + (1 - training.lr_min_ratio) * (1 + math.cos(math.pi * progress)) / 2

    return {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}


def reduce_on_plateau(
    optimizer: Optimizer, training: TrainingConfig, steps_per_epoch: int, monitor: str
) -> dict[str, Any]:
    """Multiply the rate by ``plateau_factor`` when the monitored metric has stopped falling."""
    scheduler = ReduceLROnPlateau(
        optimizer,
        factor=training.plateau_factor,
        patience=training.plateau_patience,
        min_lr=training.plateau_min_lr,
    )
    return {"scheduler": scheduler, "interval": "epoch", "monitor": monitor}
