"""The frozen configurations: every field is defined here once, with its legal values and its default.

Defaults written here are the *PyTorch defaults* (layer 4 of ``docs/configuration.md``). A field made with
:func:`canonical` has none of its own: its default is the PtychoPINN library's (layer 5).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, TypeVar, cast, dataclass_transform

import pydantic
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass

from ptycho_torch.errors import ConfigError

__all__ = [
    "CANONICAL_DEFAULTS",
    "DataConfig",
    "InferenceConfig",
    "ModelConfig",
    "PyTorchExecutionConfig",
    "TrainingConfig",
    "describe_problems",
    "frozen_config",
]

ConfigT = TypeVar("ConfigT")

CANONICAL_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "data.nphotons": 1e9,
        "data.neighbor_count": 4,
        "model.N": 64,
        "model.gridsize": 1,
        "model.n_filters_scale": 2,
        "model.amp_activation": "sigmoid",
        "model.object_big": True,
        "model.probe_big": True,
        "training.batch_size": 16,
        "training.epochs": 60,
    }
)
"""The PtychoPINN library's own defaults, by ``section.field``."""


def canonical(key: str) -> Any:
    """Make a field whose default is the PtychoPINN library's."""
    return dataclasses.field(default=CANONICAL_DEFAULTS[key], metadata={"canonical": True})


def describe_problems(name: str, error: pydantic.ValidationError) -> ConfigError:
    """Turn pydantic's report into one sentence per problem."""
    sentences, keys = [], []
    for detail in error.errors(include_url=False):
        key = ".".join(str(part) for part in detail["loc"])
        message = detail["msg"].removeprefix("Value error, ")
        value = "" if detail["type"] in {"value_error", "missing"} else f" (got {_show(detail['input'])})"
        where = f"{name}.{key}" if key else name
        sentences.append(f"{where}: {message[:1].lower()}{message[1:]}{value}")
        keys.append(key)
    return ConfigError(sentences, keys)


def _show(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer with more digits than Python prints
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass_transform(frozen_default=True)
def frozen_config(cls: type[ConfigT]) -> type[ConfigT]:
    """Make a frozen dataclass that is validated when it is built and reports all its problems at once."""
    settings = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    made: Any = pydantic_dataclass(frozen=True, config=settings)(cls)
    validate: Callable[..., None] = made.__init__

    @functools.wraps(validate)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            validate(self, *args, **kwargs)
        except pydantic.ValidationError as error:
            raise describe_problems(cls.__name__, error) from None

    made.__init__ = __init__
    return cast("type[ConfigT]", made)


PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]


@frozen_config
class DataConfig:
    """Which frames are used, in which units they are and how they are grouped.

    Parameters
    ----------
    nphotons
        Mean number of photons per frame. It sets the scale of ``normalized_amplitude`` data only;
        data in counts carry their photons themselves.
    positions
        Where a scan position points: ``ptychopinn`` (patch corner = position - N/2, the peer's
        convention without its rounding) or ``center`` (patch corner = position - (N - 1)/2).
    units
        What ``diffraction`` holds: ``count_amplitude`` (square root of counts), ``count_intensity``
        (counts) or ``normalized_amplitude`` (amplitude in arbitrary units, scaled by `nphotons`).
    neighbor_count
        Number K of nearest neighbours from which the members of a group are drawn.
    n_subsample
        Number of frames kept before grouping; None keeps all.
    sequential_sampling
        Take the first frames and seeds in file order instead of drawing them.
    oversample
        Allow more groups than frames: a frame is then the seed of several groups.
    validation_fraction
        Fraction of the frames held out for validation when there is no test file.
    """

    nphotons: PositiveFloat = 1e5
    positions: Literal["ptychopinn", "center"] = "ptychopinn"
    units: Literal["count_amplitude", "count_intensity", "normalized_amplitude"] = "normalized_amplitude"
    neighbor_count: PositiveInt = canonical("data.neighbor_count")
    n_subsample: PositiveInt | None = None
    sequential_sampling: bool = False
    oversample: bool = False
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.05


@frozen_config
class InferenceConfig:
    """How the patches of a trained network become one image.

    Parameters
    ----------
    sync_phases
        Bring the patches to one global phase before they are stitched.
    sync_rounds
        Rounds of that synchronisation.
    """

    sync_phases: bool = True
    sync_rounds: PositiveInt = 8


@frozen_config
class ModelConfig:
    """The network's topology and the physics that it is trained through.

    Parameters
    ----------
    N
        Side of the detector frame and of an object patch, pixels.
    gridsize
        A group holds ``gridsize**2`` overlapping patches.
    generator
        Name of the network, a key of ``ptycho_torch.models.GENERATORS``.
    n_filters_scale
        Multiplier s of all channel numbers (first encoder stage: 32 s).
    amp_activation
        Activation of the amplitude head.
    attention
        Put a channel-and-spatial attention gate (CBAM) behind every encoder stage.
    probe_big
        Reconstruct the patch's outer frame too, by a border branch; else it is zero.
    object_big
        Give every pattern of a group its own patch, merged by the physics; else one shared patch.
    amplitude_level
        Root-mean-square amplitude, in the network's own units, that explains the mean frame.
        It fixes the intensity scale, which diffraction alone leaves free.
    """

    N: Literal[64, 128] = canonical("model.N")
    gridsize: Literal[1, 2] = canonical("model.gridsize")
    generator: str = "cnn"
    n_filters_scale: PositiveInt = canonical("model.n_filters_scale")
    amp_activation: Literal["sigmoid", "swish", "softplus", "relu"] = canonical("model.amp_activation")
    attention: bool = True
    probe_big: bool = canonical("model.probe_big")
    object_big: bool = canonical("model.object_big")
    amplitude_level: Annotated[float, Field(gt=0, lt=1)] = 0.5


