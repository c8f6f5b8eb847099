"""The tables of variants: the names that a configuration may choose from, and where each is implemented.

A new variant is one file, and its line here. Nothing is imported before it is looked up, so that the legal
names are known where torch is not installed.
"""

from __future__ import annotations

from ptycho_torch.registry import Registry

__all__ = ["GENERATORS", "LOGGERS", "LOSSES", "READERS", "SCHEDULERS"]

GENERATORS = Registry(
    "generator",
    {
        "cnn": "ptycho_torch.models.cnn:ConvolutionalGenerator",
    },
)
"""Networks that invert diffraction: what ``ptycho_torch.models`` says."""

LOSSES = Registry(
    "loss",
    {
        "poisson": "ptycho_torch.losses.poisson:PoissonLoss",
        "mae": "ptycho_torch.losses.mae:MAELoss",
    },
)
"""What training minimises: each a :class:`ptycho_torch.losses.Loss`."""

SCHEDULERS = Registry(
    "scheduler",
    {
        "Default": "ptycho_torch.schedulers:constant",
        "Exponential": "ptycho_torch.schedulers:exponential",
        "MultiStage": "ptycho_torch.schedulers:multi_stage",
        "WarmupCosine": "ptycho_torch.schedulers:warmup_cosine",
        "ReduceLROnPlateau": "ptycho_torch.schedulers:reduce_on_plateau",
    },
)
"""How the learning rate changes: functions that ``ptycho_torch.schedulers`` describes."""

LOGGERS = Registry(
    "logger",
    {
        "csv": "ptycho_torch.loggers:csv",
        "tensorboard": "ptycho_torch.loggers:tensorboard",
        "mlflow": "ptycho_torch.loggers:mlflow",
        "wandb": "ptycho_torch.loggers:wandb",
    },
)
"""Additional loggers: functions of the folder below which they write."""

READERS = Registry(
    "data format",
    {
        "cxi": "ptycho_torch.readers.cxi:CXI",
        "tike": "ptycho_torch.readers.tike:TIKE",
        "npz": "ptycho_torch.readers.npz:NPZ",
    },
)
"""Formats of data files: each a :class:`ptycho_torch.headers.DataFormat`."""
