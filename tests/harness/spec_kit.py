"""What the tests of specs share: an inventory, small scans, and one call from text to resolution."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from harness.inventory import Inventory
from harness.resolve import Resolution, resolve
from harness.spec import read_spec

ROOT = Path(__file__).resolve().parents[2]
SMALL = "name: x\ndata: {train: {simulate: {}}}\ntraining: {n_groups: 64}\n"
LOCAL = Inventory("local", "x86_64", "a processor", frozenset({"avx2", "fma"}), 2)
WITH_GPU = Inventory(
    "local", "x86_64", "a processor", frozenset({"avx2", "fma"}), 2, ("cpu", "cuda"), ("one GPU",)
)


def write(folder: Path, text: str, name: str = "spec.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def resolved(
    folder: Path, text: str, *sets: str, inventory: Inventory = LOCAL, data_dirs: tuple[Path, ...] = ()
) -> Resolution:
    return resolve(read_spec(write(folder, text), sets), inventory, data_dirs=data_dirs)


def write_scan(path: Path, n_frames: int = 40, N: int = 64, *, with_object: bool = False) -> str:
    """Write a small scan in counts and return its sha256."""
    randomness = np.random.default_rng(n_frames)
    arrays = {
        "diffraction": np.sqrt(randomness.poisson(3.0, (n_frames, N, N))).astype(np.float32),
        "xcoords": randomness.uniform(40, 60, n_frames),
        "ycoords": randomness.uniform(40, 60, n_frames),
        "probeGuess": np.ones((N, N), np.complex64),
    }
    if with_object:
        arrays["objectGuess"] = np.ones((120, 120), np.complex64)
    np.savez(path, **arrays)
    return hashlib.sha256(path.read_bytes()).hexdigest()
