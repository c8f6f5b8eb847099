from __future__ import annotations

import numpy as np
import pytest

from ptycho_torch.config import ModelConfig
from ptycho_torch.errors import ConfigError, DataError
from ptycho_torch.physics.probe import (
    annular_probe,
    central_power_fraction,
    disk_probe,
    gaussian_probe,
    probe_support,
    within_support,
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


def test_a_mask_is_the_disk_of_half_the_grid_unless_it_is_told_otherwise():
    radius = np.hypot(*(np.mgrid[:64, :64] - 31.5))
    assert probe_support(ModelConfig()) is None
    np.testing.assert_array_equal(probe_support(ModelConfig(probe_mask=True)), radius < 16)
    told = ModelConfig(N=128, probe_mask=True, probe_mask_diameter_px=21)
    np.testing.assert_array_equal(probe_support(told), np.hypot(*(np.mgrid[:128, :128] - 63.5)) < 10.5)


def test_a_probe_is_unchanged_within_its_mask_and_zero_outside():
    probe = gaussian_probe(64, fwhm_px=20, curvature_waves=1.0)
    masked = within_support(probe, ModelConfig(probe_mask=True, probe_mask_diameter_px=20))
    inside = np.hypot(*(np.mgrid[:64, :64] - 31.5)) < 10
    np.testing.assert_array_equal(masked[:, inside], probe[:, inside])
    assert masked.dtype == probe.dtype
    assert not masked[:, ~inside].any()
    assert within_support(probe, ModelConfig()) is probe


def test_a_probe_that_is_dark_within_its_mask_is_refused():
    probe = np.zeros((1, 64, 64), np.complex64)
    probe[0, :4] = 1
    with pytest.raises(DataError, match="dark in all 316 pixels that model.probe_mask leaves"):
        within_support(probe, ModelConfig(probe_mask=True, probe_mask_diameter_px=20))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"probe_mask_diameter_px": 20.0}, "set probe_mask to true"),
        ({"probe_mask": True, "probe_mask_diameter_px": 65}, r"at most N \(64\)"),
        ({"probe_mask": True, "probe_mask_diameter_px": 1.5}, "at least 2"),
    ],
)
def test_a_mask_without_sense_is_refused(given: dict[str, object], said: str):
    with pytest.raises(ConfigError, match=rf"probe_mask_diameter_px: .*{said}"):
        ModelConfig(**given)
