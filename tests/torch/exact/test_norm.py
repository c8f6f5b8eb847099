from __future__ import annotations

import math

import pytest
import torch

from ptycho_torch.exact.norm import gradient_norm


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_norm_is_that_of_all_gradients_together_which_stay_as_they_are(dtype: torch.dtype) -> None:
    gradients = [torch.tensor([3.0, -4.0], dtype=dtype), torch.tensor([[12.0]], dtype=dtype)]
    parameters = [torch.nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    without = torch.nn.Parameter(torch.zeros(3))
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    assert gradient_norm([*parameters, without]) == 13
    for parameter, gradient in zip(parameters, gradients, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradient)


def test_the_norm_of_single_precision_gradients_is_summed_in_double_precision() -> None:
    parameter = torch.nn.Parameter(torch.zeros(3))
    parameter.grad = torch.tensor([1e30, 1e-20, 1e30])
    assert gradient_norm([parameter]) == pytest.approx(math.sqrt(2) * 1e30)
    assert gradient_norm([]) == 0
