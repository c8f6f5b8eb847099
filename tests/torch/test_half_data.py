"""The resolution of a refinement, by two images from half of the frames each."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ptycho_torch.half_data import correlate_halves, probe_of_level_object
from ptycho_torch.products import reconstruction_file
from ptycho_torch.readers.scan import Scan
from ptycho_torch.refine_config import RefineConfig
from ptycho_torch.refine_record import Pass
from ptycho_torch.refined import refine_scan
from ptycho_torch.stitching import Reconstruction
from tests.torch.test_refinement import DISK, simulated


def test_both_halves_hold_the_support_too() -> None:
    scan, config = simulated(), RefineConfig(passes=2, batches=6, probe=True)
    within = dataclasses.replace(scan, probe=np.where(DISK, scan.probe, np.complex64(0)))
    held, free, begun_within = (
        correlate_halves(scan, config, counts_per_amplitude=1.0, seed=0, support=support).curve.correlation
        for scan, support in ((scan, DISK), (scan, None), (within, DISK))
    )
    assert np.array_equal(held, begun_within)
    assert not np.array_equal(held, free)
    let_out = correlate_halves(within, config, counts_per_amplitude=1.0, seed=0).curve.correlation
    assert not np.array_equal(held, let_out)


def test_halves_of_the_data_agree_down_to_some_detail() -> None:
    scan = simulated()
    options: dict[str, Any] = {"batches": 6}
    coarse, fine = (
        correlate_halves(scan, RefineConfig(passes=passes, **options), counts_per_amplitude=1.0, seed=0)
        for passes in (1, 8)
    )
    figures = fine.figures
    assert 2 <= figures["half_bit_resolution_px"] <= figures["one_bit_resolution_px"]
    assert figures["half_bit_resolution_px"] <= coarse.figures["half_bit_resolution_px"]


def test_a_half_takes_batches_of_as_many_frames_as_the_whole() -> None:
    seen: list[tuple[int, int]] = []

    def noted(one: Pass, total: int) -> None:
        seen.append((one.number, one.batches))

    for batches in (6, 1):
        config = RefineConfig(passes=1, batches=batches)
        correlate_halves(simulated(), config, counts_per_amplitude=1.0, seed=0, report=noted)
    assert seen == [(1, 3), (1, 3), (1, 1), (1, 1)]


def test_halves_that_hold_the_true_probe_agree_further_than_halves_that_have_a_wrong_one() -> None:
    scan = simulated()
    rows = np.linspace(-1, 1, scan.side_px)[:, None]
    wrong = dataclasses.replace(scan, probe=(scan.probe * np.exp(4j * rows**2)).astype(np.complex64))
    config = RefineConfig(passes=6, batches=6, probe=True, modes=2)
    held, own = (
        correlate_halves(wrong, config, counts_per_amplitude=1.0, seed=0, probe=probe).figures
        for probe in (scan.probe, None)
    )
    assert held["half_bit_resolution_px"] < own["half_bit_resolution_px"]
    known = RefineConfig(passes=6, batches=6)
    again = correlate_halves(scan, known, counts_per_amplitude=1.0, seed=0).figures
    assert held == again


def with_ramp(scan: Scan, turns: tuple[float, float]) -> tuple[Reconstruction, NDArray[np.complex64]]:
    """Give a scan's object a ramp of so many turns over a frame, and its probe the opposite one."""
    assert scan.object is not None
    index = [np.arange(side)[:, None] if axis == 0 else np.arange(side) for axis, side in enumerate((88, 88))]
    ramp = np.exp(2j * np.pi * (turns[0] * index[0] + turns[1] * index[1]) / scan.side_px)
    obj, near = (scan.object * ramp).astype(np.complex64), ramp[: scan.side_px, : scan.side_px].conj()
    image = Reconstruction(obj, np.ones(obj.shape, np.float32), np.zeros(2, np.int64), 1, 1)
    return image, (scan.probe * near).astype(np.complex64)


def test_the_ramp_of_an_object_goes_to_its_probe() -> None:
    scan = simulated()
    none, turned = (probe_of_level_object(*with_ramp(scan, turns)) for turns in ((0.0, 0.0), (1.5, -2.25)))
    assert turned.dtype == scan.probe.dtype
    np.testing.assert_allclose(abs(turned), abs(scan.probe), rtol=1e-5)
    overlap = np.vdot(none, turned) / np.vdot(none, none)
    assert abs(overlap) == pytest.approx(1, abs=1e-5)


def test_halves_agree_as_far_whichever_of_object_and_probe_has_the_ramp() -> None:
    scan = simulated()
    curves = []
    for turns in ((0.0, 0.0), (1.5, -2.25)):
        image, probe = with_ramp(scan, turns)
        found = refine_scan(
            scan,
            RefineConfig(passes=6, batches=6, half_data=True, half_data_probe="whole"),
            counts_per_amplitude=1.0,
            seed=0,
            network_image=reconstruction_file(image, dataclasses.replace(scan, probe=probe)),
        )
        rows = found.files["half_data.csv"].decode().splitlines()[1:]
        curves.append([float(line.split(",")[1]) for line in rows])
    np.testing.assert_allclose(curves[1], curves[0], atol=0.01)
