from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from ptycho_torch.models.blocks import UpsamplingConvolution, convolution


def _layer(inputs: int, outputs: int) -> UpsamplingConvolution:
    torch.manual_seed(0)
    layer = convolution(inputs, outputs, is_upsampling=True).double()
    torch.nn.init.normal_(layer.bias)
    return layer


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (1, 1, 5, 3)])
def test_upsampling_and_convolving_at_once_is_one_after_the_other(shape: tuple[int, ...]):
    layer = _layer(shape[1], 6)
    image = torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    image.requires_grad_()
    large = F.interpolate(image, scale_factor=2, mode="nearest")
    wanted, found = F.conv2d(large, layer.weight, layer.bias, padding=1), layer(image)
    torch.testing.assert_close(found, wanted)
    leaves = [image, *layer.parameters()]
    for a, b in zip(
        torch.autograd.grad(found.square().sum(), leaves),
        torch.autograd.grad(wanted.square().sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_the_gradients_of_an_upsampling_are_those_of_finite_differences():
    layer = _layer(2, 3)
    names = [name for name, _ in layer.named_parameters()]

    def upsampled(image: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), (image,))

    image = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    leaves = [image, *(parameter.detach() for parameter in layer.parameters())]
    assert torch.autograd.gradcheck(upsampled, [leaf.requires_grad_() for leaf in leaves])


def test_an_upsampled_image_may_be_changed_in_place():
    layer = _layer(2, 3)
    image = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    image.requires_grad_()
    wanted, found = torch.relu(layer(image)), torch.relu_(layer(image))
    leaves = [image, *layer.parameters()]
    for a, b in zip(
        torch.autograd.grad(found.square().sum(), leaves),
        torch.autograd.grad(wanted.square().sum(), leaves),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_a_rectified_upsampling_has_the_bits_of_one_that_is_rectified_afterwards():
    layer = _layer(2, 3).float()
    image = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    leaves = [image, *layer.parameters()]
    plain = torch.relu(layer(image))
    wanted = [plain, *torch.autograd.grad(plain.square().sum(), leaves)]
    layer.is_rectified = True
    rectified = layer(image)
    assert (rectified == 0).any()
    assert (rectified > 0).any()
    found = [rectified, *torch.autograd.grad(rectified.square().sum(), leaves)]
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_an_upsampled_image_stays_in_the_layout_that_convolutions_like():
    image = torch.zeros(2, 8, 4, 4).to(memory_format=torch.channels_last)
    assert _layer(8, 6).float()(image).is_contiguous(memory_format=torch.channels_last)
