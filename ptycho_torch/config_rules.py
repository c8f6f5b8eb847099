"""Conditions on configuration values that a field's type alone cannot state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic_core import core_schema

from ptycho_torch.field_types import Schema
from ptycho_torch.registry import Registry
from ptycho_torch.validation import Rule

__all__ = ["EXECUTION_RULES", "MODEL_RULES", "TRAINING_RULES", "name_in", "whole_number"]


def name_in(table: Registry) -> Callable[[Schema], Schema]:
    """Limit a text to the names of a table of variants, as a ``Literal`` of them would."""
    return lambda _: core_schema.literal_schema(list(table))


def whole_number(schema: Schema) -> Schema:
    """Refuse ``True`` and ``64.0``, which equal a whole number and would pass a choice of integers."""
    return core_schema.no_info_before_validator_function(_refuse_lookalikes, schema)


def _refuse_lookalikes(value: Any) -> Any:
    if isinstance(value, bool | float):
        raise ValueError(f"must be a whole number, not {value!r} ({type(value).__name__})")  # noqa: TRY004 - pydantic-core's
    return value


def _needs_workers(value: Any, num_workers: int) -> str | None:
    return "needs workers: set num_workers to 1 or more" if value and num_workers == 0 else None


def _refuse_pinning(pin_memory: bool, accelerator: str) -> str | None:
    has_none = pin_memory and accelerator == "cpu"
    return "is true on accelerator 'cpu', which has no pinned memory: set it to false" if has_none else None


def _refuse_mlflow(disable_mlflow: bool, logger_backend: str | None) -> str | None:
    is_contradiction = disable_mlflow and logger_backend == "mlflow"
    return "is true while logger_backend is 'mlflow': drop one of the two" if is_contradiction else None


EXECUTION_RULES = (
    Rule(("pin_memory", "accelerator"), _refuse_pinning),
    Rule(("persistent_workers", "num_workers"), _needs_workers),
    Rule(("prefetch_factor", "num_workers"), _needs_workers),
    Rule(("disable_mlflow", "logger_backend"), _refuse_mlflow),
)


def _check_mask(probe_mask_diameter_px: float | None, probe_mask: bool, N: int) -> str | None:
    if probe_mask_diameter_px is None:
        return None
    if not probe_mask:
        return f"is {probe_mask_diameter_px} while probe_mask is false: set probe_mask to true, or drop it"
    if probe_mask_diameter_px > N:
        return f"must be at most N ({N}), not {probe_mask_diameter_px}"
    return None


def _refuse_two_scales(intensity_scale_trainable: bool, probe_trainable: bool) -> str | None:
    if intensity_scale_trainable and probe_trainable:
        return "is true while probe_trainable is, which learns that factor, too: drop one of the two"
    return None


def _check_squares(grouping: str, gridsize: int) -> str | None:
    if grouping == "square" and gridsize == 1:
        return "is 'square' at gridsize 1, where a group is one frame: set model.gridsize to 2, or drop it"
    return None


def _check_border(border_channels: int | None, probe_big: bool, n_filters_scale: int) -> str | None:
    if border_channels is None:
        return None
    if not probe_big:
        return (
            "is set while probe_big is false, which leaves the border out: drop it, or set probe_big to true"
        )
    channels = 32 * n_filters_scale
    if border_channels >= channels:
        return (
            f"must be at most {channels - 1}, which leaves the centre one of the decoder's {channels} "
            f"channels, not {border_channels}"
        )
    return None


def _check_rim(object_rim: str, object_big: bool, gridsize: int, probe_big: bool) -> str | None:
    if object_rim == "zero":
        return None
    if object_big or gridsize == 1:
        return (
            "is 'edge', but no patch is shared: "
            "set object_big to false and gridsize to 2, or object_rim to zero"
        )
    if not probe_big:
        return (
            "is 'edge' while probe_big is false, which makes the edge zero: "
            "set probe_big to true, or object_rim to zero"
        )
    return None


MODEL_RULES = (
    Rule(("border_channels", "probe_big", "n_filters_scale"), _check_border),
    Rule(("grouping", "gridsize"), _check_squares),
    Rule(("object_rim", "object_big", "gridsize", "probe_big"), _check_rim),
    Rule(("probe_mask_diameter_px", "probe_mask", "N"), _check_mask),
    Rule(("intensity_scale_trainable", "probe_trainable"), _refuse_two_scales),
)


def _check_stages(
    stage_epochs: tuple[int, ...] | None, stage_factors: tuple[float, ...], epochs: int
) -> str | None:
    if stage_epochs is None:
        return None
    if len(stage_epochs) != len(stage_factors) - 1:
        return (
            f"names {len(stage_epochs)} changes but stage_factors has {len(stage_factors)} stages: "
            "give one change fewer than stages"
        )
    if list(stage_epochs) != sorted(set(stage_epochs)) or (stage_epochs and stage_epochs[-1] >= epochs):
        return f"must rise and end before epoch {epochs}, not {list(stage_epochs)}"
    return None


def _check_warmup(lr_warmup_epochs: float, epochs: int) -> str | None:
    if lr_warmup_epochs <= epochs:
        return None
    return f"must be at most epochs ({epochs}), not {lr_warmup_epochs}: lr_warmup_fraction follows the epochs"


def _refuse_two_warmups(lr_warmup_fraction: float, lr_warmup_epochs: float) -> str | None:
    if lr_warmup_fraction == 0 or lr_warmup_epochs == 0:
        return None
    return f"stands beside lr_warmup_epochs ({lr_warmup_epochs}): set one of the two to 0"


TRAINING_RULES = (
    Rule(("stage_epochs", "stage_factors", "epochs"), _check_stages),
    Rule(("lr_warmup_epochs", "epochs"), _check_warmup),
    Rule(("lr_warmup_fraction", "lr_warmup_epochs"), _refuse_two_warmups),
)
