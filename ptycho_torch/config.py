"""The frozen configurations: every field is defined here once, with its legal values and its default.

Defaults written here are the *PyTorch defaults* (layer 4 of ``docs/configuration.md``). A field made with
``canonical`` has none of its own: its default is the PtychoPINN library's (layer 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from ptycho_torch.config_defaults import added, canonical
from ptycho_torch.config_rules import EXECUTION_RULES, MODEL_RULES, TRAINING_RULES, name_in, whole_number
from ptycho_torch.field_types import Demands
from ptycho_torch.validation import frozen_config
from ptycho_torch.variants import GENERATORS, LOGGERS, LOSSES, SCHEDULERS

__all__ = [
    "SECTIONS",
    "DataConfig",
    "InferenceConfig",
    "ModelConfig",
    "PyTorchExecutionConfig",
    "TrainingConfig",
    "frozen_config",
]

PositiveInt = Annotated[int, Demands(ge=1)]
NonNegativeInt = Annotated[int, Demands(ge=0)]
PositiveFloat = Annotated[float, Demands(gt=0)]


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
    validation_fraction: Annotated[float, Demands(ge=0, lt=1)] = 0.05


@frozen_config
class InferenceConfig:
    """How the patches of a trained network become one image.

    Parameters
    ----------
    sync_phases
        Bring the patches to one global phase before they are stitched.
    sync_rounds
        Rounds of that synchronisation.
    window
        What a patch weighs where several overlap. ``smooth``: the probe's intensity, less towards the edges
        of its central window. ``flat``: all pixels of the window alike, as in published images that are put
        together of tiles side by side.
    """

    sync_phases: bool = True
    sync_rounds: PositiveInt = 8
    window: Literal["smooth", "flat"] = added("smooth")


@frozen_config(rules=MODEL_RULES)
class ModelConfig:
    """The network's topology and the physics that it is trained through.

    Parameters
    ----------
    N
        Side of the detector frame and of an object patch, pixels.
    gridsize
        A group holds ``gridsize**2`` overlapping patches.
    generator
        Name of the network, a key of ``ptycho_torch.variants.GENERATORS``.
    n_filters_scale
        Multiplier s of all channel numbers (first encoder stage: 32 s).
    amp_activation
        Activation of the amplitude head.
    attention
        Put a channel-and-spatial attention gate (CBAM) behind every encoder stage.
    probe_big
        Reconstruct the patch's outer frame too, by a border branch; else it is zero.
    probe_trainable
        Let training improve the probe too, from the one that the data hold.
    probe_mask
        Hold the probe at zero outside a disk in the middle of its grid, also while it is trained.
    probe_mask_diameter_px
        Diameter of that disk, pixels, from 2 to N; None: N/2, as in PtychoPINN.
    intensity_scale_trainable
        Let training improve the intensity scale too: one factor, by its logarithm, from the frozen scale.
    object_big
        Give every pattern of a group its own patch, merged by the physics; else one shared patch.
    amplitude_level
        Root-mean-square amplitude, in the network's own units, that explains the mean frame.
        It fixes the intensity scale, which diffraction alone leaves free.
    border_channels
        With `probe_big`, how many of the decoder's last channels the border branch is made from; the centre
        is made from the others. None: one, as in PtychoPINN's torch version.
    grouping
        The frames of a group at gridsize 2: ``nearest`` (a frame and some of its nearest ones) or ``square``
        (of a raster: a frame, its right, its lower and its lower right neighbour, in this order).
    allow_tf32
        Let a graphics card's convolutions round their factors to TF32 (11 bits), which is faster. The bits
        repeat all the same. A processor has no TF32: beside the accelerator cpu it is refused, and where
        auto becomes a processor it has no effect.
    object_rim
        What a pattern sees beyond the patch that its group shares: ``zero``, as in PtychoPINN, or the patch's
        outermost pixels again (``edge``), which a probe that reaches the rim is explained better by.
    """

    N: Annotated[Literal[64, 128, 256], whole_number] = canonical("model.N")
    gridsize: Annotated[Literal[1, 2], whole_number] = canonical("model.gridsize")
    generator: Annotated[str, name_in(GENERATORS)] = "cnn"
    n_filters_scale: PositiveInt = canonical("model.n_filters_scale")
    amp_activation: Literal["sigmoid", "swish", "softplus", "relu"] = canonical("model.amp_activation")
    attention: bool = True
    probe_big: bool = canonical("model.probe_big")
    probe_trainable: bool = False
    object_big: bool = canonical("model.object_big")
    amplitude_level: Annotated[float, Demands(gt=0, lt=1)] = 0.5
    probe_mask: bool = added(False)
    intensity_scale_trainable: bool = added(False)
    probe_mask_diameter_px: Annotated[float, Demands(ge=2)] | None = added(None)
    border_channels: PositiveInt | None = added(None)
    grouping: Literal["nearest", "square"] = added("nearest")
    allow_tf32: bool = added(False)
    object_rim: Literal["zero", "edge"] = added("zero")


@frozen_config(rules=EXECUTION_RULES)
class PyTorchExecutionConfig:
    """How a run executes: it steers run-time behaviour and never the model's topology or the data pipeline.

    The lowest torch that is tested is 2.13; nothing below 2.2 is supported. ``docs/workflows/pytorch.md``
    shows the fields in use.

    Parameters
    ----------
    accelerator, strategy, n_devices, deterministic
        *Hardware and distributed:* the kind of device (``auto``: what the executor has), how several are
        used (``auto``: one device's own strategy, ddp above one), how many, and whether the run must
        repeat bit by bit (seeding, deterministic algorithms, exactness profile).
    num_workers, pin_memory, persistent_workers, prefetch_factor
        *Data loading:* processes that load, page-locked memory (GPU only), workers kept between epochs,
        batches loaded ahead by each worker.
    learning_rate, scheduler, gradient_clip_val, accum_steps
        *Optimisation:* Adam's rate, how it changes (options: :class:`TrainingConfig`), the largest
        gradient norm, batches per step.
    enable_checkpointing, checkpoint_save_top_k, checkpoint_monitor_metric, early_stop_patience
        *Checkpoints and early stop:* whether any are kept, how many of the best (-1 all, 0 only the
        last), the metric that ranks them, epochs without improvement before the run stops.
    enable_progress_bar, logger_backend, disable_mlflow
        *Logging:* Lightning's own bar, an additional logger, and the legacy switch that keeps mlflow out.
    inference_batch_size, middle_trim, pad_eval
        *Inference:* batch (None: the training batch), side of the patch's central window that is stitched
        in pixels (even; 0: N/2, N: no cropping), and evaluation on the padded canvas, scan edge included.

    Raises
    ------
    ConfigError
        With every illegal, unknown or contradictory value.
    """

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"] = "cpu"
    strategy: Literal["auto", "ddp", "fsdp", "deepspeed"] = "auto"
    n_devices: PositiveInt = 1
    deterministic: bool = True
    num_workers: NonNegativeInt = 0
    pin_memory: bool = False
    persistent_workers: bool = False
    prefetch_factor: PositiveInt | None = None
    learning_rate: Annotated[float, Demands(gt=0, le=1)] = 1e-3
    scheduler: Annotated[str, name_in(SCHEDULERS)] = "Default"
    gradient_clip_val: PositiveFloat | None = None
    accum_steps: PositiveInt = 1
    enable_checkpointing: bool = True
    checkpoint_save_top_k: Annotated[int, Demands(ge=-1)] = 1
    checkpoint_monitor_metric: Literal["train_loss", "val_loss"] = "val_loss"
    early_stop_patience: PositiveInt = 100
    enable_progress_bar: bool = False
    logger_backend: Annotated[str, name_in(LOGGERS)] | None = None
    disable_mlflow: bool = False
    inference_batch_size: PositiveInt | None = None
    middle_trim: Annotated[NonNegativeInt, Demands(multiple_of=2)] = 0
    pad_eval: bool = False


@frozen_config(rules=TRAINING_RULES)
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
        Name of the loss, a key of ``ptycho_torch.variants.LOSSES``.
    tv_weight
        Weight of the object's total variation in what is minimised, 0: none. It is that of the complex
        patches, per pixel, in units of ``amplitude_level``: a phase rising by 1 rad a pixel counts about 1.
    exponential_gamma
        ``Exponential``: factor of the learning rate per epoch.
    stage_epochs, stage_factors
        ``MultiStage``: epochs at which a new stage begins (None: equal parts), and each stage's factor.
    lr_warmup_epochs, lr_min_ratio
        ``WarmupCosine``: epochs of linear warm-up (fractions allowed), and the last over the first rate.
    lr_warmup_fraction
        ``WarmupCosine``: the warm-up as a fraction of all epochs, in place of `lr_warmup_epochs`. Another
        scheduler has none, and either above 0 is refused beside it.
    plateau_factor, plateau_patience, plateau_min_lr
        ``ReduceLROnPlateau``: factor, epochs without improvement, smallest rate.
    validate_every
        Epochs from one validation to the next; above 1 only where ``train_loss`` is monitored. The last epoch
        is validated where its number is a multiple; above `epochs`, so that none would be, it is refused.
    """

    n_groups: PositiveInt
    epochs: Annotated[int, Demands(ge=1, le=1_000_000)] = 50
    batch_size: Annotated[int, Demands(ge=1, le=65536)] = canonical("training.batch_size")
    loss: Annotated[str, name_in(LOSSES)] = "poisson"
    exponential_gamma: Annotated[float, Demands(gt=0, le=1)] = 0.95
    stage_epochs: Annotated[tuple[PositiveInt, ...], Demands(strict=False)] | None = None
    stage_factors: Annotated[tuple[PositiveFloat, ...], Demands(strict=False)] = (1.0, 0.3, 0.1)
    lr_warmup_epochs: Annotated[float, Demands(ge=0)] = 0.0
    lr_min_ratio: Annotated[float, Demands(ge=0, le=1)] = 0.1
    plateau_factor: Annotated[float, Demands(gt=0, lt=1)] = 0.5
    plateau_patience: NonNegativeInt = 2
    plateau_min_lr: Annotated[float, Demands(ge=0)] = 5e-5
    tv_weight: Annotated[float, Demands(ge=0)] = added(0.0)
    lr_warmup_fraction: Annotated[float, Demands(ge=0, le=1)] = added(0.0)
    validate_every: PositiveInt = added(1)


SECTIONS: Mapping[str, type[Any]] = MappingProxyType(
    {
        "data": DataConfig,
        "model": ModelConfig,
        "training": TrainingConfig,
        "inference": InferenceConfig,
        "execution": PyTorchExecutionConfig,
    }
)
"""Section of a key (``training`` in ``training.epochs``) to the configuration it fills."""
