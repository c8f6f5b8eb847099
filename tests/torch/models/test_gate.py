from __future__ import annotations

import torch

from ptycho_torch.models.gate import AttentionGate


def _features(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def _gate(channels: int) -> AttentionGate:
    torch.manual_seed(0)
    return AttentionGate(channels).double()


def _plain(gate: AttentionGate, features: torch.Tensor) -> torch.Tensor:
    pooled = torch.stack([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))])[..., None, None]
    pair = gate.excite(torch.relu(gate.squeeze(pooled.flatten(0, 1))))
    features = features * torch.sigmoid(pair.unflatten(0, (2, -1)).sum(dim=0))
    summary = torch.cat([features.mean(dim=1, keepdim=True), features.amax(dim=1, keepdim=True)], dim=1)
    return features * torch.sigmoid(gate.spatial(summary))


def test_the_gate_only_attenuates():
    features = _features(2, 32, 16, 16).abs()
    gated = _gate(32)(features)
    assert ((gated > 0) & (gated < features)).all()


def test_the_gate_and_its_gradients_are_those_of_plain_modules():
    gate, leaf = _gate(32), _features(3, 32, 8, 8).requires_grad_()
    weight = _features(3, 32, 8, 8).flip(0)
    wanted_value, value = _plain(gate, leaf), gate(leaf)
    leaves = [leaf, *gate.parameters()]
    wanted = torch.autograd.grad((wanted_value * weight).sum(), leaves)
    found = torch.autograd.grad((value * weight).sum(), leaves)
    torch.testing.assert_close(value, wanted_value)
    assert all(gradient.any() for gradient in found)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_equal_peaks_share_their_gradient():
    gate, leaf = _gate(16), torch.relu(_features(2, 16, 6, 6)).round().requires_grad_()
    wanted = torch.autograd.grad(_plain(gate, leaf).square().sum(), leaf)[0]
    torch.testing.assert_close(torch.autograd.grad(gate(leaf).square().sum(), leaf)[0], wanted)


def test_the_gradients_of_the_gate_are_those_of_finite_differences():
    gate = _gate(4)
    leaves = [_features(2, 4, 5, 4), *(parameter.detach() for parameter in gate.parameters())]
    names = [name for name, _ in gate.named_parameters()]

    def gated(features: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(gate, dict(zip(names, weights, strict=True)), (features,))

    assert torch.autograd.gradcheck(gated, [leaf.requires_grad_() for leaf in leaves])
