"""Keyed randomness: every draw is a function of the run's seed and of words that say what it is for."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch

_TORCH_SEED_BITS = 63
_LEGACY_SEED_BITS = 32


def key(seed: int, *words: str | int) -> int:
    """Derive a 128-bit key from the run's seed and the words that name a purpose.

    Different seeds or words give unrelated keys; the text 1 and the number 1 are different words.

    Parameters
    ----------
    seed
        The run's one seed.
    words
        What the randomness is for, for instance ``"order", epoch``.
    """
    text = "\x00".join([f"i{seed}", *(f"i{word}" if isinstance(word, int) else f"s{word}" for word in words)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")


def generator(seed: int, *words: str | int) -> np.random.Generator:
    """Make a NumPy generator (Philox, counter-based) for one purpose."""
    return np.random.Generator(np.random.Philox(key=key(seed, *words)))


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
