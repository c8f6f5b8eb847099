from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from ptycho_torch.errors import ConfigError
from ptycho_torch.losses import LOSSES
from ptycho_torch.losses.mae import MAELoss, amplitude
from ptycho_torch.losses.poisson import PoissonLoss


def _counts(mean: float, *shape: int) -> torch.Tensor:
    return torch.poisson(torch.full(shape, mean), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", list(LOSSES))
def test_every_loss_is_smallest_at_the_measurement(name: str):
    measured = _counts(50.0, 2, 1, 8, 8)
    loss = LOSSES[name](mean_counts=3200.0)
    best = loss(measured, measured)
    assert best < loss(measured * 1.1, measured)
    assert best < loss(measured * 0.9 + 0.5, measured)


@pytest.mark.parametrize("name", list(LOSSES))
def test_every_loss_ignores_masked_pixels(name: str):
    measured, predicted = _counts(50.0, 2, 1, 8, 8), torch.full((2, 1, 8, 8), 40.0)
    mask = torch.ones(8, 8, dtype=torch.bool)
    mask[2, 3] = False
    broken = measured.clone()
    broken[..., 2, 3] = 1e9
    loss = LOSSES[name](mean_counts=3200.0)
    assert loss(predicted, measured, mask) == loss(predicted, broken, mask)
    assert loss(predicted, measured, mask) != loss(predicted, measured)


@pytest.mark.parametrize("name", list(LOSSES))
def test_every_loss_averages_over_patterns(name: str):
    measured, predicted = _counts(50.0, 1, 1, 8, 8), torch.full((1, 1, 8, 8), 40.0)
    loss = LOSSES[name](mean_counts=3200.0)
    repeated = loss(predicted.repeat(3, 4, 1, 1), measured.repeat(3, 4, 1, 1))
    torch.testing.assert_close(repeated, loss(predicted, measured))


@pytest.mark.parametrize("name", list(LOSSES))
def test_every_loss_has_finite_gradients_where_prediction_or_counts_vanish(name: str):
    predicted = torch.tensor([[0.0, 0.0], [5.0, 1e-6]], requires_grad=True)
    measured = torch.tensor([[0.0, 9.0], [0.0, 4.0]])
    loss = LOSSES[name](mean_counts=13.0)(predicted, measured)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(predicted.grad).all()


def test_poisson_is_the_negative_log_likelihood_of_the_counts():
    rate, counts = torch.rand(2, 1, 8, 8) * 30 + 0.5, _counts(12.0, 2, 1, 8, 8)
    expected = -stats.poisson.logpmf(counts.numpy(), rate.double().numpy()).sum() / (2 * 640.0)
    assert PoissonLoss(640.0)(rate, counts).item() == pytest.approx(expected, rel=1e-5)


def test_poisson_keeps_a_difference_of_one_standard_deviation_at_high_counts():
    counts = torch.full((1, 1, 16, 16), 1e5)
    total = 256 * 1e5
    loss = PoissonLoss(total)
    sigma = math.sqrt(1e5)
    rise = (loss(counts + sigma, counts) - loss(counts, counts)).item() * total
    assert rise == pytest.approx(256 / 2, rel=0.03)


def test_the_gradient_of_poisson_is_one_minus_counts_over_rate():
    rate = torch.tensor([[4.0, 10.0], [1.0, 2.0]], requires_grad=True)
    PoissonLoss(1.0)(rate, torch.tensor([[8.0, 5.0], [1.0, 0.0]])).backward()
    torch.testing.assert_close(rate.grad, torch.tensor([[1 - 2.0, 1 - 0.5], [0.0, 1.0]]))


def test_a_rate_of_zero_counts_as_the_smallest_rate():
    loss = PoissonLoss(1.0)
    counts = torch.ones(1, 1)
    assert loss(torch.zeros(1, 1), counts).item() == pytest.approx(1e-8 - math.log(1e-8), rel=1e-5)


def test_mae_is_the_mean_absolute_difference_of_amplitudes_in_its_unit():
    predicted, measured = torch.full((1, 4, 4), 9.0), torch.full((1, 4, 4), 25.0)
    assert MAELoss(16 * 25.0)(predicted, measured).item() == pytest.approx(16 * 2 / (4 * 20.0))


def test_the_amplitude_is_the_correctly_rounded_root():
    intensity = torch.rand(20_000, generator=torch.Generator().manual_seed(2)) * 1e6
    exact = intensity.double().numpy() ** 0.5
    assert torch.equal(amplitude(intensity), torch.from_numpy(exact).float())


def test_the_amplitude_has_the_derivative_of_a_root():
    intensity = torch.tensor([0.25, 4.0, 100.0], requires_grad=True)
    amplitude(intensity).sum().backward()
    torch.testing.assert_close(intensity.grad, torch.tensor([1.0, 0.25, 0.05]))


def test_an_unknown_loss_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="did you mean 'poisson'"):
        LOSSES["poison"]
