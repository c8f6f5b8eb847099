"""Checks that need more than one configuration, or a configuration and a scan's header."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ptycho_torch.config import DataConfig, ModelConfig
from ptycho_torch.headers import ScanHeader
from ptycho_torch.layers import DEFAULT_LAYERS, Merged
from ptycho_torch.payloads import TrainingPayload
from ptycho_torch.validation import Problems

__all__ = [
    "check_against_data",
    "check_against_trained",
    "check_sections",
    "check_test_scan",
    "check_validations",
]

_WARM_UPS = ("lr_warmup_epochs", "lr_warmup_fraction")


def check_against_data(
    merged: Merged, configs: Mapping[str, Any], header: ScanHeader, problems: Problems
) -> None:
    """Note where the configuration contradicts the scan or itself.

    Parameters
    ----------
    merged
        The merged values with their origins.
    configs
        The sections that could be built.
    header
        The scan's header.
    problems
        What is wrong is noted here.
    """
    _check_stated(merged, header, problems)
    data, model, execution = (configs.get(section) for section in ("data", "model", "execution"))
    if data is not None and model is not None:
        _check_grouping(merged, data, model, header, problems)
    if execution is not None and model is not None and execution.middle_trim > model.N:
        sentence = f"must be at most model.N ({model.N}), not {execution.middle_trim}"
        _note(merged, problems, "execution.middle_trim", sentence)


def check_sections(merged: Merged, configs: Mapping[str, Any], problems: Problems) -> None:
    """Note where a training is told what the way in which it executes has no part in.

    A processor that is what ``auto`` was turned into contradicts nothing: the request was open.
    """
    model, training, execution = (configs.get(section) for section in ("model", "training", "execution"))
    if execution is None:
        return
    is_settled = merged.origins["execution.accelerator"].layer == "resolved"
    if model is not None and model.allow_tf32 and execution.accelerator == "cpu" and not is_settled:
        sentence = (
            "is true on accelerator 'cpu', which has no TF32: drop it, or set execution.accelerator to cuda "
            "or auto"
        )
        _note(merged, problems, "model.allow_tf32", sentence)
    if training is None or execution.scheduler == "WarmupCosine":
        return
    for field in _WARM_UPS:
        if warm_up := getattr(training, field):
            sentence = (
                f"is {warm_up:g}, but execution.scheduler is {execution.scheduler!r}, which has no warm-up: "
                "drop it, or set that to WarmupCosine"
            )
            _note(merged, problems, f"training.{field}", sentence)


def check_validations(merged: Merged, configs: Mapping[str, Any], problems: Problems) -> None:
    """Note where there are data to validate on and a training would do so never, or too rarely."""
    training, execution = configs.get("training"), configs.get("execution")
    if training is None or execution is None or training.validate_every == 1:
        return
    if training.validate_every > training.epochs:
        sentence = (
            f"is {training.validate_every}, but training.epochs is {training.epochs}, so nothing would ever "
            f"be validated: set it to at most {training.epochs}"
        )
        _note(merged, problems, "training.validate_every", sentence)
    if execution.checkpoint_monitor_metric == "val_loss":
        sentence = (
            f"is {training.validate_every}, but execution.checkpoint_monitor_metric is 'val_loss', which is "
            "wanted after every epoch: set that to train_loss"
        )
        _note(merged, problems, "training.validate_every", sentence)


def check_test_scan(merged: Merged, train: ScanHeader, test: ScanHeader, problems: Problems) -> None:
    """Note where the scan to validate on does not suit the one to learn from."""
    if test.N != train.N:
        sentence = (
            f"is {train.N} in {train.name} but {test.N} in {test.name}: both must have frames of one side"
        )
        _note(merged, problems, "model.N", sentence)
    units = train.units if train.are_units_stated else merged.values["data.units"]
    if train.units is not None and test.units is not None and test.units != units:
        sentence = (
            f"is {units} in {train.name} but {test.units} in {test.name}: units are never mixed, "
            "convert one of the files"
        )
        _note(merged, problems, "data.units", sentence)


def check_against_trained(merged: Merged, trained: TrainingPayload, problems: Problems) -> None:
    """Note where an inference asks for another model, or for other units, than was trained."""
    for field in dataclasses.fields(ModelConfig):
        key = f"model.{field.name}"
        was, asked = getattr(trained.model, field.name), merged.values[key]
        if asked != was:
            _note(merged, problems, key, f"is {asked!r}, but the model was trained with {was!r}: drop it")
    was, asked = trained.data.units, merged.values["data.units"]
    if was.startswith("count_") != str(asked).startswith("count_"):
        sentence = (
            f"is {asked}, but the model was trained on {was}: counts and arbitrary units are never mixed"
        )
        _note(merged, problems, "data.units", sentence)


def _note(merged: Merged, problems: Problems, key: str, sentence: str) -> None:
    problems.add(key, f"{key}: {sentence}", merged.origins[key].place)


def _check_stated(merged: Merged, header: ScanHeader, problems: Problems) -> None:
    side = merged.values["model.N"]
    if side != header.N:
        is_trained = merged.origins["model.N"].layer == "trained model"
        cure = "choose other data" if is_trained else "drop it, or choose other data"
        sentence = f"is {side!r}, but the frames of {header.name} have {header.N} x {header.N} pixels: {cure}"
        _note(merged, problems, "model.N", sentence)
    is_told = merged.origins["data.units"].layer not in DEFAULT_LAYERS
    if header.units is None and not is_told:
        sentence = f"cannot be told from the first frames of {header.name}: state it"
        _note(merged, problems, "data.units", sentence)
    stated = {
        "data.units": header.units if header.are_units_stated else None,
        "data.positions": header.positions,
    }
    for key, said in stated.items():
        if said is not None and merged.values[key] != said:
            sentence = f"is {merged.values[key]!r}, but {header.name} states {said!r}: correct one of them"
            _note(merged, problems, key, sentence)


def _check_grouping(
    merged: Merged, data: DataConfig, model: ModelConfig, header: ScanHeader, problems: Problems
) -> None:
    members = model.gridsize**2
    if data.n_subsample is not None and data.n_subsample > header.n_frames:
        sentence = f"is {data.n_subsample}, but {header.name} has only {header.n_frames} frames"
        _note(merged, problems, "data.n_subsample", sentence)
    n_frames = min(data.n_subsample or header.n_frames, header.n_frames)
    if members > n_frames:
        sentence = f"{model.gridsize} needs {members} frames a group, but there are only {n_frames}"
        _note(merged, problems, "model.gridsize", sentence)
    if model.grouping == "square":
        if data.oversample:
            sentence = "is true, but model.grouping is 'square', and no square is taken twice: drop it"
            _note(merged, problems, "data.oversample", sentence)
    elif data.neighbor_count < members - 1:
        sentence = (
            f"must be at least {members - 1} for groups of {members} (model.gridsize {model.gridsize}), "
            f"not {data.neighbor_count}"
        )
        _note(merged, problems, "data.neighbor_count", sentence)
