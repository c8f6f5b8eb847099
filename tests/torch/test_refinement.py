"""Refining by the physics alone: how far it gets, what stops it, and that it repeats."""

from __future__ import annotations

import dataclasses
import functools
import io
import itertools
import logging
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ptycho_torch.canvas import ScanCanvas
from ptycho_torch.data.simulate import simulate_scan
from ptycho_torch.errors import DataError
from ptycho_torch.exact.seeding import generator
from ptycho_torch.half_data import correlate_halves, probe_of_level_object
from ptycho_torch.misfits import DARK_AMPLITUDE, MISFITS
from ptycho_torch.phase_slope import SlopeFit
from ptycho_torch.products import reconstruction_file
from ptycho_torch.readers.scan import Scan
from ptycho_torch.refine_config import RefineConfig
from ptycho_torch.refine_record import DivergenceError, Refined
from ptycho_torch.refined import PREFIX, refine_scan
from ptycho_torch.refinement import MOST_TAKEN_BACK, RISE, refine
from ptycho_torch.simulate_config import DeadLeaves, RasterScan, SimulateConfig
from ptycho_torch.stitching import Reconstruction


@functools.cache
def simulated() -> Scan:
    """Simulate a scan of few frames and few photons."""
    config = SimulateConfig(
        object=DeadLeaves(size_px=88), scan=RasterScan(rows=5, columns=5), nphotons=1e5, seed=4
    )
    return simulate_scan(config)


def refined(scan: Scan | None = None, *, seed: int = 0, start: Any = None, **options: Any) -> Refined:
    config = RefineConfig(**options)
    used = simulated() if scan is None else scan
    return refine(used, config, counts_per_amplitude=1.0, seed=seed, start=start)


def misfit_of_truth(scan: Scan, name: str, origin_px: tuple[int, int] = (0, 0)) -> float:
    canvas = ScanCanvas(scan.corners_px, scan.side_px)
    assert scan.object is not None
    obj = canvas.lay(scan.object, np.array(origin_px), 1)
    frames = np.arange(scan.n_frames)
    amplitude = torch.from_numpy(np.fft.ifftshift(scan.diffraction, axes=(1, 2)).copy())
    field = torch.fft.fft2(canvas.extract(obj, frames) * torch.from_numpy(scan.probe[0]), norm="ortho")
    return MISFITS[name](field.real**2 + field.imag**2, amplitude, None)[1] / amplitude.numel()


def test_with_all_frames_in_one_batch_the_misfit_falls_in_every_pass() -> None:
    # The linearised model bounds the amplitudes' misfit from above, so its best step cannot raise it.
    found = refined(passes=12, batches=1, object_rate=1.0, momentum=0.0, last_rate=1.0)
    misfits = [one.misfit for one in found.passes[1:]]
    assert all(later < earlier for earlier, later in itertools.pairwise(misfits))


@pytest.mark.parametrize("gradient", ["amplitude", "poisson"])
def test_a_flat_start_ends_in_the_photon_noise(gradient: str) -> None:
    found = refined(gradient=gradient, passes=24, batches=5)
    # The best object explains the frames at least as well as the true one, and noise besides.
    assert found.passes[-1].misfit <= misfit_of_truth(simulated(), gradient)
    assert found.num_taken_back == 0


def test_the_first_step_goes_down_the_gradient_that_differentiation_gives() -> None:
    scan = simulated()
    probe = torch.from_numpy(scan.probe[0])
    # Where a flat object sends no light the phase is nobody's; such pixels are left out.
    light = torch.fft.fftshift(torch.fft.fft2(probe, norm="ortho").abs()).numpy()
    scan = dataclasses.replace(scan, mask=light * np.abs(scan.probe).max() > DARK_AMPLITUDE)
    assert scan.mask is not None
    found = refined(scan, passes=1, batches=1, weight_floor=1.0)
    canvas = ScanCanvas(scan.corners_px, scan.side_px)
    power = np.square(scan.diffraction[:, scan.mask], dtype=np.float64).sum() / scan.n_frames
    level = (power / float((probe.abs() ** 2).sum())) ** 0.5
    used = torch.from_numpy(np.fft.ifftshift(scan.mask))
    leaf = torch.full(canvas.frame.shape, level, dtype=torch.complex64, requires_grad=True)
    patches = canvas.extract(leaf, np.arange(scan.n_frames))
    amplitude = torch.from_numpy(np.fft.ifftshift(scan.diffraction, axes=(1, 2)).copy())
    loss = (torch.fft.fft2(patches * probe, norm="ortho").abs() - amplitude)[:, used].square().sum()
    (gradient,) = torch.autograd.grad(loss, leaf)
    is_lit = found.image.coverage > 0
    step = torch.from_numpy(found.image.object - np.complex64(level))[is_lit]
    down = -gradient[torch.from_numpy(is_lit)]
    # A floor of 1 leaves one weight for all pixels, so the two are parallel.
    cosine = torch.vdot(step, down).real / (step.norm() * down.norm())
    assert float(cosine) == pytest.approx(1, abs=1e-4)


