"""Digests of a handful of operations: the fingerprint of the arithmetic that a process computes with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as nn_functional
from torch.optim.adam import adam

from ptycho_torch.exact.digest import tensor_digest
from ptycho_torch.exact.seeding import generator

_SIDE = 24
_CHANNELS = 16


def known_answer_test() -> dict[str, str]:
    """Compute a handful of operations on fixed inputs and digest what comes out.

    Two processes that agree in all of them compute with the same kernels. Takes some milliseconds and
    leaves the global generators as they were.

    Returns
    -------
    dict
        Name of the operation to the digest of its result.
    """
    real, image = _inputs()
    weight = torch.from_numpy(_uniform("weight", (_CHANNELS, _CHANNELS, 3, 3)))
    waves = torch.complex(real, real.flip(-1))
    operations: dict[str, Callable[[], Tensor]] = {
        "conv2d": lambda: nn_functional.conv2d(image, weight, padding=1),
        "conv2d_channels_last": lambda: nn_functional.conv2d(
            image.to(memory_format=torch.channels_last),
            weight.to(memory_format=torch.channels_last),
            padding=1,
        ),
        "conv2d_backward_data": lambda: _conv2d_backward(image, weight, 0),
        "conv2d_backward_weights": lambda: _conv2d_backward(image, weight, 1),
        "max_pool2d": lambda: nn_functional.max_pool2d(image, 2),
        "matmul": lambda: real @ real.T,
        "interpolation": lambda: _interpolation(image),
        "bmm": lambda: torch.bmm(image[0], image[0].transpose(1, 2)),
        "fft2": lambda: torch.view_as_real(torch.fft.fft2(waves, norm="ortho")),
        "ifft2": lambda: torch.view_as_real(torch.fft.ifft2(waves, norm="ortho")),
        "complex_abs": waves.abs,
        "root_in_double": lambda: real.square().double().sqrt().float(),
        "exp": lambda: torch.exp(real),
        "log": lambda: torch.log(real.square() + 0.1),
        "sin": lambda: torch.sin(real * 9),
        "tanh": lambda: torch.tanh(real),
        "sigmoid": lambda: torch.sigmoid(real),
        "silu": lambda: nn_functional.silu(real),
        "softplus": lambda: nn_functional.softplus(real),
        "softmax": lambda: nn_functional.softmax(real, dim=-1),
        "cos": lambda: torch.cos(real * 9),
        "lgamma": lambda: torch.lgamma(real.abs() * 50 + 1),
        "lgamma_double": lambda: torch.lgamma(real.double().abs() * 50 + 1),
        "sum": lambda: image.sum(dim=(0, 1, 2, 3)),
        "mean_rows": lambda: image.mean(dim=(0, 2, 3)),
        "randn": _randn,
        "fused_adam": lambda: _fused_adam(weight),
        "numpy_exp": lambda: torch.from_numpy(np.exp(real.numpy())),
        "numpy_log": lambda: torch.from_numpy(np.log(np.abs(real.numpy()) + 0.1)),
        "numpy_matmul": lambda: torch.from_numpy(real.numpy() @ real.numpy().T),
        "numpy_product": lambda: _numpy_product(image),
        "numpy_complex_abs": lambda: torch.from_numpy(np.abs(waves.numpy())),
        "numpy_poisson": lambda: torch.from_numpy(generator(0, "known answers").poisson(80.0, 1000)),
    }
    return {name: tensor_digest({name: compute()}) for name, compute in operations.items()}


def _uniform(name: str, shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return generator(0, "known answers", name).uniform(-1, 1, shape).astype(np.float32)


def _inputs() -> tuple[Tensor, Tensor]:
    real = torch.from_numpy(_uniform("real", (4 * _SIDE, 4 * _SIDE)))
    image = torch.from_numpy(_uniform("image", (2, _CHANNELS, _SIDE, _SIDE)))
    return real, image


def _conv2d_backward(image: Tensor, weight: Tensor, which: int) -> Tensor:
    images, weights = (
        leaf.to(memory_format=torch.channels_last, copy=True).requires_grad_() for leaf in (image, weight)
    )
    with torch.enable_grad():
        loss = nn_functional.conv2d(images, weights, padding=1).square().mean()
    gradient: Tensor = torch.autograd.grad(loss, (images, weights)[which])[0]
    return gradient


def _numpy_product(image: Tensor) -> Tensor:
    # Not a matrix by its own transpose, which has other kernels, and longer than OpenBLAS takes at a time.
    rows = image.flatten(2).flatten(0, 1).numpy()
    return torch.from_numpy(rows[:8] @ rows[8:].T)


def _interpolation(image: Tensor) -> Tensor:
    # A patch is moved by one matrix for its rows and one for its columns.
    grid = torch.arange(_SIDE + 4, dtype=torch.float32)
    taps = torch.relu(1 - (grid[:, None] - grid[:_SIDE] - 1.3).abs())
    return taps @ image @ taps.T


def _randn() -> Tensor:
    return torch.randn(1000, generator=torch.Generator().manual_seed(0))


def _fused_adam(weight: Tensor) -> Tensor:
    # torch.optim.Adam itself would import torch's compiler, which takes seconds.
    leaf, moment, square = weight.clone(), torch.zeros_like(weight), torch.zeros_like(weight)
    steps = torch.zeros(())
    for number in range(1, 3):
        gradient = weight.flip(0) * number
        adam(
            [leaf],
            [gradient],
            [moment],
            [square],
            [],
            [steps],
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=1e-3,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )
    return leaf
