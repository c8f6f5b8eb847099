from __future__ import annotations

import numpy as np
import pytest

from ptycho_torch.data.simulate import dead_leaves, scan_corners_px, simulate_scan
from ptycho_torch.errors import DataError
from ptycho_torch.exact.seeding import generator
from ptycho_torch.physics.simulation import object_patches
from ptycho_torch.readers.scan import Scan, scan_digest
from ptycho_torch.simulate_config import ObjectConfig, ScanConfig, SimulateConfig


def _config(seed: int = 3, nphotons: float = 1e6) -> SimulateConfig:
    return SimulateConfig(
        object=ObjectConfig(size_px=90), scan=ScanConfig(rows=4, columns=5), nphotons=nphotons, seed=seed
    )


@pytest.fixture(scope="module")
def scan() -> Scan:
    return simulate_scan(_config())


def test_a_simulated_scan_keeps_the_data_contract(scan: Scan):
    scan.check()
    assert scan.diffraction.shape == (20, 64, 64)
    assert scan.units == "count_amplitude"


def test_the_same_configuration_gives_the_same_scan(scan: Scan):
    assert scan_digest(simulate_scan(_config())) == scan_digest(scan)
    assert scan_digest(simulate_scan(_config(seed=4))) != scan_digest(scan)


def test_the_photons_do_not_change_object_or_positions(scan: Scan):
    brighter = simulate_scan(_config(nphotons=1e7))
    assert np.array_equal(brighter.object, scan.object)
    assert np.array_equal(brighter.corners_px, scan.corners_px)


def test_frames_hold_the_mean_number_of_photons(scan: Scan):
    counts = scan.diffraction.astype(np.float64) ** 2
    assert counts.sum(axis=(1, 2)).mean() == pytest.approx(1e6, rel=1e-3)
    assert np.allclose(counts, np.round(counts), atol=0.05)


def test_the_scan_explains_itself(scan: Scan):
    patches = np.stack(list(object_patches(scan.object, scan.corners_px, 64)))
    fields = np.fft.fftshift(np.fft.fft2(scan.probe[0] * patches, norm="ortho"), axes=(1, 2))
    r_factor = np.abs(np.abs(fields) - scan.diffraction).sum() / scan.diffraction.sum()
    shuffled = np.abs(np.abs(fields)[::-1] - scan.diffraction).sum() / scan.diffraction.sum()
    assert r_factor < 0.07
    assert shuffled > 3 * r_factor


def test_dead_leaves_fill_the_ranges_that_were_asked_for():
    config = ObjectConfig(size_px=128, max_phase_rad=1.2, min_amplitude=0.6, max_amplitude=1.0)
    obj = dead_leaves(config, generator(1, "object"))
    assert np.abs(obj).min() >= 0.6 - 1e-6
    assert np.abs(obj).max() <= 1.0 + 1e-6
    assert -1e-6 <= np.angle(obj).min() < 0.3
    assert 0.9 < np.angle(obj).max() <= 1.2 + 1e-6


def test_no_leaf_is_smaller_than_the_smallest_radius():
    config = ObjectConfig(size_px=128, min_radius_px=8, blur_px=0)
    large = dead_leaves(config, generator(1, "object"))
    small = dead_leaves(ObjectConfig(size_px=128, min_radius_px=3, blur_px=0), generator(1, "object"))
    assert len(np.unique(large)) < len(np.unique(small)) / 2


def test_positions_are_a_raster_within_the_jitter():
    config = ScanConfig(rows=5, columns=7, step_px=4.0, jitter_px=1.0)
    corners = scan_corners_px(config, 110, 64, generator(0, "positions"))
    still = scan_corners_px(ScanConfig(rows=5, columns=7, jitter_px=0.0), 110, 64, generator(0, "positions"))
    assert np.abs(corners - still).max() <= 1.0
    assert np.abs(corners - still).max() > 0.7
    assert np.allclose(still[7] - still[0], [4.0, 0.0])
    assert np.allclose(still[1] - still[0], [0.0, 4.0])
    assert np.allclose(still.mean(axis=0), (110 - 64) / 2)


def test_a_scan_larger_than_the_object_is_refused():
    with pytest.raises(DataError, match=r"object\.size_px is 70"):
        simulate_scan(SimulateConfig(object=ObjectConfig(size_px=70)))