@frozen_config
class PyTorchExecutionConfig:
    """How a run executes: it steers run-time behaviour and never the model's topology or the data.

    The lowest torch that is tested is 2.13; nothing below 2.2 is supported. ``docs/workflows/pytorch.md``
    shows the fields in use.

    Parameters
    ----------
    accelerator, strategy, n_devices, deterministic
        Hardware and distribution: the kind of device, how several are used, how many, and whether the
        run must repeat bit by bit (seeding, deterministic algorithms, exactness profile).
    num_workers, pin_memory, persistent_workers, prefetch_factor
        Data loading: processes that load, page-locked memory (GPU only), workers kept between epochs,
        batches loaded ahead by each worker.
    learning_rate, scheduler, gradient_clip_val, accum_steps
        Optimisation: Adam's rate, how it changes, the largest gradient norm, batches per step.
    enable_checkpointing, checkpoint_save_top_k, checkpoint_monitor_metric, early_stop_patience
        Checkpoints and early stop: whether any are kept, how many of the best (-1 all, 0 only the
        last), the metric that ranks them, epochs without improvement before the run stops.
    enable_progress_bar, logger_backend, disable_mlflow
        Logging: Lightning's own bar, an additional logger, and the legacy switch that keeps mlflow out.
    inference_batch_size, middle_trim, pad_eval
        Inference: batch (None: the training batch), side of the patch's central window that is stitched
        (even; 0: N/2, N: no cropping), and evaluation on the padded canvas, scan edge included.
    """

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"] = "cpu"
    strategy: Literal["auto", "ddp", "fsdp", "deepspeed"] = "auto"
    n_devices: PositiveInt = 1
    deterministic: bool = True
    num_workers: NonNegativeInt = 0
    pin_memory: bool = False
    persistent_workers: bool = False
    prefetch_factor: PositiveInt | None = None
    learning_rate: PositiveFloat = 1e-3
    scheduler: Literal["Default", "Exponential", "MultiStage", "WarmupCosine", "ReduceLROnPlateau"] = "Default"
    gradient_clip_val: PositiveFloat | None = None
    accum_steps: PositiveInt = 1
    enable_checkpointing: bool = True
    checkpoint_save_top_k: Annotated[int, Field(ge=-1)] = 1
    checkpoint_monitor_metric: Annotated[str, Field(min_length=1)] = "val_loss"
    early_stop_patience: PositiveInt = 100
    enable_progress_bar: bool = False
    logger_backend: Literal["csv", "tensorboard", "mlflow", "wandb"] | None = None
    disable_mlflow: bool = False
    inference_batch_size: PositiveInt | None = None
    middle_trim: Annotated[NonNegativeInt, Field(multiple_of=2)] = 0
    pad_eval: bool = False

    @pydantic.model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        problems = []
        if self.pin_memory and self.accelerator == "cpu":
            problems.append("pin_memory is true on accelerator 'cpu', which has no pinned memory: set it to false")
        if self.persistent_workers and self.num_workers == 0:
            problems.append("persistent_workers is true without workers: set num_workers to 1 or more")
        if self.prefetch_factor is not None and self.num_workers == 0:
            problems.append("prefetch_factor is set without workers: set num_workers to 1 or more")
        if self.disable_mlflow and self.logger_backend == "mlflow":
            problems.append("disable_mlflow is true while logger_backend is 'mlflow': drop one of the two")
        if problems:
            raise ValueError("; ".join(problems))
        return self


@frozen_config
class TrainingConfig:
    """What is optimised and for how long.

    Parameters
    ----------
    n_groups
        Number of groups (training samples) per epoch, validation frames' groups not counted.
    epochs
        Passes over all groups. PtychoPINN calls it ``nepochs``.
    batch_size
        Groups per batch.
    loss
        Name of the loss, a key of ``ptycho_torch.losses.LOSSES``.
    exponential_gamma
        ``Exponential``: factor of the learning rate per epoch.
    stage_epochs, stage_factors
        ``MultiStage``: epochs at which a new stage begins (None: thirds), and each stage's factor.
    lr_warmup_epochs, lr_min_ratio
        ``WarmupCosine``: epochs of linear warm-up (fractions allowed), and the last over the first rate.
    plateau_factor, plateau_patience, plateau_min_lr
        ``ReduceLROnPlateau``: factor, epochs without improvement, smallest rate.
    """

    n_groups: PositiveInt
    epochs: PositiveInt = 50
    batch_size: PositiveInt = canonical("training.batch_size")
    loss: str = "poisson"
    exponential_gamma: Annotated[float, Field(gt=0, le=1)] = 0.95
    stage_epochs: Annotated[tuple[PositiveInt, ...], Field(strict=False)] | None = None
    stage_factors: Annotated[tuple[PositiveFloat, ...], Field(strict=False)] = (1.0, 0.3, 0.1)
    lr_warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    lr_min_ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    plateau_patience: NonNegativeInt = 2
    plateau_min_lr: Annotated[float, Field(ge=0)] = 5e-5

    @pydantic.model_validator(mode="after")
    def _refuse_uneven_stages(self) -> Self:
        if self.stage_epochs is not None and len(self.stage_epochs) != len(self.stage_factors) - 1:
            raise ValueError(
                f"stage_epochs names {len(self.stage_epochs)} changes but stage_factors has "
                f"{len(self.stage_factors)} stages: give one change fewer than stages"
            )
        return self
