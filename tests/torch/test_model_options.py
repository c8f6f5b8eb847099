"""The options of the model: a mask of the probe, a trained scale, total variation."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from ptycho_torch.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_torch.data.dataset import Batch
from ptycho_torch.errors import ConfigError
from ptycho_torch.module import PtychoModule
from ptycho_torch.total_variation import total_variation
from tests.torch.test_module import SCALING, _batch, _module


def _in_double(batch: Batch) -> Batch:
    return dataclasses.replace(
        batch,
        input_amplitude=batch.input_amplitude.double(),
        measured_intensity=batch.measured_intensity.double(),
        offsets_px=batch.offsets_px.double(),
    )


def test_the_counts_under_a_mask_are_those_of_the_probe_within_it() -> None:
    module, plain = _module({"probe_mask": True, "probe_mask_diameter_px": 12}), _module()
    outside = np.hypot(*(np.mgrid[:64, :64] - 31.5)) >= 6
    patches, offsets = torch.ones(1, 1, 64, 64, dtype=torch.complex64), torch.zeros(1, 1, 2)
    within = plain.forward_model.probe.clone()
    within[:, outside] = 0
    share = within.abs().square().sum() / plain.forward_model.probe.abs().square().sum()
    counts = module.forward_model(patches, offsets).sum()
    assert 0.2 < share < 0.9
    torch.testing.assert_close(counts, share * plain.forward_model(patches, offsets).sum())
    seen = torch.where(torch.from_numpy(outside), 5 * patches, patches)
    torch.testing.assert_close(module.forward_model(seen, offsets).sum(), counts)


def test_a_trained_probe_stays_zero_outside_its_mask() -> None:
    module = _module({"probe_trainable": True, "probe_mask": True, "probe_mask_diameter_px": 20})
    outside = np.hypot(*(np.mgrid[:64, :64] - 31.5)) >= 10
    before = module.forward_model.probe.detach().clone()
    optimizer = module.configure_optimizers()
    for _ in range(3):
        optimizer.zero_grad()
        module.batch_loss(_batch()).backward()
        optimizer.step()
    after = module.forward_model.probe.detach()
    assert not after[:, outside].any()
    assert not module.state_dict()["forward_model.probe_parts"][:, outside].any()
    assert (after != before)[:, ~outside].all()
    checkpoint: dict[str, object] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    again = PtychoModule.from_checkpoint(checkpoint, PyTorchExecutionConfig())
    assert torch.equal(again.forward_model.probe, after)


def _before(config: type[Any]) -> set[str]:
    return {field.name for field in dataclasses.fields(config) if "added" not in field.metadata}


def test_a_checkpoint_from_before_an_option_came_still_loads() -> None:
    module = _module()
    checkpoint: dict[str, object] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    stored = checkpoint["hyper_parameters"]
    old = {
        section: {name: value for name, value in stored[section].items() if name in before}
        for section, before in (("model", _before(ModelConfig)), ("training", _before(TrainingConfig)))
    }
    assert len(old["model"]) == 10
    checkpoint["hyper_parameters"] = {**stored, **old}
    again = PtychoModule.from_checkpoint(checkpoint, PyTorchExecutionConfig())
    assert torch.equal(again(_batch().input_amplitude), module(_batch().input_amplitude))


def test_a_trainable_intensity_scale_learns_in_parts_and_survives_a_checkpoint() -> None:
    module = _module({"intensity_scale_trainable": True})
    batch = _batch(B=10)
    gain = module.forward_model.log_intensity_gain
    module.batch_loss(batch).backward()
    whole, gain.grad = gain.grad, None
    optimizer = module.configure_optimizers()
    module.batch_loss_in_parts(batch).backward()
    assert gain.grad != 0
    torch.testing.assert_close(gain.grad, whole)
    optimizer.step()
    scale = module.scaling.intensity_scale
    assert scale != SCALING.intensity_scale
    assert scale == pytest.approx(SCALING.intensity_scale, rel=2e-3)
    checkpoint: dict[str, object] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    again = PtychoModule.from_checkpoint(checkpoint, PyTorchExecutionConfig())
    assert again.scaling == module.scaling
    assert torch.equal(again.batch_loss(batch), module.batch_loss(batch))


def test_without_a_trainable_intensity_scale_the_scales_are_those_of_the_data() -> None:
    module = _module()
    assert module.scaling is SCALING
    assert not any("gain" in name for name in module.state_dict())


def test_a_trainable_intensity_scale_beside_a_trainable_probe_is_refused() -> None:
    with pytest.raises(ConfigError, match="intensity_scale_trainable: is true while probe_trainable is"):
        ModelConfig(intensity_scale_trainable=True, probe_trainable=True)


@pytest.mark.parametrize(
    "model", [{}, {"gridsize": 2}, {"gridsize": 2, "object_big": False, "probe_big": True}]
)
def test_total_variation_is_added_to_the_loss_and_its_parts_add_up(model: dict[str, object]) -> None:
    plain, weighed = _module(model).double(), _module(model, {"tv_weight": 0.3}).double()
    batch = _in_double(_batch(4, 3) if model else _batch(1, 10))
    window = 64 if model.get("probe_big") else 32
    variation = total_variation(plain.predict_patches(batch.input_amplitude), window)
    expected = plain.batch_loss(batch) + 0.3 / 0.5 * variation
    torch.testing.assert_close(weighed.batch_loss(batch), expected)
    assert variation > 0
    weighed.batch_loss(batch).backward()
    whole = [parameter.grad.clone() for parameter in weighed.parameters()]
    weighed.zero_grad()
    parts = weighed.batch_loss_in_parts(batch)
    parts.backward()
    torch.testing.assert_close(parts, expected)
    for parameter, gradient in zip(weighed.parameters(), whole, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.parametrize(("asked", "channels"), [(None, 1), (1, 1), (5, 5)])
def test_border_and_centre_share_the_decoders_channels(asked: int | None, channels: int) -> None:
    module = _module({"probe_big": True, "border_channels": asked})
    width = 32 * module.model.n_filters_scale
    for head in (module.generator.amplitude, module.generator.phase):
        assert head.centre.in_channels == width - channels
        assert head.border[0].in_channels == channels
    features = torch.zeros(1, width, 16, 16)
    features[:, -channels:] = torch.randn(1, channels, 16, 16)
    head.decoder = torch.nn.Identity()
    seen, blank = head(features), head(torch.zeros_like(features))
    assert torch.equal(seen[..., 16:48, 16:48], blank[..., 16:48, 16:48])
    assert not torch.equal(seen, blank)


@pytest.mark.parametrize("rim", ["zero", "edge"])
def test_the_rim_of_a_shared_patch_is_what_the_model_asks_for(rim: str) -> None:
    module = _module({"gridsize": 2, "object_big": False, "probe_big": True, "object_rim": rim})
    assert module.forward_model.is_edge_repeated is (rim == "edge")


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"border_channels": 2, "probe_big": False}, "border_channels: is set while probe_big is false"),
        (
            {"border_channels": 32, "n_filters_scale": 1},
            "at most 31, .* of the decoder's 32 channels, not 32",
        ),
        ({"grouping": "square", "gridsize": 1}, "grouping: is 'square' at gridsize 1"),
        ({"object_rim": "edge", "gridsize": 2}, "object_rim: is 'edge', but no patch is shared"),
        ({"object_rim": "edge", "object_big": False, "gridsize": 1}, "but no patch is shared"),
        (
            {"object_rim": "edge", "object_big": False, "gridsize": 2, "probe_big": False},
            "object_rim: is 'edge' while probe_big is false",
        ),
    ],
)
def test_options_of_the_model_that_contradict_others_are_refused(values: Any, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        ModelConfig(**values)
