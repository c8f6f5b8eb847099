"""Additional loggers, each behind an optional package; the run's own ``metrics.csv`` is always written."""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from ptycho_torch.errors import NotRunnableError
from ptycho_torch.variants import LOGGERS


def build_logger(backend: str | None, folder: Path) -> Logger | None:
    """Make the logger that was asked for; it writes below `folder`.

    Raises
    ------
    NotRunnableError
        The backend's package is not installed.
    """
    return None if backend is None else LOGGERS[backend](folder)


def csv(folder: Path) -> Logger:
    """Log to ``csv/metrics.csv`` (Lightning's layout)."""
    return CSVLogger(folder, name="csv", version="")


def tensorboard(folder: Path) -> Logger:
    """Log TensorBoard event files to ``tensorboard/``."""
    _require("tensorboard", "tensorboard")
    return TensorBoardLogger(folder, name="tensorboard", version="")


def mlflow(folder: Path) -> Logger:
    """Log to a local MLflow store, ``mlflow/mlflow.db``."""
    _require("mlflow", "mlflow")
    store = folder / "mlflow"
    store.mkdir(parents=True, exist_ok=True)
    # Read when the package is imported, which its logger does.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    return MLFlowLogger(
        experiment_name="ptychopinn",
        tracking_uri=f"sqlite:///{store.resolve()}/mlflow.db",
        artifact_location=(store / "artifacts").resolve().as_uri(),
    )


def wandb(folder: Path) -> Logger:
    """Log to ``wandb/``, offline."""
    _require("wandb", "wandb")
    folder.mkdir(parents=True, exist_ok=True)
    # Its server process inherits these; by default it reports errors, and keeps files in the home folder.
    home = str(folder / "wandb")
    os.environ |= {
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_CACHE_DIR": home,
        "WANDB_CONFIG_DIR": home,
        "WANDB_DATA_DIR": home,
        "WANDB_DISABLE_GIT": "true",
        "WANDB_SILENT": "true",
    }
    return WandbLogger(save_dir=folder, offline=True)


def silence_autologging() -> None:
    """Keep an installed mlflow from logging the run on its own account."""
    if importlib.util.find_spec("mlflow") is not None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        # The general switch leaves alone what was switched on for torch by name.
        for module in ("mlflow", "mlflow.pytorch"):
            importlib.import_module(module).autolog(disable=True)


def _require(package: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise NotRunnableError(
            f"execution.logger_backend needs the package {package!r}, which is not installed: "
            f"install the extra [{extra}] or choose another backend"
        )
