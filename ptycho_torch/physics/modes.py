"""Incoherent modes of a probe: more of them, and the one set of them that is orthogonal."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["orthogonal_modes", "with_added_modes"]

_SHARE = 0.2
"""Norm of an added mode over the first one's."""
_SWEEPS = 30
_ORTHOGONAL = 1e-12
"""Overlap of two modes, over their powers' geometric mean, below which they count as orthogonal."""

Modes = NDArray[np.complex64]


def with_added_modes(probe: Modes, count: int) -> Modes:
    """Give a probe more modes, weak ones: the first mode times Hermite polynomials of its coordinates.

    Parameters
    ----------
    probe
        Modes [M, N, N].
    count
        Number of modes wanted; a probe that has as many or more is returned as it is.

    Returns
    -------
    numpy.ndarray
        Modes [max(M, count), N, N], of the probe's power in all.
    """
    if count <= len(probe):
        return probe
    first = torch.from_numpy(probe[0]).to(torch.complex128)
    light = (first.real**2 + first.imag**2).numpy()
    axes = [_coordinate(light.sum(axis=1 - axis)) for axis in (0, 1)]
    modes = list(torch.from_numpy(probe).to(torch.complex128))
    for order in _orders(count - len(probe)):
        rows, columns = (_hermite(along, degree) for along, degree in zip(axes, order, strict=True))
        mode = first * torch.from_numpy(rows[:, None] * columns[None, :])
        modes.append(mode * (_SHARE * math.sqrt(_power(first) / _power(mode))))
    stack = torch.stack(modes)
    total = _power(torch.from_numpy(probe).to(torch.complex128))
    return np.asarray((stack * math.sqrt(total / _power(stack))).to(torch.complex64).numpy())


def _coordinate(light: NDArray[np.float64]) -> NDArray[np.float64]:
    index = np.arange(len(light), dtype=np.float64)
    index -= (light * index).sum() / light.sum()
    return index / math.sqrt((light * index**2).sum() / light.sum())


def _orders(count: int) -> list[tuple[int, int]]:
    pairs = ((total - column, column) for total in range(1, count + 1) for column in range(total + 1))
    return [pair for _, pair in zip(range(count), pairs, strict=False)]


def _hermite(x: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    before, value = np.zeros_like(x), np.ones_like(x)
    for k in range(order):
        before, value = value, x * value - k * before
    return value


def _power(modes: Tensor) -> float:
    return float((modes.real * modes.real + modes.imag * modes.imag).sum())


def orthogonal_modes(probe: Modes) -> Modes:
    """Mix the modes into orthogonal ones, strongest first; every predicted intensity stays as it is.

    The unitary matrix is found by Jacobi's rotations: a library's eigenvectors differ between processors.

    Parameters
    ----------
    probe
        Modes [M, N, N].

    References
    ----------
    Thibault & Menzel, Nature 494, 68 (2013): a mixed state does not change when its modes are mixed so.
    """
    modes = list(torch.from_numpy(probe.reshape(len(probe), -1)).to(torch.complex128))
    for _ in range(_SWEEPS):
        pairs = [(p, q) for q in range(len(modes)) for p in range(q)]
        if sum(_rotate(modes, p, q) for p, q in pairs) == 0:
            break
    powers = [_power(mode) for mode in modes]
    order = sorted(range(len(modes)), key=lambda number: (-powers[number], number))
    stack = torch.stack([modes[number] for number in order]).reshape(probe.shape)
    return np.asarray(stack.to(torch.complex64).numpy())


def _rotate(modes: list[Tensor], p: int, q: int) -> bool:
    first, second = modes[p], modes[q]
    real = float((first.real * second.real + first.imag * second.imag).sum())
    imaginary = float((first.real * second.imag - first.imag * second.real).sum())
    overlap = math.sqrt(real * real + imaginary * imaginary)
    powers = _power(first), _power(second)
    if overlap <= _ORTHOGONAL * math.sqrt(powers[0] * powers[1]):
        return False
    cotangent = (powers[1] - powers[0]) / (2 * overlap)
    tangent = (1.0 if cotangent >= 0 else -1.0) / (abs(cotangent) + math.sqrt(1 + cotangent * cotangent))
    cosine = 1 / math.sqrt(1 + tangent * tangent)
    phasor = complex(real, imaginary) / overlap
    modes[p] = cosine * first - (tangent * cosine * phasor.conjugate()) * second
    modes[q] = (tangent * cosine * phasor) * first + cosine * second
    return True
