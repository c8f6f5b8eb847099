from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_torch.interpolation import delay, lanczos4_weights, rotate, unit_phasors


@given(st.floats(0, 1))
def test_weights_add_up_to_one_so_a_constant_stays_constant(fraction: float) -> None:
    assert lanczos4_weights(np.array([fraction])).sum() == pytest.approx(1, abs=1e-6)


@given(st.floats(0, 1))
def test_weights_for_the_same_distance_from_the_other_side_are_mirrored(fraction: float) -> None:
    there, back = (lanczos4_weights(np.array([where])) for where in (fraction, 1 - fraction))
    np.testing.assert_allclose(there, back[:, ::-1], atol=1e-6)


def test_no_fraction_leaves_an_image_bit_for_bit() -> None:
    image = np.random.default_rng(0).normal(size=(2, 9, 12, 2)).astype(np.float32).view(np.complex64)[..., 0]
    np.testing.assert_array_equal(delay(image, np.zeros((2, 2))), image)


def test_delay_moves_content_towards_larger_indices_on_each_axis_by_its_own_fraction() -> None:
    frequencies = 2 * np.pi * np.array([0.11, 0.17])
    index = np.arange(40.0)

    def wave(row: float, column: float) -> np.ndarray:
        phase = frequencies[0] * (index - row)[:, None] + frequencies[1] * (index - column)[None, :]
        return np.exp(1j * phase).astype(np.complex64)

    moved = delay(wave(0, 0)[None], np.array([[0.3, 0.8]]))[0]
    np.testing.assert_allclose(moved[4:-4, 4:-4], wave(0.3, 0.8)[4:-4, 4:-4], atol=0.01)


def test_each_image_of_a_stack_gets_its_own_fraction() -> None:
    image = np.random.default_rng(1).normal(size=(16, 16)).astype(np.complex64)
    fractions = np.array([[0.2, 0.7], [0.9, 0.0]])
    both = delay(np.stack([image, image]), fractions)
    for one, fraction in zip(both, fractions, strict=True):
        np.testing.assert_array_equal(one, delay(image[None], fraction[None])[0])


def test_rotating_there_and_back_returns_the_image() -> None:
    images = np.random.default_rng(2).normal(size=(3, 8, 8, 2)).astype(np.float32).view(np.complex64)[..., 0]
    phasors = np.exp(1j * np.array([0.4, -2.0, 3.0]))
    np.testing.assert_allclose(rotate(images, phasors), images * phasors[:, None, None], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(rotate(rotate(images, phasors), phasors.conj()), images, rtol=1e-5, atol=1e-6)


def test_a_number_without_a_phase_becomes_one() -> None:
    np.testing.assert_allclose(unit_phasors(np.array([0, 3j, -2 + 0j])), [1, 1j, -1])
