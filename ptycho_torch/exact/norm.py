"""The norm of a gradient, the same on every processor."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

__all__ = ["gradient_norm"]


def gradient_norm(parameters: Iterable[torch.nn.Parameter]) -> float:
    """Return the Euclidean norm of all gradients together; parameters without one are left out.

    It is summed in double precision, and the root is taken outside torch, whose own depends on the processor.
    On a card each gradient's own root is torch's.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return 0.0
    if gradients[0].is_cuda:  # where each of so many calls would cost more than what it computes
        norms: list[float] = torch.stack(torch._foreach_norm(gradients, 2, torch.float64)).tolist()
        return math.sqrt(sum(norm * norm for norm in norms))
    precise = (gradient.to(torch.float64, copy=True) for gradient in gradients)
    squares: list[float] = torch.stack([one.square_().sum() for one in precise]).tolist()
    return math.sqrt(sum(squares))
