"""Losses whose gradients are computed together with them, instead of in the backward pass that follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["Differentiated", "sum_of_losses"]


def sum_of_losses(
    losses: Sequence[Callable[[], Tensor]], parameters: Sequence[Tensor]
) -> tuple[Tensor, Sequence[Tensor]]:
    """Add losses up, each differentiated as soon as it is known: their graphs never exist together."""
    values: list[Tensor] = []
    sums: list[Tensor] = []
    for compute in losses:
        with torch.enable_grad():
            value = compute()
        gradients = torch.autograd.grad(value, parameters, materialize_grads=True)
        values.append(value.detach())
        # Not in place: two parameters may have been given one and the same gradient.
        sums = (
            [total + gradient for total, gradient in zip(sums, gradients, strict=True)]
            if sums
            else list(gradients)
        )
    return torch.stack(values).sum(), sums


class Differentiated(torch.autograd.Function):
    """A loss whose gradients are computed together with it."""

    @staticmethod
    def forward(
        ctx: Any, compute: Callable[[], tuple[Tensor, Sequence[Tensor]]], *parameters: Tensor
    ) -> Tensor:
        loss, gradients = compute()
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, *torch._foreach_mul(list(ctx.saved_tensors), gradients[0])
