"""How far to go along two changes of the exit waves."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["best_lengths", "floored", "quotient", "two_lengths"]


def best_lengths(by_object: Tensor, by_probe: Tensor | None, residual: Tensor) -> tuple[float, float]:
    """Find by least squares how much of both changes makes up the residual.

    Parameters
    ----------
    by_object, by_probe
        Changes of the exit waves by a whole step of the object and of the probe; None where the probe stays.
    residual
        What the exit waves are to lose, of their shape.

    Returns
    -------
    tuple of float
        Lengths of the object's step and of the probe's; 0 for a step that changes nothing.
    """
    a, c = _inner(by_object, by_object), _inner(by_object, residual)
    if by_probe is None:
        return quotient(c, a), 0.0
    b, d, e = _inner(by_probe, by_probe), _inner(by_object, by_probe), _inner(by_probe, residual)
    return two_lengths(a, b, d, c, e)


def two_lengths(a: float, b: float, both: float, to_a: float, to_b: float) -> tuple[float, float]:
    """Solve the normal equations of two lengths.

    Parameters
    ----------
    a, b, both
        Products of the first change with itself, of the second with itself, and of the two.
    to_a, to_b
        Products of both with what they are to make up.
    """
    determinant = a * b - both * both
    return quotient(to_a * b - to_b * both, determinant), quotient(to_b * a - to_a * both, determinant)


def quotient(numerator: float, denominator: float) -> float:
    """Divide; 0 where there is nothing to divide by."""
    return numerator / denominator if denominator > 0 else 0.0


def floored(weight: Tensor, floor: float) -> Tensor:
    """Return the preconditioner of a step: the light on every pixel, and a share of the largest besides."""
    return (1 - floor) * weight + floor * weight.max()


def _inner(first: Tensor, second: Tensor) -> float:
    return float((first.real * second.real + first.imag * second.imag).sum(dtype=torch.float64))
