from __future__ import annotations

import dataclasses
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ptycho_torch.data.simulate import illumination, scan_corners_px, simulate_scan
from ptycho_torch.errors import DataError
from ptycho_torch.exact.seeding import generator
from ptycho_torch.physics.simulation import object_patches
from ptycho_torch.raster import num_raster_squares, raster_squares
from ptycho_torch.readers.frames import hold_in
from ptycho_torch.readers.scan import Scan, save_scan, scan_digest
from ptycho_torch.scratch import scratch_in
from ptycho_torch.simulate_config import (
    KINDS,
    AnnularProbe,
    DeadLeaves,
    DetectorConfig,
    DiskProbe,
    FermatScan,
    FileProbe,
    GaussianField,
    GaussianProbe,
    Lines,
    ProbeConfig,
    RasterScan,
    SimulateConfig,
)


def _config(seed: int = 3, nphotons: float = 1e6) -> SimulateConfig:
    return SimulateConfig(
        object=DeadLeaves(size_px=90), scan=RasterScan(rows=4, columns=5), nphotons=nphotons, seed=seed
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


def test_frames_kept_in_a_scratch_file_are_those_kept_in_memory(scan: Scan, tmp_path: Path):
    kept = simulate_scan(_config(), hold=hold_in(scratch_in(tmp_path)))
    kept.check()
    assert scan_digest(kept) == scan_digest(scan)
    for name, one in {"memory": scan, "scratch": kept}.items():
        save_scan(tmp_path / name, one)
    assert (tmp_path / "memory").read_bytes() == (tmp_path / "scratch").read_bytes()


def test_a_simulation_to_a_file_never_holds_its_frames(tmp_path: Path):
    config = SimulateConfig(
        object=GaussianField(size_px=100), scan=RasterScan(rows=20, columns=20, step_px=1)
    )
    tracemalloc.start()
    scan = simulate_scan(config, hold=hold_in(scratch_in(tmp_path)))
    save_scan(tmp_path / "scan.npz", scan)
    scan_digest(scan)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 400 * 64 * 64 * 4 / 1.5  # blocks of a megabyte, however many frames


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


def test_positions_are_a_raster_within_the_jitter():
    config = RasterScan(rows=5, columns=7, step_px=4.0, jitter_px=1.0)
    corners = scan_corners_px(config, 23.0, generator(0, "positions"))
    still = scan_corners_px(RasterScan(rows=5, columns=7, jitter_px=0.0), 23.0, generator(0, "positions"))
    assert np.abs(corners - still).max() <= 1.0
    assert np.abs(corners - still).max() > 0.7
    assert np.allclose(still[7] - still[0], [4.0, 0.0])
    assert np.allclose(still[1] - still[0], [0.0, 4.0])
    assert np.allclose(still.mean(axis=0), 23.0)


def test_at_a_place_stand_the_corners_of_a_square():
    config = RasterScan(rows=3, columns=2, step_px=10.0, jitter_px=0.0, square_px=4.0)
    corners = scan_corners_px(config, 20.0, generator(0, "positions"))
    assert corners.shape == (config.n_frames, 2) == (24, 2)
    assert np.allclose(corners.mean(axis=0), 20.0)
    assert np.allclose(corners[:4] - corners[0], [(0, 0), (0, 4), (4, 0), (4, 4)])
    assert np.allclose(corners[::4] - corners[0], [(r * 10, c * 10) for r in range(3) for c in range(2)])
    assert np.ptp(corners, axis=0).max() == config.reach_px == 24
    assert num_raster_squares(corners) == config.n_squares == 6
    displaced = dataclasses.replace(config, jitter_px=0.5)
    assert displaced.n_squares == 0
    assert len(scan_corners_px(displaced, 20.0, generator(0, "positions"))) == 24


def test_positions_of_a_spiral_are_a_golden_angle_apart():
    down, right = (scan_corners_px(FermatScan(n_positions=50), 9.0, generator(0, "positions")) - 9.0).T
    turns = np.diff(np.unwrap(np.degrees(np.arctan2(down, right))[1:], period=360))
    assert np.allclose(turns % 360, 137.50776405003785)
    assert np.allclose(down**2 + right**2, np.arange(50) * 4.0**2 / np.pi)


def test_the_jitter_is_uniform():
    config = RasterScan(rows=60, columns=60, jitter_px=1.5)
    still = scan_corners_px(dataclasses.replace(config, jitter_px=0.0), 0.0, generator(0, "positions"))
    jitter = scan_corners_px(config, 0.0, generator(0, "positions")) - still
    assert jitter.std() == pytest.approx(1.5 / np.sqrt(3), rel=0.02)
    assert np.abs(jitter.mean(axis=0)).max() < 4 * 1.5 / np.sqrt(3 * 3600)


def test_a_spiral_covers_its_disc_evenly():
    corners = scan_corners_px(FermatScan(n_positions=400, step_px=5.0), 50.0, generator(0, "positions"))
    radius = np.hypot(*(corners - 50.0).T)
    assert radius.max() <= FermatScan(n_positions=400, step_px=5.0).reach_px / 2
    # As many positions inside any radius as its area holds cells of the squared step.
    for fraction in (0.25, 0.5, 0.75):
        inside = np.count_nonzero(radius < fraction * radius.max())
        assert inside == pytest.approx(np.pi * (fraction * radius.max()) ** 2 / 25, abs=3)
    distances = np.hypot(*np.moveaxis(corners[:, None] - corners[None], -1, 0)) + 1e9 * np.eye(400)
    assert distances[10:].min() > 0.8 * 5.0  # the innermost turns are closer


@pytest.mark.parametrize("kind", KINDS["scan"].values(), ids=KINDS["scan"])
@pytest.mark.parametrize("spare_px", [0, -1])
def test_an_object_of_the_needed_size_is_just_large_enough(kind: type[RasterScan], spare_px: int):
    scan = kind(**({"rows": 4, "columns": 4} if kind is RasterScan else {"n_positions": 16}))
    need = SimulateConfig(scan=scan).needed_object_px
    config = SimulateConfig(scan=scan, object=DeadLeaves(size_px=int(np.ceil(need)) + spare_px))
    if spare_px < 0:
        with pytest.raises(DataError, match=rf"object\.size_px is {config.object.size_px}"):
            simulate_scan(config)
    else:
        assert simulate_scan(config).n_frames == 16


@pytest.mark.parametrize("kind", [AnnularProbe, DiskProbe, GaussianProbe])
@pytest.mark.parametrize("n_modes", [1, 3, 6])
def test_modes_are_orthogonal_and_their_powers_fall_by_the_ratio(kind: type[ProbeConfig], n_modes: int):
    probe = illumination(kind(n_modes=n_modes, mode_power_ratio=0.5)).astype(np.complex128)
    assert probe.shape == (n_modes, 64, 64)
    products = np.einsum("mij,nij->mn", probe.conj(), probe)
    expected = 0.5 ** np.arange(n_modes)
    assert np.allclose(products, np.diag(expected / expected.sum()), atol=1e-6)


def test_the_probe_of_a_file_is_lit_as_it_stands_there_but_for_its_power(tmp_path: Path):
    disk = illumination(DiskProbe(n_modes=2))
    np.savez(tmp_path / "probe.npz", probeGuess=7 * disk)
    wanted = FileProbe(file="probe.npz", sha256="0" * 64)
    assert np.allclose(illumination(wanted, tmp_path / "probe.npz"), disk, atol=1e-7)
    np.savez(tmp_path / "one.npz", probeGuess=disk[0])
    three = illumination(dataclasses.replace(wanted, n_modes=3), tmp_path / "one.npz")
    assert np.allclose(three, illumination(DiskProbe(n_modes=3)), atol=1e-6)
    lit = simulate_scan(dataclasses.replace(_config(), probe=wanted), probe_file=tmp_path / "probe.npz")
    assert np.allclose(lit.probe / lit.probe[0, 32, 32], disk / disk[0, 32, 32], atol=1e-5)


def test_a_blur_smooths_modulus_and_unwrapped_phase_of_a_stored_probe(tmp_path: Path):
    wound = illumination(GaussianProbe(fwhm_px=30, curvature_waves=1.0))[0]
    np.savez(tmp_path / "probe.npz", probeGuess=wound)
    sharp = FileProbe(file="probe.npz", sha256="0" * 64)
    blurred = illumination(dataclasses.replace(sharp, blur_px=1.5), tmp_path / "probe.npz")[0]
    assert np.array_equal(illumination(sharp, tmp_path / "probe.npz")[0], wound)
    assert np.sum(np.abs(blurred) ** 2) == pytest.approx(1, abs=1e-6)
    modulus = gaussian_filter(np.abs(wound).astype(np.float64), 1.5)
    assert np.allclose(np.abs(blurred), modulus / np.linalg.norm(modulus), atol=1e-6)
    # A parabola blurred is the parabola and a constant, but for reflecting edges; as it wraps, it is torn.
    gained = np.angle(wound.astype(np.complex128) * np.conj(blurred))[8:-8, 8:-8]
    assert np.ptp(np.angle(wound)[32]) > 6, "the phase does not wrap"
    assert np.ptp(gained) < 1e-4
    assert gained.mean() == pytest.approx(-2 * 2 * np.pi / 15**2 * 1.5**2, rel=1e-3)


def test_a_blur_of_a_ragged_phase_is_the_same_each_time(tmp_path: Path):
    phases = np.random.default_rng(0).uniform(-np.pi, np.pi, (64, 64))
    np.savez(tmp_path / "probe.npz", probeGuess=np.exp(1j * phases))
    config = FileProbe(file="probe.npz", sha256="0" * 64, blur_px=0.5)
    first, *others = (illumination(config, tmp_path / "probe.npz") for _ in range(8))
    assert all(np.array_equal(first, other) for other in others)


def test_recorded_positions_are_wrong_by_the_position_error_and_the_frames_are_not():
    config, small = _config(), RasterScan(rows=4, columns=5)
    exact = simulate_scan(config)
    wrong = simulate_scan(dataclasses.replace(config, scan=dataclasses.replace(small, position_error_px=0.5)))
    assert np.array_equal(wrong.diffraction, exact.diffraction)
    assert (wrong.corners_px - exact.corners_px).std() == pytest.approx(0.5, rel=0.35)


def test_a_scan_with_position_errors_never_leaves_an_object_of_the_needed_size():
    scan = RasterScan(rows=40, columns=40, step_px=1, jitter_px=0, position_error_px=2)
    of_exact = SimulateConfig(scan=dataclasses.replace(scan, position_error_px=0)).needed_object_px
    config = SimulateConfig(
        scan=scan, object=DeadLeaves(size_px=round(SimulateConfig(scan=scan).needed_object_px)), nphotons=1e3
    )
    assert of_exact == 39 + 64 + 4
    assert config.object.size_px == 39 + 64 + 2 * 5 * 2
    simulate_scan(config).check()
    small = dataclasses.replace(config, object=DeadLeaves(size_px=config.object.size_px - 1))
    with pytest.raises(DataError, match="needs an object of 123 px .* position_error_px of 2 smaller"):
        simulate_scan(small)


def test_no_position_error_is_drawn_beyond_its_bound(monkeypatch: pytest.MonkeyPatch):
    exact = simulate_scan(_config())
    scan = RasterScan(rows=4, columns=5, position_error_px=0.5)
    free = simulate_scan(dataclasses.replace(_config(), scan=scan)).corners_px - exact.corners_px
    monkeypatch.setattr("ptycho_torch.data.simulate.LARGEST_POSITION_ERROR", 1.0)
    bound = simulate_scan(dataclasses.replace(_config(), scan=scan)).corners_px - exact.corners_px
    assert np.abs(free).max() > 0.6
    assert np.allclose(bound, free.clip(-0.5, 0.5))


def _side_by_side(size_px: int = 92, count: int = 3, **scan: Any) -> SimulateConfig:
    raster = {"rows": 3, "columns": 4, "step_px": 4.0, "jitter_px": 0.0, **scan}
    return SimulateConfig(object=Lines(size_px=size_px, count=count), scan=RasterScan(**raster), seed=1)


def test_frames_of_each_object_side_by_side_see_what_they_see_of_it_alone():
    config = _side_by_side()
    scan = simulate_scan(config)
    assert scan.n_frames == config.n_frames == 3 * 12
    patches = np.stack(list(object_patches(scan.object, scan.corners_px, 64)))
    powers = np.sum(np.abs(scan.probe[0] * patches) ** 2, axis=(1, 2))
    assert powers.mean() == pytest.approx(config.nphotons, rel=1e-5)  # of the frames of all objects
    for number in range(3):
        alone = simulate_scan(
            dataclasses.replace(config, object=Lines(size_px=config.object.size_px, number=number))
        )
        here = slice(12 * number, 12 * (number + 1))
        assert np.array_equal(patches[here], list(object_patches(alone.object, alone.corners_px, 64)))
        assert np.array_equal(scan.corners_px[here] - [0, 92 * number], alone.corners_px)
        assert powers[here].mean() != pytest.approx(config.nphotons, rel=1e-3)


def test_every_frame_of_objects_side_by_side_has_a_jitter_of_its_own():
    config = _side_by_side(jitter_px=1.0, count=2)
    one, other = simulate_scan(config).corners_px.reshape(2, 12, 2) - [[[0, 0]], [[0, 92]]]
    alone = simulate_scan(dataclasses.replace(config, object=Lines(size_px=92)))
    assert np.array_equal(one, alone.corners_px)
    assert np.abs(other - one).max() > 0.7
    assert np.abs(other - one).max() <= 2.0


@pytest.mark.parametrize("square_px", [0.0, 1.5])
def test_no_square_of_frames_crosses_from_one_object_to_the_next(square_px: float):
    config = _side_by_side(square_px=square_px)
    corners = simulate_scan(config).corners_px
    squares = raster_squares(corners)
    assert len(squares) == config.n_squares == 3 * config.scan.n_squares > 0
    columns = corners[squares][..., 1]
    assert np.ptp(columns // 92, axis=1).max() == 0
    assert np.ptp(columns, axis=1).max() == (square_px or 4.0)


@pytest.mark.parametrize(
    "config",
    [
        _side_by_side(size_px=90),  # no multiple of the step
        _side_by_side(
            size_px=280, columns=4, step_px=70.0
        ),  # as far from the next object as from the next frame
        _side_by_side(jitter_px=1.0),
    ],
)
def test_objects_whose_frames_are_no_raster_with_gaps_have_no_squares(config: SimulateConfig):
    assert config.n_squares == 0
    assert simulate_scan(config).n_frames == config.n_frames


def test_dead_pixels_count_nothing_and_are_masked():
    config = dataclasses.replace(_config(), detector=DetectorConfig(dead_pixel_fraction=0.05))
    scan, whole = simulate_scan(config), simulate_scan(_config())
    assert scan.mask is not None
    assert 0.02 < 1 - scan.mask.mean() < 0.09
    assert not scan.diffraction[:, ~scan.mask].any()
    assert np.array_equal(scan.diffraction[:, scan.mask], whole.diffraction[:, scan.mask])


def test_a_saturated_pixel_shows_the_largest_count():
    whole = simulate_scan(_config())
    largest = int((whole.diffraction.astype(np.float64) ** 2).max() / 4)
    config = dataclasses.replace(_config(), detector=DetectorConfig(saturation_counts=largest))
    counts = simulate_scan(config).diffraction.astype(np.float64) ** 2
    assert counts.max() == pytest.approx(largest, rel=1e-6)
    is_below = whole.diffraction**2 < largest * 0.999
    assert np.allclose(counts[is_below], whole.diffraction[is_below].astype(np.float64) ** 2)
