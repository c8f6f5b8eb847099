"""Keyed randomness: a draw is a function of the run's seed and of words that say what it is for. No torch."""

from __future__ import annotations

import hashlib

import numpy as np


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
