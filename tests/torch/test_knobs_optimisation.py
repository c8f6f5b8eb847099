"""What the optimisation knobs change, seen in weights, gradients and metrics of real trainings."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from ptycho_torch.readers import Scan
from ptycho_torch.training import TrainingResult
from tests.torch.small_training import ONE_STEP, MakePayload, column, epochs_of, fit

LR = 2e-3
BARE = {"enable_checkpointing": False}
"""Writing checkpoints takes longer than the steps."""


def gradient(result: TrainingResult) -> torch.Tensor:
    """Return what the only step was made with: Adam's first moment is a tenth of it."""
    [optimizer] = result.trainer.optimizers
    assert steps_taken(result) == {1}
    moments = [optimizer.state[weight]["exp_avg"].flatten() for weight in result.module.parameters()]
    return torch.cat(moments).double() * 10


def steps_taken(result: TrainingResult) -> set[int]:
    [optimizer] = result.trainer.optimizers
    return {int(state["step"]) for state in optimizer.state.values()}


@pytest.mark.parametrize("rate", [1e-4, 1e-3])
def test_the_first_step_moves_the_weights_by_the_learning_rate(
    make_payload: MakePayload, scan: Scan, rate: float
) -> None:
    still = fit(make_payload(ONE_STEP, learning_rate=1e-30, **BARE), scan).module.state_dict()
    moved = fit(make_payload(ONE_STEP, learning_rate=rate, **BARE), scan).module.state_dict()
    # Adam's first step is the rate times the gradient's sign, but for gradients as small as its epsilon.
    longest = max(float((moved[name] - still[name]).abs().max()) for name in still)
    assert longest == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize(
    ("scheduler", "settings", "factors"),
    [
        ("Default", {}, [1, 1, 1, 1, 1, 1]),
        ("Exponential", {"exponential_gamma": 0.5}, [1, 0.5, 0.25, 0.125, 0.0625, 0.03125]),
        ("MultiStage", {}, [1, 1, 0.3, 0.3, 0.1, 0.1]),
        ("MultiStage", {"stage_epochs": [1], "stage_factors": [1.0, 0.5]}, [1, 0.5, 0.5, 0.5, 0.5, 0.5]),
        (
            "WarmupCosine",
            {"lr_warmup_epochs": 2.0, "lr_min_ratio": 0.2},
            [1 / 3, 2 / 3, *(0.2 + 0.4 * (1 + math.cos(math.pi * done / 3)) for done in range(4))],
        ),
    ],
    ids=["Default", "Exponential", "MultiStage", "MultiStage by name", "WarmupCosine"],
)
def test_the_rate_of_every_epoch_is_the_schedulers(
    make_payload: MakePayload, scan: Scan, scheduler: str, settings: dict[str, Any], factors: list[float]
) -> None:
    payload = make_payload(ONE_STEP | {"epochs": 6} | settings, scheduler=scheduler, learning_rate=LR, **BARE)
    fit(payload, scan)
    assert column(payload, "learning_rate") == pytest.approx([LR * factor for factor in factors])


def test_the_rate_falls_when_the_monitored_loss_no_longer_does(make_payload: MakePayload, scan: Scan) -> None:
    # At this rate no weight moves enough to count as progress.
    settings = ONE_STEP | {"epochs": 5, "plateau_patience": 1, "plateau_min_lr": 3e-7}
    payload = make_payload(settings, scheduler="ReduceLROnPlateau", learning_rate=1e-6, **BARE)
    fit(payload, scan)
    assert column(payload, "learning_rate") == pytest.approx([1e-6, 1e-6, 1e-6, 5e-7, 5e-7])


def test_the_last_step_of_a_cosine_has_the_smallest_rate_under_accumulation_too(
    make_payload: MakePayload, scan: Scan
) -> None:
    settings = {"epochs": 2, "batch_size": 2, "lr_min_ratio": 0.25, "n_groups": 10}
    payload = make_payload(settings, scheduler="WarmupCosine", learning_rate=LR, accum_steps=2, **BARE)
    result = fit(payload, scan)
    assert result.steps == 6
    assert result.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(LR * 0.25)


def test_gradients_are_scaled_to_the_norm_that_was_asked_for(make_payload: MakePayload, scan: Scan) -> None:
    free = gradient(fit(make_payload(ONE_STEP, **BARE), scan))
    limit = float(free.norm()) / 4
    clipped = gradient(fit(make_payload(ONE_STEP, gradient_clip_val=limit, **BARE), scan))
    assert float(clipped.norm()) == pytest.approx(limit, rel=1e-5)
    torch.testing.assert_close(clipped, free / 4, rtol=1e-5, atol=0)
    wide = gradient(fit(make_payload(ONE_STEP, gradient_clip_val=8 * limit, **BARE), scan))
    assert torch.equal(wide, free)


@pytest.mark.parametrize(("accum_steps", "steps"), [(1, 5), (2, 3), (3, 2), (7, 1)])
def test_so_many_batches_make_one_step_and_a_window_cut_short_by_the_epoch_still_steps(
    make_payload: MakePayload, scan: Scan, accum_steps: int, steps: int
) -> None:
    payload = make_payload({"n_groups": 10, "batch_size": 2, "epochs": 2}, accum_steps=accum_steps, **BARE)
    result = fit(payload, scan)
    assert result.steps == 2 * steps
    assert steps_taken(result) == {2 * steps}
    assert [int(row["step"]) for row in epochs_of(payload)] == [steps, 2 * steps]


def test_two_half_batches_accumulate_to_the_gradient_of_the_whole(
    make_payload: MakePayload, scan: Scan
) -> None:
    whole = gradient(fit(make_payload(ONE_STEP, **BARE), scan))
    halves = gradient(fit(make_payload(ONE_STEP | {"batch_size": 2}, accum_steps=2, **BARE), scan))
    assert float((halves - whole).norm() / whole.norm()) < 1e-4
    half = gradient(fit(make_payload(ONE_STEP | {"n_groups": 2}, **BARE), scan))
    assert float((half - whole).norm() / whole.norm()) > 1e-2
