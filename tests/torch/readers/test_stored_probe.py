"""The probe of a file, and the files that hold none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ptycho_torch.errors import DataError
from ptycho_torch.readers.stored_probe import stored_probe

MODES = np.random.default_rng(3).normal(size=(2, 64, 64)) + 1j


@pytest.mark.parametrize("stored", [MODES, MODES[0], MODES[0][..., None]], ids=["modes", "one", "last axis"])
def test_a_probe_keeps_its_shape_and_gets_unit_power(stored: np.ndarray, tmp_path: Path):
    np.savez(tmp_path / "p.npz", probeGuess=stored, other=np.zeros(3))
    probe = stored_probe(tmp_path / "p.npz", 64)
    assert probe.dtype == np.complex64
    assert (np.abs(probe.astype(np.complex128)) ** 2).sum() == pytest.approx(1, rel=1e-6)
    flat = stored.reshape(-1, 64, 64)
    assert np.allclose(probe, flat / np.linalg.norm(flat), atol=1e-7)


@pytest.mark.parametrize(
    ("members", "n_modes", "said"),
    [
        ({"probe": MODES}, 1, "holds no complex probeGuess"),
        ({"probeGuess": MODES.real}, 1, "holds no complex probeGuess"),
        ({"probeGuess": MODES[:, :32, :32]}, 1, r"has shape \(2, 32, 32\)"),
        ({"probeGuess": MODES[:0]}, 1, "dark everywhere"),
        ({"probeGuess": 0 * MODES}, 1, "dark everywhere"),
        ({"probeGuess": MODES * np.inf}, 1, "NaN or infinity"),
        ({"probeGuess": MODES}, 2, "has 2 modes of its own"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_file_without_such_a_probe_is_refused(
    members: dict[str, np.ndarray], n_modes: int, said: str, tmp_path: Path
):
    np.savez(tmp_path / "p.npz", **members)
    with pytest.raises(DataError, match=said):
        stored_probe(tmp_path / "p.npz", 64, n_modes)