def test_the_same_refinement_twice_gives_the_same_bits_and_another_seed_others() -> None:
    options: dict[str, Any] = {"passes": 2, "batches": 4, "probe": True, "modes": 2, "momentum": 0.5}
    first, again, other = refined(**options), refined(**options), refined(**options, seed=1)
    assert np.array_equal(first.image.object, again.image.object)
    assert np.array_equal(first.probe, again.probe)
    assert first.passes == again.passes
    assert not np.array_equal(first.image.object, other.image.object)


def test_in_the_first_pass_the_momentum_grows_from_nothing() -> None:
    scan, num_px = simulated(), 2 * simulated().side_px
    flat = Reconstruction(
        np.full((num_px, num_px), 2, dtype=np.complex64),
        np.ones((num_px, num_px), dtype=np.float32),
        np.zeros(2, dtype=np.int64),
        0,
        0,
    )

    def after_a_pass(frames: NDArray[np.int64], **options: Any) -> NDArray[np.complex64]:
        # With a probe that is refined, later, the image is not levelled.
        config, start = RefineConfig(passes=1, probe=True, **options), (flat, scan.probe)
        return refine(scan, config, counts_per_amplitude=1.0, seed=0, start=start, frames=frames).image.object

    every = np.arange(scan.n_frames)
    first = np.array_split(generator(0, "refine", 1, 0).permutation(every), 2)[0]
    once = after_a_pass(first, batches=1, momentum=0.7)
    without, with_momentum = (after_a_pass(every, batches=2, momentum=value) for value in (0.0, 0.8))
    is_seen = once != 0
    # Of two steps the first has none, and the second half of it.
    repeated = (with_momentum - without)[is_seen]
    assert np.abs(repeated).max() > 0.1
    assert repeated == pytest.approx(0.5 * 0.8 * (once - flat.object[0, 0])[is_seen], abs=1e-5)


