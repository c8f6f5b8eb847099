from __future__ import annotations

import numpy as np
import pytest

from ptycho_torch.physics.probe import (
    annular_probe,
    central_power_fraction,
    disk_probe,
    gaussian_probe,
)


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


def test_the_defocus_is_a_quadratic_phase_of_the_pupil():
    probe = annular_probe(64, pupil_radius_px=12, stop_fraction=0.4, defocus_waves=0.7)[0]
    pupil = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(probe)))
    for radius in (6, 9, 11):
        turn = np.angle(pupil[32, 32 + radius] / pupil[32 + 7, 32])
        expected = 2 * np.pi * 0.7 * (radius**2 - 7**2) / 12**2
        assert np.exp(1j * turn) == pytest.approx(np.exp(1j * expected), abs=1e-4)


def test_more_defocus_spreads_the_probe():
    fractions = [
        central_power_fraction(annular_probe(64, pupil_radius_px=10, stop_fraction=0.4, defocus_waves=waves))
        for waves in (0.5, 1.0, 2.0)
    ]
    assert fractions == sorted(fractions, reverse=True)


def test_an_even_illumination_has_a_quarter_of_its_power_in_the_central_half():
    assert central_power_fraction(np.ones((2, 64, 64), np.complex64)) == pytest.approx(0.25)


def test_a_disk_is_even_inside_its_radius_and_dark_outside():
    probe = np.abs(disk_probe(64, radius_px=10, edge_px=0.5, curvature_waves=1.0)[0])
    radius = np.hypot(*(np.mgrid[:64, :64] - 31.5))
    assert np.ptp(probe[radius < 8]) < 1e-3 * probe.max()
    assert probe[radius > 12.5].max() < 1e-2 * probe.max()
    assert np.sum(probe**2) == pytest.approx(1.0, rel=1e-5)


def test_a_gaussian_beam_has_half_its_intensity_at_half_its_width():
    intensity = np.abs(gaussian_probe(64, fwhm_px=15, curvature_waves=0.3)[0]) ** 2
    row = intensity[32]
    assert np.interp(31.5 + 7.5, np.arange(64), row) == pytest.approx(row.max() / 2, rel=0.03)
    assert np.sum(intensity) == pytest.approx(1.0, rel=1e-5)


def test_the_curvature_is_the_phase_at_the_edge():
    probe = gaussian_probe(64, fwhm_px=20, curvature_waves=0.25)[0]
    turn = np.angle(probe[32, 42] / probe[32, 32])
    inner, outer = 0.5 / 100, (0.25 + 10.5**2) / 100
    assert turn == pytest.approx(2 * np.pi * 0.25 * (outer - inner), abs=1e-4)
