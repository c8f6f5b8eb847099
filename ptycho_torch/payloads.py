"""Payloads: everything a training or an inference is told, resolved, frozen and exact in JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic_core import ValidationError

from ptycho_torch.additions import is_unused_addition
from ptycho_torch.config import (
    DataConfig,
    InferenceConfig,
    ModelConfig,
    PyTorchExecutionConfig,
    TrainingConfig,
)
from ptycho_torch.errors import ConfigError
from ptycho_torch.layers import Origin, freeze_fields
from ptycho_torch.validation import describe_problems

__all__ = ["InferencePayload", "TrainingPayload"]


class _Payload:
    """Writing to JSON values and reading back, equal to the last bit."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = {
        "extra": "forbid",
        "strict": True,
        "allow_inf_nan": False,
    }
    overrides_applied: Mapping[str, Any]
    origins: Mapping[str, Origin]

    def __post_init__(self) -> None:
        freeze_fields(self, "overrides_applied", "origins")

    def to_json_dict(self) -> dict[str, Any]:
        """Return the payload as dictionaries, lists and plain values."""
        plain: dict[str, Any] = _plain(self)
        return plain

    @classmethod
    def from_json_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make a payload again from what :meth:`to_json_dict` returned.

        Raises
        ------
        ConfigError
            When a key is missing, unknown or its value illegal; what was written before a field came may
            lack it.
        """
        from pydantic import TypeAdapter  # pydantic itself takes long to load, and most commands read nothing

        try:
            made = TypeAdapter(cls).validate_json(json.dumps(values))
        except ValidationError as error:
            raise describe_problems(cls.__name__, error) from None
        absent = sorted(
            key for key, value in _absent(made.to_json_dict(), values) if not is_unused_addition(key, value)
        )
        if absent:
            raise ConfigError([f"{cls.__name__}.{key}: is required" for key in absent], absent)
        return made


@dataclass(frozen=True)
class TrainingPayload(_Payload):
    """Everything a training is told.

    Parameters
    ----------
    train_data_file, test_data_file
        The files; None for simulated data, and for `test_data_file` when there is none.
    output_dir
        Where results go.
    data, model, training, inference, execution_config
        The resolved configurations; `inference` is for the reconstruction that follows the training.
    overrides_applied
        Field name to value: everything that is not at its default, and always the execution knobs, as
        they are used.
    origins
        ``section.field`` to where its value comes from, for every field.
    """

    train_data_file: str | None
    test_data_file: str | None
    output_dir: str
    data: DataConfig
    model: ModelConfig
    training: TrainingConfig
    inference: InferenceConfig
    execution_config: PyTorchExecutionConfig
    overrides_applied: Mapping[str, Any]
    origins: Mapping[str, Origin]


@dataclass(frozen=True)
class InferencePayload(_Payload):
    """Everything an inference is told.

    Parameters
    ----------
    model_path
        The trained model: a checkpoint or a run.
    test_data_file
        The file whose frames are reconstructed; None for simulated data.
    output_dir
        Where results go.
    data, model, inference, execution_config
        The resolved configurations; ``execution_config.inference_batch_size`` is a number here.
    overrides_applied
        Field name to value: everything that is not at its default, and always the execution knobs that
        inference has, as they are used.
    origins
        ``section.field`` to where its value comes from, for every field.
    """

    model_path: str
    test_data_file: str | None
    output_dir: str
    data: DataConfig
    model: ModelConfig
    inference: InferenceConfig
    execution_config: PyTorchExecutionConfig
    overrides_applied: Mapping[str, Any]
    origins: Mapping[str, Origin]


def _absent(expected: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, item in expected.items():
        if key not in given:
            yield key, item
        elif isinstance(item, dict):
            yield from ((f"{key}.{inner}", value) for inner, value in _absent(item, given[key]))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