def test_a_step_that_is_too_long_is_taken_back_and_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = refined(passes=3, batches=8, object_rate=8.0)
    assert found.num_taken_back > 0
    told = [one.getMessage() for one in caplog.records if "taken back" in one.getMessage()]
    assert len(told) == found.num_taken_back
    last = found.passes[-1]
    assert last.number == 3
    assert last.rate == 0.5**found.num_taken_back
    assert last.batches == max(1, 8 // 2**found.num_taken_back)
    kept = [one.misfit for one in found.passes if not one.is_taken_back]
    assert all(one <= min(kept[:number], default=one) * (1 + RISE) for number, one in enumerate(kept))


def test_the_step_that_nothing_follows_is_judged_too() -> None:
    found = refined(passes=1, batches=1, object_rate=50.0)
    assert found.num_taken_back > 0
    assert found.passes[-1].misfit < found.passes[0].misfit


def test_a_step_of_all_frames_that_made_it_worse_is_undone_and_not_taken_again() -> None:
    long = refined(passes=6, batches=1, object_rate=6.0, momentum=0.0)
    short = refined(passes=6, batches=1, object_rate=3.0, momentum=0.0)
    assert (long.num_taken_back, short.num_taken_back) == (1, 0)
    assert long.passes[-1].misfit == pytest.approx(short.passes[-1].misfit, rel=1e-6)


@pytest.mark.parametrize("batches", [1, 5])
def test_the_last_misfit_is_that_of_what_is_returned(batches: int) -> None:
    found = refined(passes=3, batches=batches, gradient="amplitude")
    scan = dataclasses.replace(simulated(), object=found.image.object, probe=found.probe)
    row, column = found.image.frame_origin_px.tolist()
    again = misfit_of_truth(scan, "amplitude", (row, column))
    assert found.passes[-1].misfit == pytest.approx(again, rel=1e-3)


def test_what_diverges_with_the_shortest_steps_is_an_error() -> None:
    with pytest.raises(DivergenceError, match="lower refine.object_rate"):
        refined(passes=2, object_rate=2.0 ** (MOST_TAKEN_BACK + 40), batches=1)


def test_a_wrong_probe_is_put_right() -> None:
    scan = simulated()
    ramp = np.exp(2j * np.linspace(0, 1, scan.side_px) ** 2)
    wrong = dataclasses.replace(scan, probe=(scan.probe * ramp[:, None]).astype(np.complex64))
    options: dict[str, Any] = {"passes": 8, "batches": 6}
    fixed, moved = refined(wrong, **options), refined(wrong, probe=True, **options)
    noise = misfit_of_truth(scan, "amplitude")
    assert moved.passes[-1].misfit - noise < 0.5 * (fixed.passes[-1].misfit - noise)
    power = np.square(np.abs(wrong.probe)).sum()
    assert np.square(np.abs(moved.probe)).sum() == pytest.approx(power, rel=1e-4)
    assert np.array_equal(fixed.probe, wrong.probe)


def test_pixels_that_are_masked_may_hold_anything() -> None:
    scan = simulated()
    mask = np.ones((scan.side_px,) * 2, dtype=bool)
    mask[30:34, 20] = False
    frames = scan.diffraction.copy()
    frames[:, ~mask] = 1e5
    clean, spoilt = (
        refined(dataclasses.replace(scan, mask=mask, diffraction=stack), passes=1)
        for stack in (scan.diffraction, frames)
    )
    assert np.array_equal(clean.image.object, spoilt.image.object)


def test_frames_that_are_not_chosen_are_not_read() -> None:
    scan = simulated()
    spoilt = scan.diffraction.copy()
    spoilt[1::2] = np.nan
    half = np.arange(0, scan.n_frames, 2)
    found = refine(
        dataclasses.replace(scan, diffraction=spoilt),
        RefineConfig(passes=1, batches=2),
        counts_per_amplitude=1.0,
        seed=0,
        frames=half,
    )
    assert np.isfinite(found.image.object).all()
    assert found.image.total == len(half)


DISK = np.hypot(*(np.mgrid[:64, :64] - 31.5)) < 14


def test_a_probe_that_moves_stays_zero_outside_its_support() -> None:
    scan = simulated()
    assert scan.probe[:, ~DISK].all()
    image = Reconstruction(np.ones((88, 88), np.complex64), np.ones((88, 88)), np.zeros(2, np.int64), 1, 1)
    for start in (None, (image, scan.probe)):
        config = RefineConfig(passes=4, batches=5, probe=True, modes=2, probe_after=0)
        found = refine(scan, config, counts_per_amplitude=1.0, seed=0, start=start, support=DISK)
        assert found.num_taken_back == 0
        assert found.passes[-1].misfit < found.passes[0].misfit
        assert found.probe.shape == (2, 64, 64)
        assert not found.probe[:, ~DISK].any()
        assert (found.probe[:, DISK] != scan.probe[:, DISK]).all()


def test_a_support_that_holds_nothing_back_changes_no_bit() -> None:
    config = RefineConfig(passes=2, batches=5, probe=True)
    free, held = (
        refine(simulated(), config, counts_per_amplitude=1.0, seed=0, support=support)
        for support in (None, np.ones_like(DISK))
    )
    assert free.image.object.tobytes() == held.image.object.tobytes()
    assert free.probe.tobytes() == held.probe.tobytes()


def test_a_probe_that_is_dark_within_its_support_is_refused() -> None:
    config = RefineConfig(passes=1, probe=True, modes=2)
    dark = dataclasses.replace(simulated(), probe=np.where(DISK, np.complex64(0), simulated().probe))
    with pytest.raises(DataError, match="the probe is dark wherever it may be other than zero"):
        refine(dark, config, counts_per_amplitude=1.0, seed=0, support=DISK)


def test_dark_frames_are_refused() -> None:
    scan = dataclasses.replace(simulated(), diffraction=np.zeros_like(simulated().diffraction))
    with pytest.raises(DataError, match="all of them are dark"):
        refined(scan, passes=1)


def tilted(
    slope: tuple[float, float], *, blur_px: float = 3.0
) -> tuple[Reconstruction, NDArray[np.complex64]]:
    """Make what a network might have: the true object, not sharp, and with a slope in its phase."""
    truth = simulated().object
    assert truth is not None
    rows, columns = (np.arange(size) for size in truth.shape)
    phase = slope[0] * rows[:, None] + slope[1] * columns
    soft = gaussian_filter(truth.real, blur_px) + 1j * gaussian_filter(truth.imag, blur_px)
    obj = (soft * np.exp(1j * phase)).astype(np.complex64)
    seen = np.ones(obj.shape, dtype=np.float32)
    return Reconstruction(obj, seen, np.zeros(2, dtype=np.int64), 1, 1), simulated().probe


@pytest.mark.parametrize("masked", [False, True])
def test_a_slope_that_the_frames_do_not_have_is_found_and_taken_out(masked: bool) -> None:
    scan, slope = simulated(), (0.02, -0.01)
    if masked:
        mask = np.ones((scan.side_px,) * 2, dtype=bool)
        mask[20:40, 30:34] = False
        scan = dataclasses.replace(scan, mask=mask, diffraction=np.where(mask, scan.diffraction, 1e3))
    level, steep = (refined(scan, passes=6, start=tilted(one)) for one in ((0.0, 0.0), slope))
    assert level.slope_rad_px is not None
    assert steep.slope_rad_px is not None
    assert np.abs(level.slope_rad_px).max() < 2e-3
    np.testing.assert_allclose(np.subtract(steep.slope_rad_px, level.slope_rad_px), slope, atol=2e-4)
    assert steep.passes[0].misfit == pytest.approx(level.passes[0].misfit, rel=0.01)
    assert steep.passes[-1].misfit == pytest.approx(level.passes[-1].misfit, rel=0.01)


def test_a_levelling_that_makes_it_worse_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    start = tilted((0.0, 0.0))
    wanted = refined(passes=1, start=start, probe=True).passes[0].misfit
    monkeypatch.setattr(SlopeFit, "slope", lambda _: (0.3, 0.0))
    found = refined(passes=1, start=start)
    assert found.slope_rad_px == (0, 0)
    assert found.passes[0].misfit == wanted


def test_neither_a_flat_start_nor_a_probe_that_is_refined_is_levelled() -> None:
    assert refined(passes=1).slope_rad_px is None
    assert refined(passes=1, start=tilted((0.02, 0.0)), probe=True).slope_rad_px is None


@pytest.fixture(scope="module")
def network_image() -> bytes:
    scan = simulated()
    assert scan.object is not None
    blurred = np.full_like(scan.object, scan.object.mean())
    image = Reconstruction(
        blurred, np.ones(blurred.shape, dtype=np.float32), np.zeros(2, dtype=np.int64), 1, 1
    )
    return reconstruction_file(image, scan)


def test_the_figures_and_files_of_a_refined_image_are_its_own(network_image: bytes) -> None:
    kept = bytes(network_image)
    seen: list[tuple[int, int]] = []
    found = refine_scan(
        simulated(),
        RefineConfig(passes=3, half_data=True),
        counts_per_amplitude=1.0,
        seed=0,
        network_image=network_image,
        report=lambda one, total: seen.append((one.number, total)),
    )
    assert network_image == kept
    assert all(name.startswith(PREFIX) for name in found.metrics)
    assert {"refined_r_factor", "refined_phase_ssim", "refined_half_bit_resolution_px"} <= set(found.metrics)
    assert set(found.files) == {"refined.npz", "passes.csv", "half_data.csv"}
    assert seen == [(number, 9) for number in range(1, 10)]
    assert len(found.files["passes.csv"].splitlines()) == 5
    with np.load(io.BytesIO(found.files["refined.npz"])) as stored:
        assert np.array_equal(stored["object"], found.image.object)


def test_the_halves_hold_the_probe_of_the_whole_when_it_is_asked_for(network_image: bytes) -> None:
    whole, own = (
        refine_scan(
            simulated(),
            RefineConfig(passes=2, batches=4, probe=True, half_data=True, half_data_probe=probe),  # type: ignore[arg-type]
            counts_per_amplitude=1.0,
            seed=0,
            network_image=network_image,
        )
        for probe in ("whole", "own")
    )
    assert whole.files["refined.npz"] == own.files["refined.npz"]
    assert whole.files["half_data.csv"] != own.files["half_data.csv"]
    with np.load(io.BytesIO(whole.files["refined.npz"])) as stored:
        config = RefineConfig(passes=2, batches=4)
        expected = correlate_halves(
            simulated(),
            config,
            counts_per_amplitude=1.0,
            seed=0,
            probe=probe_of_level_object(whole.image, stored["probe"]),
        )
    assert whole.metrics["refined_half_bit_resolution_px"] == expected.figures["half_bit_resolution_px"]
    rows = [float(line.split(",")[1]) for line in whole.files["half_data.csv"].decode().splitlines()[1:]]
    assert rows == expected.curve.correlation.tolist()


def test_a_refined_image_and_its_halves_hold_the_support(network_image: bytes) -> None:
    config = RefineConfig(passes=2, batches=4, probe=True, half_data=True)
    found = refine_scan(
        simulated(),
        config,
        counts_per_amplitude=1.0,
        seed=0,
        network_image=network_image,
        support=DISK,
    )
    with np.load(io.BytesIO(found.files["refined.npz"])) as stored:
        assert not stored["probe"][:, ~DISK].any()
    halves = correlate_halves(simulated(), config, counts_per_amplitude=1.0, seed=0, support=DISK)
    rows = [float(line.split(",")[1]) for line in found.files["half_data.csv"].decode().splitlines()[1:]]
    assert rows == halves.curve.correlation.tolist()


def test_a_refinement_starts_where_it_is_told(network_image: bytes) -> None:
    first = {
        start: refine_scan(
            simulated(),
            RefineConfig(passes=1, start=start),  # type: ignore[arg-type]
            counts_per_amplitude=1.0,
            seed=0,
            network_image=network_image,
        ).files["passes.csv"]
        for start in ("network", "flat")
    }
    assert first["network"].splitlines()[1] != first["flat"].splitlines()[1]
