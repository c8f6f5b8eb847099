"""Additional loggers, each behind an optional package; the run's own ``metrics.csv`` is always written."""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path
from typing import cast

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

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
    """Log to ``csv/metrics.csv`` (Lightning's layout); a training that continues appends to it."""
    return _ContinuingCSVLogger(folder, name="csv", version="")


class _ContinuingWriter(ExperimentWriter):
    # Lightning's own removes the file that it finds.
    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if path.is_file():
            self.metrics_keys = path.read_text(encoding="utf-8").split("\n", 1)[0].strip().split(",")


class _ContinuingCSVLogger(CSVLogger):
    @property
    def experiment(self) -> ExperimentWriter:
        if self._experiment is None:
            self._experiment = _ContinuingWriter(self.log_dir)
        return cast("ExperimentWriter", self._experiment)


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
