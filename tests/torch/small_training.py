"""The smallest training there is: a few simulated frames, a thin network, a step or two."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ptycho_torch.payloads import TrainingPayload
from ptycho_torch.readers import Scan
from ptycho_torch.training import TrainingResult, train_with_lightning

MakePayload = Callable[..., TrainingPayload]

SMALL = {
    "n_groups": 12,
    "epochs": 2,
    "batch_size": 4,
    "n_filters_scale": 1,
    "attention": False,
    "probe_big": False,
    "validation_fraction": 0.2,
}
"""Three batches an epoch, and five frames to validate on."""

ONE_STEP = {"n_groups": 4, "epochs": 1, "validation_fraction": 0.04}
"""One batch in all, and one frame to validate on."""


def fit(payload: TrainingPayload, scan: Scan, **more: Any) -> TrainingResult:
    """Train, with the seed that all tests share."""
    return train_with_lightning(payload, scan, seed=7, **more)


def epochs_of(payload: TrainingPayload) -> list[dict[str, str]]:
    """Read the lines that a training has left in its ``metrics.csv``."""
    with (Path(payload.output_dir) / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def column(payload: TrainingPayload, name: str) -> list[float]:
    """Read one column of ``metrics.csv``, a number an epoch."""
    return [float(row[name]) for row in epochs_of(payload)]
