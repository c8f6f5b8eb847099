"""Losses whose gradients are computed together with them, instead of in the backward pass that follows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ptycho_torch.side_by_side import SideBySide

__all__ = ["Differentiated", "sum_of_losses"]


def sum_of_losses(
    losses: Sequence[Callable[[], Tensor]],
    parameters: Sequence[Tensor],
    side_by_side: SideBySide | None = None,
) -> tuple[Tensor, Sequence[Tensor]]:
    """Add losses up, each differentiated as soon as it is known: only graphs of those side by side exist."""
    values: list[Tensor] = []
    sums: Sequence[Tensor] = ()
    differentiated = [functools.partial(_differentiated, compute, parameters) for compute in losses]
    for value, gradients in (side_by_side or SideBySide())(differentiated):
        values.append(value)
        # Not in place: two parameters may have been given one and the same gradient.
        pairs = zip(sums, gradients, strict=True)
        sums = [total + gradient for total, gradient in pairs] if sums else gradients
    return torch.stack(values).sum(), sums


def _differentiated(
    compute: Callable[[], Tensor], parameters: Sequence[Tensor]
) -> tuple[Tensor, Sequence[Tensor]]:
    with torch.enable_grad():
        value = compute()
    return value.detach(), torch.autograd.grad(value, parameters, materialize_grads=True)


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
