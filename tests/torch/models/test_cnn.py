from __future__ import annotations

import pytest
import torch

from ptycho_torch.config import ModelConfig
from ptycho_torch.errors import ConfigError
from ptycho_torch.models import GENERATORS
from ptycho_torch.models.cnn import stage_widths


def _build(**settings: object) -> torch.nn.Module:
    torch.manual_seed(0)
    small = {"n_filters_scale": 1, "attention": False, "probe_big": False}
    return GENERATORS["cnn"](ModelConfig(**(small | settings)))


def _input(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("settings", "peer"),
    [
        ({"n_filters_scale": 1}, 586_790),
        ({}, 2_339_892),
        ({"N": 128}, 4_727_896),
    ],
)
def test_the_number_of_parameters_is_the_peers(settings: dict[str, int], peer: int):
    network = GENERATORS["cnn"](ModelConfig(**settings))
    assert sum(parameter.numel() for parameter in network.parameters()) == peer


def test_stacked_patterns_need_about_as_many_parameters_as_the_peer():
    network = GENERATORS["cnn"](ModelConfig(gridsize=2, object_big=False))
    number = sum(parameter.numel() for parameter in network.parameters())
    assert number == pytest.approx(2_351_730, rel=0.01)


def test_each_doubling_of_the_frame_adds_a_stage_to_encoder_and_decoder():
    assert stage_widths(64, 2) == ([64, 128, 256], [128, 64])
    assert stage_widths(128, 2) == ([32, 64, 128, 256], [256, 128, 64])
    assert stage_widths(256, 2) == ([16, 32, 64, 128, 256], [512, 256, 128, 64])


@pytest.mark.parametrize(("N", "gridsize"), [(64, 1), (64, 2), (128, 2), (256, 1)])
def test_every_pattern_of_a_group_gets_a_patch(N: int, gridsize: int):
    patches = _build(N=N, gridsize=gridsize)(_input(2, gridsize**2, N, N))
    assert patches.shape == (2, gridsize**2, N, N)
    assert patches.dtype == torch.complex64


def test_a_group_shares_one_patch_when_object_big_is_off():
    network = _build(gridsize=2, object_big=False)
    assert network(_input(3, 4, 64, 64)).shape == (3, 1, 64, 64)


def test_a_patch_depends_on_its_own_pattern_alone():
    network, images = _build(gridsize=2), _input(1, 4, 64, 64)
    others = images.clone()
    others[:, 1:] = 0.5
    torch.testing.assert_close(network(images)[:, 0], network(others)[:, 0])


def test_the_order_of_the_patterns_is_the_order_of_the_patches():
    network, images = _build(gridsize=2), _input(1, 4, 64, 64)
    torch.testing.assert_close(network(images.flip(1)), network(images).flip(1))


@pytest.mark.parametrize("activation", ["sigmoid", "swish", "softplus", "relu"])
def test_an_untrained_network_shows_the_amplitude_level_and_no_phase(activation: str):
    network = _build(amp_activation=activation, amplitude_level=0.7)
    patches = network(torch.zeros(1, 1, 64, 64))[..., 16:48, 16:48]
    torch.testing.assert_close(patches, torch.full_like(patches, 0.7))


def test_every_amplitude_activation_is_honoured():
    images = 40 * _input(1, 1, 64, 64)
    outputs = {
        name: _build(amp_activation=name)(images).abs() for name in ("sigmoid", "swish", "softplus", "relu")
    }
    names = list(outputs)
    for position, name in enumerate(names):
        for other in names[:position]:
            assert not torch.allclose(outputs[name], outputs[other], atol=1e-4)


def test_an_unknown_activation_is_refused():
    with pytest.raises(ConfigError, match="amp_activation"):
        ModelConfig(amp_activation="tanh")


def test_the_border_branch_does_not_exist_when_probe_big_is_off():
    network = _build(probe_big=False)
    assert not [name for name, _ in network.named_parameters() if "border" in name]
    outer = network(_input(1, 1, 64, 64)).clone()
    outer[..., 16:48, 16:48] = 0
    assert not outer.any()


def test_the_border_branch_fills_the_outer_frame_and_leaves_the_centre_alone():
    network = _build(probe_big=True)
    images = _input(1, 1, 64, 64)
    before = network(images)
    assert (before.abs() > 0).all()
    torch.nn.init.constant_(network.amplitude.border[-1].bias, 3.0)
    after = network(images)
    assert torch.equal(before[..., 16:48, 16:48], after[..., 16:48, 16:48])
    assert not torch.isclose(before[..., :16, :], after[..., :16, :]).any()


@pytest.mark.parametrize("settings", [{}, {"attention": True}, {"probe_big": True}, {"object_big": False}])
def test_every_parameter_gets_a_gradient(settings: dict[str, bool]):
    network = _build(gridsize=2, **settings)
    patches = network(_input(2, 4, 64, 64))
    (patches.real * _input(*patches.shape)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_the_network_is_the_same_for_the_same_seed():
    first, second = _build(attention=True).state_dict(), _build(attention=True).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
