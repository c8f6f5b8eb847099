from __future__ import annotations

import numpy as np
import pytest

from ptycho_torch.physics.probe import annular_probe, central_power_fraction


def test_a_probe_has_unit_power():
    probe = annular_probe(64, pupil_radius_px=10, stop_fraction=0.4, defocus_waves=0.8)
    assert probe.shape == (1, 64, 64)
    assert np.sum(np.abs(probe) ** 2) == pytest.approx(1.0, rel=1e-5)


def test_the_probe_of_the_default_simulation_lies_in_the_central_half():
    probe = annular_probe(64, pupil_radius_px=10, stop_fraction=0.4, defocus_waves=0.8)
    assert central_power_fraction(probe) == pytest.approx(0.96, abs=0.01)


def test_the_pupil_is_an_annulus_on_the_detector():
    probe = annular_probe(64, pupil_radius_px=10, stop_fraction=0.5, defocus_waves=1.0)
    pupil = np.abs(np.fft.fftshift(np.fft.fft2(probe[0])))
    assert pupil[32, 32] < 1e-3 * pupil.max()
    assert pupil[32, 32 + 7] == pytest.approx(pupil.max(), rel=1e-3)
    assert pupil[32, 32 + 12] < 1e-3 * pupil.max()


def test_more_defocus_spreads_the_probe():
    fractions = [
        central_power_fraction(annular_probe(64, pupil_radius_px=10, stop_fraction=0.4, defocus_waves=waves))
        for waves in (0.5, 1.0, 2.0)
    ]
    assert fractions == sorted(fractions, reverse=True)


def test_an_even_illumination_has_a_quarter_of_its_power_in_the_central_half():
    assert central_power_fraction(np.ones((2, 64, 64), np.complex64)) == pytest.approx(0.25)
