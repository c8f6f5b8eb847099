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


def test_an_upsampled_image_stays_in_the_layout_that_convolutions_like():
    image = torch.zeros(2, 8, 4, 4).to(memory_format=torch.channels_last)
    assert _layer(8, 6).float()(image).is_contiguous(memory_format=torch.channels_last)
