"""The lengths of two steps: those that leave least of the residual."""

from __future__ import annotations

import pytest
import torch

from ptycho_torch.step_lengths import best_lengths


def waves(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 2, 8, 8, dtype=torch.complex64, generator=generator)


def test_a_residual_that_two_changes_make_up_gives_back_their_lengths() -> None:
    first, second = waves(0), waves(1) + 0.5 * waves(0)
    assert best_lengths(first, second, 0.7 * first - 1.3 * second) == pytest.approx((0.7, -1.3), rel=1e-5)


def test_the_lengths_leave_what_neither_change_can_lower() -> None:
    first, second, residual = waves(0), waves(1), waves(2)
    one, two = best_lengths(first, second, residual)
    left = residual - one * first - two * second
    for change in (first, second):
        assert abs(torch.sum(left.conj() * change).real) < 1e-3
    alone, none = best_lengths(first, None, residual)
    assert none == 0
    assert abs(torch.sum((residual - alone * first).conj() * first).real) < 1e-3


def test_a_change_of_nothing_goes_nowhere() -> None:
    assert best_lengths(torch.zeros_like(waves(0)), None, waves(1)) == (0.0, 0.0)
    assert best_lengths(torch.zeros_like(waves(0)), waves(1), waves(1))[0] == 0.0
