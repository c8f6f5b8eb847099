from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from ptycho_torch.data.objects import dead_leaves, draw_object, gaussian_field, lines, picture, siemens_star
from ptycho_torch.simulate_config import (
    KINDS,
    DeadLeaves,
    GaussianField,
    Lines,
    ObjectConfig,
    Picture,
    SiemensStar,
)

CONTRASTED = [DeadLeaves, GaussianField, SiemensStar, Picture]


@pytest.mark.parametrize("kind", KINDS["object"].values(), ids=KINDS["object"])
def test_an_object_of_every_kind_is_drawn_in_its_size_and_the_same_again(kind: type[ObjectConfig]):
    config = kind(size_px=96)
    drawn = draw_object(config, seed=5)
    assert drawn.shape == (96, 96)
    assert drawn.dtype == np.complex64
    assert np.array_equal(drawn, draw_object(config, seed=5))


@pytest.mark.parametrize("kind", [DeadLeaves, Lines, GaussianField])
def test_another_seed_draws_another_object(kind: type[ObjectConfig]):
    config = kind(size_px=96)
    assert not np.array_equal(draw_object(config, seed=5), draw_object(config, seed=6))


@pytest.mark.parametrize("kind", CONTRASTED)
def test_amplitude_and_phase_keep_to_their_ranges_and_use_most_of_them(kind: type[DeadLeaves]):
    obj = draw_object(kind(size_px=128, max_phase_rad=0.8, min_amplitude=0.5, max_amplitude=0.9), seed=1)
    amplitude, phase = np.abs(obj), np.angle(obj)
    assert 0.5 - 1e-6 <= amplitude.min() < 0.6
    assert 0.8 < amplitude.max() <= 0.9 + 1e-6
    assert -1e-6 <= phase.min() < 0.2
    assert 0.6 < phase.max() <= 0.8 + 1e-6


@pytest.mark.parametrize(
    ("seed", "number", "total", "pixels"),
    [
        (1, 0, 408143.188, {(0, 0): 2.212332551, (100, 200): 3.907390982}),
        (1, 1, 411615.646, {}),
        (2, 0, 422891.413, {(0, 0): 1.774285025, (100, 200): 2.147392572}),
        (2, 1, 431348.583, {}),
    ],
)
def test_lines_are_the_objects_of_the_published_table(
    seed: int, number: int, total: float, pixels: dict[tuple[int, int], float]
):
    obj = lines(Lines(size_px=392, number=number), seed)
    assert obj.real.sum(dtype=np.float64) == pytest.approx(total, abs=2e-3)
    assert np.array_equal(obj.imag, np.zeros_like(obj.imag))
    for place, value in pixels.items():
        assert obj[place].real == pytest.approx(value, rel=1e-7)


def test_both_objects_of_the_published_table_lie_side_by_side():
    both = draw_object(Lines(size_px=392, count=2), seed=1)
    assert both.shape == Lines(size_px=392, count=2).shape_px == (392, 784)
    assert both[:, :392].real.sum(dtype=np.float64) == pytest.approx(408143.188, abs=2e-3)
    assert both[:, 392:].real.sum(dtype=np.float64) == pytest.approx(411615.646, abs=2e-3)
    for number in (0, 1):
        alone = lines(Lines(size_px=392, number=number), seed=1)
        assert np.array_equal(both[:, 392 * number :][:, :392], alone)
    assert np.array_equal(
        lines(Lines(size_px=64, number=1, count=3), 1)[:, :64], lines(Lines(size_px=64, number=1), 1)
    )


def test_no_leaf_is_smaller_than_the_smallest_radius():
    large, small = (
        dead_leaves(DeadLeaves(size_px=128, min_radius_px=radius, blur_px=0), seed=1) for radius in (8, 3)
    )
    assert len(np.unique(large)) < len(np.unique(small)) / 2


def test_a_gaussian_field_is_as_smooth_as_was_asked_for():
    def correlation_at(lag: int, correlation_px: float) -> float:
        phase = np.angle(gaussian_field(GaussianField(size_px=256, correlation_px=correlation_px), seed=2))
        phase = phase - phase.mean()
        return float((phase[lag:] * phase[:-lag]).mean() / (phase**2).mean())

    # White noise smoothed by a Gaussian of width s has the autocorrelation exp(-lag**2 / (4 s**2)).
    for width in (3.0, 6.0):
        assert correlation_at(round(2 * width), width) == pytest.approx(np.exp(-1), abs=0.1)


def test_a_circle_around_the_centre_of_a_star_crosses_every_spoke_once():
    phase = np.angle(siemens_star(SiemensStar(size_px=256, n_spokes=24), seed=0))
    turn = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
    on_circle = phase[
        np.round(127.5 + 80 * np.sin(turn)).astype(int), np.round(127.5 + 80 * np.cos(turn)).astype(int)
    ]
    is_spoke = on_circle > 0.6
    assert np.count_nonzero(is_spoke & ~np.roll(is_spoke, 1)) == 24
    assert is_spoke.mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("n_spokes", [9, 36])
def test_the_strongest_wave_along_a_ring_of_a_star_has_as_many_periods_as_spokes(n_spokes: int):
    phase = np.angle(siemens_star(SiemensStar(size_px=300, n_spokes=n_spokes), seed=0))
    turn = np.linspace(0, 2 * np.pi, 2048, endpoint=False)
    for radius in (60, 90, 120):
        ring = [149.5 + radius * np.sin(turn), 149.5 + radius * np.cos(turn)]
        spectrum = np.abs(np.fft.rfft(ndimage.map_coordinates(phase, ring, order=1)))
        assert spectrum[1:].argmax() + 1 == n_spokes


def test_a_picture_is_the_photograph_that_was_named():
    def phase_of(name: str) -> NDArray[np.float64]:
        return np.angle(picture(Picture(size_px=64, phase_picture=name), seed=0))

    camera = phase_of("camera")
    assert camera[:16].mean() > camera[40:56, 16:32].mean()  # bright sky above a dark coat
    assert not np.allclose(camera, phase_of("moon"), atol=0.1)
