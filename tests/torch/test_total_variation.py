from __future__ import annotations

import math

import pytest
import torch

from ptycho_torch.losses.poisson import PoissonLoss
from ptycho_torch.physics.forward import ForwardModel
from ptycho_torch.physics.probe import disk_probe
from ptycho_torch.total_variation import total_variation

N = 64


def test_an_object_that_does_not_change_has_none():
    assert total_variation(torch.full((2, 3, N, N), 0.3 + 0.4j), N) == 0


@pytest.mark.parametrize("axis", [0, 1])
def test_a_phase_that_rises_along_an_axis_counts_by_its_step(axis: int):
    phase = 0.2 * torch.arange(N).reshape((N, 1) if axis == 0 else (1, N)).expand(N, N)
    found = total_variation(torch.polar(torch.full((N, N), 0.5), phase)[None, None], N)
    assert float(found) == pytest.approx(0.5 * 2 * math.sin(0.1), abs=1.1e-3)


def test_a_step_of_the_amplitude_counts_where_it_is():
    patch = torch.ones(1, 1, N, N, dtype=torch.complex64)
    patch[..., 20:] = 3
    assert float(total_variation(patch, N)) == pytest.approx(2 / (N - 1), rel=1e-3)


def test_a_global_phase_changes_nothing():
    patches = torch.randn(2, 1, N, N, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(total_variation(patches * 1j, N), total_variation(patches, N))


def test_what_lies_outside_the_window_and_its_edge_do_not_count():
    patch = torch.zeros(1, 1, N, N, dtype=torch.complex64)
    patch[..., 16:48, 16:48] = 0.5
    assert total_variation(patch, N // 2) == 0
    assert total_variation(patch, N) > 0


def test_it_has_a_derivative_everywhere_also_where_the_object_is_flat_or_zero():
    patches = torch.randn(2, 1, 6, 6, dtype=torch.complex128, generator=torch.Generator().manual_seed(1))
    patches[0] = 0
    patches[1, 0, :3] = 0.5
    patches.requires_grad_()
    assert torch.autograd.gradcheck(lambda one: total_variation(one, 6), patches, eps=1e-7, atol=1e-5)


def test_the_object_behind_noisy_frames_is_smoother_the_more_it_weighs():
    generator = torch.Generator().manual_seed(2)
    model = ForwardModel(disk_probe(N, radius_px=20, edge_px=2, curvature_waves=1.0), 1e4)
    truth = torch.full((2, 1, N, N), 0.5, dtype=torch.complex64)
    truth[..., 32:, :] *= 1j
    counts = torch.poisson(model(truth, torch.zeros(2, 1, 2)), generator=generator)
    loss = PoissonLoss(mean_counts=float(counts.sum() / 2))

    def smoothness(weight: float) -> float:
        parts = torch.view_as_real(truth).clone().requires_grad_()
        optimizer = torch.optim.Adam([parts], lr=0.01)
        for _ in range(20):
            optimizer.zero_grad()
            patches = torch.view_as_complex(parts)
            misfit = loss(model(patches, torch.zeros(2, 1, 2)), counts)
            (misfit + weight * total_variation(patches, N // 2)).backward()
            optimizer.step()
        return float(total_variation(torch.view_as_complex(parts.detach()), N // 2))

    found = [smoothness(weight) for weight in (0.0, 0.1, 1.0)]
    assert found[0] > 1.1 * found[1]
    assert found[1] > 2 * found[2]
    assert found[2] == pytest.approx(float(total_variation(truth, N // 2)), abs=0.02)
