"""Rectified linear units for what is copied into place anyway: no pass over memory of their own."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["put", "put_gradient"]


def put(values: Tensor, into: Tensor, *, is_rectified: bool) -> None:
    """Copy values, in place of negative ones zeros if asked for."""
    torch.clamp_min(values, 0, out=into) if is_rectified else into.copy_(values)


def put_gradient(gradient: Tensor, into: Tensor, rectified: Tensor | None) -> None:
    """Copy the gradient of what :func:`put` has copied, given what became of it if that was rectified."""
    if rectified is None:
        into.copy_(gradient)
    else:
        torch.ops.aten.threshold_backward.grad_input(gradient, rectified, 0, grad_input=into)
