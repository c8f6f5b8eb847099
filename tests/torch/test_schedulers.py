from __future__ import annotations

import math

import pytest
import torch
from torch.optim import Adam

from ptycho_torch.config import TrainingConfig
from ptycho_torch.errors import ConfigError
from ptycho_torch.schedulers import SCHEDULERS

STEPS = 5


def _rates(name: str, losses: list[float] | None = None, **settings: object) -> list[float]:
    """Learning rate of the first step of every epoch, and of the last step of all."""
    training = TrainingConfig(n_groups=40, **({"epochs": 6} | settings))
    optimizer = Adam([torch.nn.Parameter(torch.zeros(1))], lr=1e-3, fused=True)
    made = SCHEDULERS[name](optimizer, training, STEPS, "val_loss")
    rates = []
    for epoch in range(training.epochs):
        for step in range(STEPS):
            rates.append((step, optimizer.param_groups[0]["lr"]))
            optimizer.step()
            if made is not None and made["interval"] == "step":
                made["scheduler"].step()
        if made is not None and made["interval"] == "epoch":
            metric = [losses[epoch]] if "monitor" in made else []
            made["scheduler"].step(*metric)
    return [rate for step, rate in rates if step == 0] + [rates[-1][1]]


def test_default_keeps_the_rate():
    assert _rates("Default") == [1e-3] * 7


def test_exponential_multiplies_the_rate_after_every_epoch():
    expected = [1e-3 * 0.9**epoch for epoch in range(6)]
    assert _rates("Exponential", exponential_gamma=0.9)[:6] == pytest.approx(expected)


def test_multi_stage_changes_at_thirds():
    assert _rates("MultiStage")[:6] == pytest.approx([1e-3, 1e-3, 3e-4, 3e-4, 1e-4, 1e-4])


def test_multi_stage_changes_at_the_epochs_that_were_named():
    rates = _rates("MultiStage", stage_epochs=(1,), stage_factors=(1.0, 0.5))
    assert rates[:6] == pytest.approx([1e-3] + [5e-4] * 5)


def test_warmup_cosine_rises_and_then_falls_to_the_smallest_ratio():
    rates = _rates("WarmupCosine", lr_warmup_epochs=1.0, lr_min_ratio=0.1)
    assert rates[0] == pytest.approx(1e-3 / 6)
    assert rates[1] == pytest.approx(1e-3)
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert rates[-1] == pytest.approx(1e-4)


def test_warmup_cosine_without_warmup_is_a_cosine_over_all_steps():
    rates = _rates("WarmupCosine", lr_min_ratio=0.0)
    expected = [1e-3 * (1 + math.cos(math.pi * epoch * STEPS / 29)) / 2 for epoch in range(6)]
    assert rates[:6] == pytest.approx(expected)
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)


def test_warmup_may_last_a_fraction_of_an_epoch():
    rates = _rates("WarmupCosine", lr_warmup_epochs=0.4)
    assert rates[0] == pytest.approx(1e-3 / 3)
    assert rates[1] > rates[0]


@pytest.mark.parametrize("epochs", [1, 3, 6, 50])
def test_a_warmup_that_is_a_fraction_follows_the_epochs(epochs: int):
    given = {"epochs": epochs, "lr_min_ratio": 0.1}
    by_fraction = _rates("WarmupCosine", lr_warmup_fraction=0.4, **given)
    assert by_fraction == _rates("WarmupCosine", lr_warmup_epochs=0.4 * epochs, **given)
    assert by_fraction != _rates("WarmupCosine", **given)


def test_a_warmup_that_is_given_twice_is_refused():
    with pytest.raises(ConfigError, match=r"lr_warmup_fraction: stands beside lr_warmup_epochs \(0.5\)"):
        TrainingConfig(n_groups=8, lr_warmup_fraction=0.1, lr_warmup_epochs=0.5)


def test_plateau_lowers_the_rate_when_the_metric_stops_falling():
    rates = _rates("ReduceLROnPlateau", losses=[3.0, 2.0, 2.0, 2.0, 2.0, 2.0], plateau_patience=1)
    assert rates[:6] == pytest.approx([1e-3, 1e-3, 1e-3, 1e-3, 5e-4, 5e-4])


def test_plateau_never_falls_below_its_smallest_rate():
    rates = _rates(
        "ReduceLROnPlateau",
        losses=[1.0] * 12,
        epochs=12,
        plateau_patience=0,
        plateau_factor=0.1,
        plateau_min_lr=4e-4,
    )
    assert min(rates) == pytest.approx(4e-4)


def test_an_unknown_scheduler_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="did you mean 'WarmupCosine'"):
        SCHEDULERS["warmupcosine"]
