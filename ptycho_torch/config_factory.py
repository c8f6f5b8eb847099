"""Build payloads: layers of configuration in, one resolved, validated and frozen payload out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias

from ptycho_torch.config import SECTIONS, PyTorchExecutionConfig
from ptycho_torch.config_checks import (
    check_against_data,
    check_against_trained,
    check_sections,
    check_test_scan,
    check_validations,
)
from ptycho_torch.config_defaults import CANONICAL_DEFAULTS
from ptycho_torch.config_keys import default_layers, entry_point_layer, given_layer, knob_layer
from ptycho_torch.errors import ConfigError, DataFileNotFoundError
from ptycho_torch.headers import ScanHeader, read_header
from ptycho_torch.layers import DEFAULT_LAYERS, Layer, Merged, Value, merge
from ptycho_torch.payloads import InferencePayload, TrainingPayload
from ptycho_torch.validation import Problems

__all__ = [
    "InferencePayload",
    "TrainingPayload",
    "create_inference_payload",
    "create_training_payload",
]

Overrides: TypeAlias = Mapping[str, Any] | Sequence[Mapping[str, Any]]
DataSource: TypeAlias = str | PathLike[str] | ScanHeader

_TRAINING_SECTIONS = ("data", "model", "training", "inference", "execution")
_INFERENCE_SECTIONS = ("data", "model", "inference", "execution")
_CARRIED_DATA_FIELDS = ("nphotons", "positions", "neighbor_count")
_TRAINING_KNOBS = frozenset(field.name for field in dataclasses.fields(PyTorchExecutionConfig))
_INFERENCE_KNOBS = frozenset(
    {
        "accelerator",
        "strategy",
        "n_devices",
        "deterministic",
        "num_workers",
        "pin_memory",
        "persistent_workers",
        "prefetch_factor",
        "enable_progress_bar",
        "inference_batch_size",
        "middle_trim",
        "pad_eval",
    }
)


def create_training_payload(
    train_data_file: DataSource,
    output_dir: str | PathLike[str],
    overrides: Overrides | None = None,
    execution_config: PyTorchExecutionConfig | None = None,
    *,
    entry_point: str = "train",
    execution_layer: Mapping[str, Value] | None = None,
    resolved: Mapping[str, Value] | None = None,
    test_data_file: DataSource | None = None,
) -> TrainingPayload:
    """Resolve everything a training is told.

    Parameters
    ----------
    train_data_file
        The scan to learn from: a file, or a header that is known already (a simulated scan's).
    output_dir
        Where results go; nothing is created.
    overrides
        Explicit overrides, the highest layer: field name, ``section.field`` or an alias, to a value or a
        :class:`ptycho_torch.layers.Value`. Of several mappings the first wins. ``n_groups`` is required.
    execution_config
        How to execute; what differs from the defaults counts. None makes a default one.
    entry_point
        The command whose own defaults apply, a key of ``config_keys.ENTRY_POINTS``.
    execution_layer
        Instead of `execution_config`: exactly the execution knobs that were written, with their places.
    resolved
        What requests such as ``accelerator: auto`` were turned into by who can ask the machine; it beats
        every layer, and the request stays on record as shadowed.
    test_data_file
        The scan to validate on; without it a fraction of the frames is held out.

    Raises
    ------
    DataFileNotFoundError
        When a file is missing; it is a ``FileNotFoundError``.
    DataError
        When a file's header breaks the data contract.
    ConfigError
        With everything that is illegal; it is a ``ValueError``.
    """
    header = _header(train_data_file)
    test_header = None if test_data_file is None else _header(test_data_file)
    problems = Problems()
    layers = [
        *_explicit_layers(overrides, _TRAINING_SECTIONS, problems),
        knob_layer(execution_config, execution_layer, problems),
        given_layer("resolved", resolved or {}, _TRAINING_SECTIONS, problems),
        _inferred_layer(header),
        entry_point_layer(entry_point, _TRAINING_SECTIONS),
        *default_layers(_TRAINING_SECTIONS),
    ]
    merged, configs = _build(layers, problems)
    check_against_data(merged, configs, header, problems)
    check_sections(merged, configs, problems)
    if test_header is not None:
        check_test_scan(merged, header, test_header, problems)
    if test_header is not None or ("data" in configs and configs["data"].validation_fraction > 0):
        check_validations(merged, configs, problems)
    problems.refuse()
    settled = _settle(configs, configs["training"].batch_size)
    if test_header is None and configs["data"].validation_fraction == 0:
        settled |= _monitor_training(configs["execution"])
    merged, configs = _build([*layers, Layer("resolved", settled)], problems)
    problems.refuse()
    return TrainingPayload(
        train_data_file=header.file,
        test_data_file=None if test_header is None else test_header.file,
        output_dir=fspath(output_dir),
        data=configs["data"],
        model=configs["model"],
        training=configs["training"],
        inference=configs["inference"],
        execution_config=configs["execution"],
        overrides_applied=_applied(merged, configs, _TRAINING_KNOBS),
        origins=merged.origins,
    )


def create_inference_payload(
    model_path: str | PathLike[str],
    test_data_file: DataSource,
    output_dir: str | PathLike[str],
    overrides: Overrides | None = None,
    execution_config: PyTorchExecutionConfig | None = None,
    *,
    entry_point: str = "infer",
    execution_layer: Mapping[str, Value] | None = None,
    resolved: Mapping[str, Value] | None = None,
    trained: TrainingPayload | None = None,
) -> InferencePayload:
    """Resolve everything an inference is told.

    Parameters
    ----------
    model_path
        The trained model: a checkpoint or a run.
    test_data_file
        The scan to reconstruct: a file, or a header that is known already.
    output_dir, overrides, execution_config, entry_point, execution_layer, resolved
        As for :func:`create_training_payload`; ``training`` keys have no part in it.
    trained
        What the model was trained with. It fixes the model's configuration, and gives the defaults of the
        photon number, the position convention and the batch size. Without it the overrides and the data do.

    Raises
    ------
    DataFileNotFoundError
        When a file is missing; it is a ``FileNotFoundError``.
    DataError
        When the file's header breaks the data contract.
    ConfigError
        With everything that is illegal; it is a ``ValueError``.
    """
    if not Path(model_path).exists():
        raise DataFileNotFoundError(f"{fspath(model_path)}: there is no such model: check its path")
    header = _header(test_data_file)
    problems = Problems()
    layers = [
        *_explicit_layers(overrides, _INFERENCE_SECTIONS, problems),
        knob_layer(execution_config, execution_layer, problems),
        given_layer("resolved", resolved or {}, _INFERENCE_SECTIONS, problems),
        _trained_layer(trained),
        _inferred_layer(header),
        entry_point_layer(entry_point, _INFERENCE_SECTIONS),
        *default_layers(_INFERENCE_SECTIONS),
    ]
    merged, configs = _build(layers, problems)
    check_against_data(merged, configs, header, problems)
    if trained is not None:
        check_against_trained(merged, trained, problems)
    problems.refuse()
    batch_size = trained.training.batch_size if trained else CANONICAL_DEFAULTS["training.batch_size"]
    merged, configs = _build([*layers, Layer("resolved", _settle(configs, batch_size))], problems)
    problems.refuse()
    return InferencePayload(
        model_path=fspath(model_path),
        test_data_file=header.file,
        output_dir=fspath(output_dir),
        data=configs["data"],
        model=configs["model"],
        inference=configs["inference"],
        execution_config=configs["execution"],
        overrides_applied=_applied(merged, configs, _INFERENCE_KNOBS),
        origins=merged.origins,
    )


def _header(source: DataSource) -> ScanHeader:
    return source if isinstance(source, ScanHeader) else read_header(fspath(source))


def _explicit_layers(overrides: Overrides | None, sections: Iterable[str], problems: Problems) -> list[Layer]:
    mappings = [overrides] if isinstance(overrides, Mapping) else overrides or []
    return [given_layer("explicit override", mapping, sections, problems) for mapping in mappings]


def _inferred_layer(header: ScanHeader) -> Layer:
    source = header.name
    values = {"model.N": Value(header.N, note=f"inferred from {source}")}
    if header.units is not None:
        verb = "stated in" if header.are_units_stated else "inferred from"
        values["data.units"] = Value(header.units, note=f"{verb} {source}")
    if header.positions is not None:
        values["data.positions"] = Value(header.positions, note=f"stated in {source}")
    return Layer("inferred from data", values)


def _trained_layer(trained: TrainingPayload | None) -> Layer:
    if trained is None:
        return Layer("trained model", {})
    values = {f"model.{name}": Value(value) for name, value in vars(trained.model).items()}
    values |= {f"data.{name}": Value(getattr(trained.data, name)) for name in _CARRIED_DATA_FIELDS}
    return Layer("trained model", values)


def _build(layers: Sequence[Layer], problems: Problems) -> tuple[Merged, dict[str, Any]]:
    """Merge the layers and build every section that is sound; note what is wrong with the others."""
    merged = merge(layers)
    sections = dict.fromkeys(key.partition(".")[0] for layer in layers for key in layer.values)
    configs: dict[str, Any] = {}
    for section in sections:
        kind = SECTIONS[section]
        head = f"{section}."
        values = {key.removeprefix(head): merged.values[key] for key in merged.values if key.startswith(head)}
        try:
            configs[section] = kind(**values)
        except ConfigError as error:
            for field, sentence in zip(error.keys, error.problems, strict=True):
                key = head + field.partition(".")[0]
                origin = merged.origins.get(key)
                text = sentence.replace(f"{kind.__name__}.", head, 1)
                reason = f" ({origin.note})" if origin is not None and origin.note else ""
                problems.add(key, text + reason, None if origin is None else origin.place)
    return merged, configs


def _settle(configs: Mapping[str, Any], batch_size: int) -> dict[str, Value]:
    execution: PyTorchExecutionConfig = configs["execution"]
    settled = {}
    if execution.strategy == "auto" and execution.n_devices > 1:
        settled["execution.strategy"] = Value("ddp", note=f"auto on {execution.n_devices} devices")
    if execution.inference_batch_size is None:
        settled["execution.inference_batch_size"] = Value(batch_size, note="the training batch")
    return settled


def _monitor_training(execution: PyTorchExecutionConfig) -> dict[str, Value]:
    if execution.checkpoint_monitor_metric != "val_loss":
        return {}
    note = "there are no validation data, so val_loss is not logged"
    return {"execution.checkpoint_monitor_metric": Value("train_loss", note=note)}


def _applied(merged: Merged, configs: Mapping[str, Any], knobs: frozenset[str]) -> dict[str, Any]:
    applied = {}
    for key, origin in merged.origins.items():
        section, _, field = key.partition(".")
        if origin.layer not in DEFAULT_LAYERS or (section == "execution" and field in knobs):
            applied[field] = getattr(configs[section], field)
    return applied
