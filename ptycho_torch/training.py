"""The one training loop: a payload and its scans go in, a trained network and its checkpoints come out."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator, XLAAccelerator
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor

from ptycho_torch.callbacks import (
    BestCheckpoints,
    LastCheckpoint,
    MetricsFile,
    Progress,
    Reporter,
    metrics_of_epoch,
)
from ptycho_torch.config import PyTorchExecutionConfig
from ptycho_torch.config_factory import TrainingPayload
from ptycho_torch.data.datamodule import PtychoDataModule
from ptycho_torch.errors import NotRunnableError
from ptycho_torch.exact.checkpoint_io import DurableCheckpointIO
from ptycho_torch.exact.torch_seeding import seed_everything
from ptycho_torch.examination import BatchExamination
from ptycho_torch.loggers import build_logger, silence_autologging
from ptycho_torch.module import PtychoModule
from ptycho_torch.readers.scan import Scan
from ptycho_torch.resume import (
    DEFAULT_CADENCE,
    Cadence,
    Continuation,
    ResumePoints,
    roll_back,
)
from ptycho_torch.side_by_side import SideBySide
from ptycho_torch.trace import TRACE
from ptycho_torch.tracing import TraceFile

LAST_CHECKPOINT = "last.ckpt"

_ACCELERATORS = {
    "gpu": (CUDAAccelerator, MPSAccelerator),
    "cuda": (CUDAAccelerator,),
    "mps": (MPSAccelerator,),
    "tpu": (XLAAccelerator,),
}
_KNOWN_WARNINGS = (
    "GPU available but not used.*",  # the spec says where a run trains
    ".*does not have many workers.*",
    ".*your dataloader is not resumable.*",  # the keyed sampler resumes
    "Checkpoint directory .* exists and is not empty.*",
)
_SHARDING_STRATEGIES = ("fsdp", "deepspeed")


@dataclass(frozen=True)
class KeptCheckpoint:
    """A checkpoint that the run left behind.

    Parameters
    ----------
    path
        Where it is.
    metric
        The monitored metric's value when it was saved; None for the last one.
    """

    path: Path
    metric: float | None


@dataclass(frozen=True)
class TrainingResult:
    """What a training leaves: the network, the data it saw, its checkpoints and its last metrics."""

    module: PtychoModule
    datamodule: PtychoDataModule
    trainer: Trainer
    checkpoints: tuple[KeptCheckpoint, ...]
    metrics: dict[str, float]
    epochs: int
    steps: int
    seconds: float


def train_with_lightning(
    payload: TrainingPayload,
    train: Scan,
    test: Scan | None = None,
    *,
    seed: int = 42,
    report: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    continuation: Continuation | None = None,
    weights: Mapping[str, Tensor] | None = None,
    cadence: Cadence = DEFAULT_CADENCE,
    examine: tuple[int, Callable[[Mapping[str, str]], None]] | None = None,
    is_recorded: bool = True,
) -> TrainingResult:
    """Train the network that `payload` describes.

    Parameters
    ----------
    payload
        The resolved configurations. Its ``execution_config`` decides how the run executes, its
        ``output_dir`` is where ``checkpoints/``, ``logs/`` and ``metrics.csv`` go.
    train, test
        The frames to learn from, and those to validate on; without `test` a fraction of the training
        frames is held out.
    seed
        The one seed from which weights, order, grouping and split follow.
    report, should_stop
        Told about progress, and asked after every batch whether to stop.
    continuation
        The state in the output folder to continue from, to the bits that the training would have had
        unbroken; None starts anew.
    weights
        Weights of another training's module, of which the network starts from its own; probe and scales
        stay those of `train`. A training that is continued has no use for them.
    cadence
        How often such a state is saved. The caller removes the states when it needs them no more.
    examine
        Number of a batch to look into, and who is told its tensors' digests. The training ends after it.
    is_recorded
        Whether a graphics card replays a recorded step; with `examine` it never does.

    Raises
    ------
    NotRunnableError
        The device, the strategy, the number of devices or the logger that was asked for cannot be had here.
    ExaminedError
        The batch to look into is done.
    StopRequestedError
        `should_stop` said so; the state to continue from is saved.
    TrainingDivergedError
        The loss became infinite or not a number.
    """
    _refuse_what_cannot_run(payload.execution_config)
    output = Path(payload.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    seed_everything(seed)
    datamodule = PtychoDataModule(payload, train, test, seed=seed)
    datamodule.setup("fit")
    module = PtychoModule(
        model=payload.model,
        training=payload.training,
        execution=payload.execution_config,
        probe=train.probe,
        scaling=datamodule.scaling,
        max_offset_px=datamodule.max_offset_px if payload.model.gridsize > 1 else None,
    )
    if weights is not None and continuation is None:
        module.start_from(weights)
    roll_back(output, continuation)
    if continuation is not None:
        datamodule.set_position(continuation.epoch, continuation.batch)
    best, callbacks = _callbacks(payload, output, report, should_stop, cadence, continuation)
    module.is_recorded = is_recorded and examine is None  # a replay calls no hook
    module.side_by_side = SideBySide(in_turns=examine is not None)
    callbacks.insert(1, TraceFile(output / TRACE, is_recorded=module.is_recorded))
    if examine is not None:
        callbacks.append(BatchExamination(*examine))  # after the trace, which then holds that batch too
    with warnings.catch_warnings():
        for known in _KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", message=known)
        trainer = build_trainer(
            payload.execution_config,
            payload.training.epochs,
            output,
            callbacks,
            validates=len(datamodule.groups[1]) > 0,
            validate_every=payload.training.validate_every,
        )
        started = time.monotonic()
        trainer.fit(module, datamodule=datamodule, ckpt_path=continuation.path if continuation else None)
    seconds = time.monotonic() - started
    return TrainingResult(
        module=module,
        datamodule=datamodule,
        trainer=trainer,
        checkpoints=_kept(best, output / "checkpoints" / LAST_CHECKPOINT),
        metrics=metrics_of_epoch(trainer, trainer.current_epoch),
        epochs=trainer.current_epoch,
        steps=trainer.global_step,
        seconds=seconds,
    )


def build_trainer(
    execution: PyTorchExecutionConfig,
    epochs: int,
    output: Path,
    callbacks: list[Callback],
    *,
    validates: bool = True,
    validate_every: int = 1,
) -> Trainer:
    """Make the Trainer that `execution` asks for.

    ``strategy='auto'`` is one device's own strategy, and ``ddp`` above one device. Without data to validate
    on the Trainer is told not to look for any; else it looks at them every `validate_every` epochs.
    """
    if execution.disable_mlflow:
        silence_autologging()
    strategy = execution.strategy
    if strategy == "auto" and execution.n_devices > 1:
        strategy = "ddp"
    return Trainer(
        accelerator=execution.accelerator,
        strategy=strategy,
        devices=execution.n_devices,
        deterministic=execution.deterministic,
        benchmark=False,
        max_epochs=epochs,
        gradient_clip_val=execution.gradient_clip_val,
        accumulate_grad_batches=execution.accum_steps,
        enable_checkpointing=execution.enable_checkpointing,
        enable_progress_bar=execution.enable_progress_bar,
        enable_model_summary=False,
        logger=build_logger(execution.logger_backend, output / "logs") or False,
        callbacks=callbacks,
        # Named, so that none is looked for: where mpi4py is installed, looking alone initialises MPI.
        plugins=[DurableCheckpointIO(), LightningEnvironment()],
        default_root_dir=output,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        limit_val_batches=None if validates else 0,
        check_val_every_n_epoch=validate_every,
        use_distributed_sampler=False,
    )


def _refuse_what_cannot_run(execution: PyTorchExecutionConfig) -> None:
    problems = []
    candidates = _ACCELERATORS.get(execution.accelerator, ())
    if candidates and not any(candidate.is_available() for candidate in candidates):
        problems.append(f"execution.accelerator is {execution.accelerator!r}, which is not here: use cpu")
    if execution.strategy in _SHARDING_STRATEGIES:
        problems.append(
            f"execution.strategy is {execution.strategy!r}, which shards weights over devices, but "
            "checkpoints here hold whole weights: use auto or ddp"
        )
    if execution.n_devices > 1:
        problems.append(
            f"execution.n_devices is {execution.n_devices}, but samples are not divided among devices: "
            "set it to 1"
        )
    if problems:
        raise NotRunnableError("\n".join(problems))


def _callbacks(
    payload: TrainingPayload,
    output: Path,
    report: Callable[[Progress], None],
    should_stop: Callable[[], bool],
    cadence: Cadence,
    continuation: Continuation | None,
) -> tuple[BestCheckpoints | None, list[Callback]]:
    execution = payload.execution_config
    monitor = execution.checkpoint_monitor_metric
    folder = output / "checkpoints"
    points = ResumePoints(folder, cadence, continuation)

    def save(trainer: Trainer) -> None:
        if execution.enable_checkpointing:
            points.save(trainer)
            trainer.save_checkpoint(folder / LAST_CHECKPOINT, weights_only=False)

    callbacks: list[Callback] = [
        MetricsFile(output / "metrics.csv"),
        EarlyStopping(
            monitor,
            patience=execution.early_stop_patience,
            mode="min",
            check_finite=False,
            check_on_train_epoch_end=True,  # also where not every epoch is validated
        ),
        Reporter(report, should_stop, save),
    ]
    if not execution.enable_checkpointing:
        return None, callbacks
    best = BestCheckpoints(folder, monitor=monitor, save_top_k=execution.checkpoint_save_top_k)
    return best, [*callbacks, LastCheckpoint(folder), best, points]


def _kept(best: BestCheckpoints | None, last: Path) -> tuple[KeptCheckpoint, ...]:
    if best is None:
        return ()
    kept = [KeptCheckpoint(Path(path), float(score)) for path, score in best.best_k_models.items()]
    return (*sorted(kept, key=lambda checkpoint: checkpoint.path.name), KeptCheckpoint(last, None))
