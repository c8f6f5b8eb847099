from __future__ import annotations

import torch

from ptycho_torch.physics.propagation import far_field_intensity


def _waves(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(3))


def test_propagation_conserves_energy():
    waves = _waves(2, 3, 1, 32, 32)
    energy = waves.abs().square().sum(dim=(-3, -2, -1))
    torch.testing.assert_close(far_field_intensity(waves).sum(dim=(-2, -1)), energy)


def test_modes_add_in_intensity_and_not_in_amplitude():
    waves = _waves(1, 2, 32, 32)
    apart = far_field_intensity(waves[:, :1]) + far_field_intensity(waves[:, 1:])
    torch.testing.assert_close(far_field_intensity(waves), apart)
    cancelling = torch.cat([waves[:, :1], -waves[:, :1]], dim=1)
    torch.testing.assert_close(far_field_intensity(cancelling), 2 * far_field_intensity(waves[:, :1]))


def test_a_plane_wave_lands_on_the_zero_frequency():
    intensity = far_field_intensity(torch.ones(1, 16, 16, dtype=torch.complex64))
    assert intensity.argmax().item() == 8 * 16 + 8
    torch.testing.assert_close(intensity[8, 8].item(), 256.0)


def test_a_phase_ramp_of_one_period_moves_the_pattern_one_pixel_up_the_columns():
    ramp = torch.exp(2j * torch.pi * torch.arange(16) / 16).to(torch.complex64).expand(1, 16, 16)
    assert far_field_intensity(ramp).argmax().item() == 8 * 16 + 9


def test_a_point_spreads_evenly():
    wave = torch.zeros(1, 16, 16, dtype=torch.complex64)
    wave[0, 3, 5] = 4.0
    torch.testing.assert_close(far_field_intensity(wave), torch.full((16, 16), 16.0 / 256))
