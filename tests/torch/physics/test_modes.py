"""Modes of a probe that are added, and mixed into orthogonal ones."""

from __future__ import annotations

import numpy as np
import torch

from ptycho_torch.physics.modes import orthogonal_modes, with_added_modes
from ptycho_torch.physics.propagation import far_field_intensity


def probe(modes: int, side: int = 12) -> np.ndarray:
    rng = np.random.default_rng(5)
    made = rng.normal(size=(modes, side, side)) + 1j * rng.normal(size=(modes, side, side))
    return (made * np.arange(1, modes + 1)[:, None, None]).astype(np.complex64)


def powers(modes: np.ndarray) -> np.ndarray:
    return (np.abs(modes.astype(np.complex128)) ** 2).sum(axis=(1, 2))


def test_orthogonal_modes_are_orthogonal_and_the_strongest_comes_first() -> None:
    modes = orthogonal_modes(probe(4)).reshape(4, -1).astype(np.complex128)
    products = modes.conj() @ modes.T
    strength = np.diag(products).real
    assert np.abs(products - np.diag(np.diag(products))).max() < 1e-5 * strength.max()
    assert (np.diff(strength) < 0).all()


def test_mixing_modes_changes_no_predicted_intensity() -> None:
    obj = torch.randn(12, 12, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    before, after = (
        far_field_intensity(torch.from_numpy(modes) * obj) for modes in (probe(3), orthogonal_modes(probe(3)))
    )
    assert torch.allclose(before, after, rtol=1e-4, atol=1e-4 * float(before.max()))


def test_a_single_mode_is_left_as_it_is() -> None:
    assert np.array_equal(orthogonal_modes(probe(1)), probe(1))


def test_added_modes_are_weak_different_and_cost_no_power() -> None:
    made = with_added_modes(probe(1), 4)
    strength = powers(made)
    assert made.shape == (4, 12, 12)
    assert np.isclose(strength.sum(), powers(probe(1)).sum(), rtol=1e-5)
    assert (strength[1:] < 0.1 * strength[0]).all()
    assert np.linalg.matrix_rank(made.reshape(4, -1)) == 4


def test_a_probe_of_enough_modes_is_returned_as_it_is() -> None:
    assert with_added_modes(probe(3), 2) is not None
    assert np.array_equal(with_added_modes(probe(3), 2), probe(3))
