"""The distances that a refinement descends, against automatic differentiation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ptycho_torch.misfits import DARK_COUNTS, MISFITS

SHAPE = (3, 8, 8)


def scene() -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(2)
    field = 5 * (rng.normal(size=SHAPE) + 1j * rng.normal(size=SHAPE))
    counts = rng.poisson(np.abs(field) ** 2).astype(np.float64)
    return torch.from_numpy(field), torch.from_numpy(np.sqrt(counts))


def intensity_of(field: Tensor) -> Tensor:
    return field.real**2 + field.imag**2


@pytest.mark.parametrize("name", ["amplitude", "poisson"])
def test_the_factor_gives_the_gradient_in_the_conjugate_field(name: str) -> None:
    field, amplitude = scene()
    leaf = field.clone().requires_grad_()
    intensity = intensity_of(leaf)
    counts = amplitude**2
    loss = {
        "amplitude": ((intensity.sqrt() - amplitude) ** 2).sum(),
        "poisson": (intensity - counts * torch.log(intensity)).sum(),
    }[name]
    (gradient,) = torch.autograd.grad(loss, leaf)
    factor, _ = MISFITS[name](intensity_of(field).float(), amplitude.float(), None)
    # torch's gradient is twice the derivative in the conjugate; the Poisson one is softened in the dark.
    softened = counts * DARK_COUNTS / intensity_of(field) ** 2 if name == "poisson" else torch.zeros(())
    assert ((factor - (gradient / (2 * field)).real).abs() <= softened + 1e-4).all()


@pytest.mark.parametrize("name", list(MISFITS))
def test_a_perfect_prediction_has_no_misfit_and_no_gradient(name: str) -> None:
    _, amplitude = scene()
    factor, total = MISFITS[name]((amplitude**2).float(), amplitude.float(), None)
    is_bright = amplitude > 1
    assert total == pytest.approx(0, abs=1e-3)
    assert float(factor[is_bright].abs().max()) <= DARK_COUNTS


@pytest.mark.parametrize("name", list(MISFITS))
def test_a_pixel_that_is_not_used_counts_for_nothing(name: str) -> None:
    field, amplitude = scene()
    used = torch.ones(SHAPE[1:])
    used[2, 3] = 0
    intensity = intensity_of(field).float()
    factor, total = MISFITS[name](intensity, amplitude.float() * used, used)
    intensity[:, 2, 3] = 1e6
    other, same = MISFITS[name](intensity, amplitude.float() * used, used)
    assert total == same
    assert torch.equal(factor, other)
    assert not factor[:, 2, 3].any()
