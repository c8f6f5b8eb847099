"""Torch's generators, keyed like all others, and the one place that seeds the global ones."""

from __future__ import annotations

import random

import numpy as np
import torch

from ptycho_torch.exact.seeding import key

_TORCH_SEED_BITS = 63
_LEGACY_SEED_BITS = 32


def torch_generator(seed: int, *words: str | int) -> torch.Generator:
    """Make a CPU torch generator for one purpose."""
    return torch.Generator().manual_seed(key(seed, *words) >> (128 - _TORCH_SEED_BITS))


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch: the only place that touches them.

    What this project draws is keyed; this is for what libraries draw, such as initial weights.
    """
    word = key(seed, "global")
    random.seed(word)
    np.random.seed(word % (1 << _LEGACY_SEED_BITS))  # noqa: NPY002 - libraries draw from it
    torch.manual_seed(word >> (128 - _TORCH_SEED_BITS))
