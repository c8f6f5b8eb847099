from __future__ import annotations

import hashlib
import random

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptycho_torch.exact.seeding import generator, key
from ptycho_torch.exact.torch_seeding import seed_everything, torch_generator

WORDS = st.lists(st.one_of(st.integers(0, 2**64), st.text("ab1", min_size=1, max_size=4)), max_size=4)


@given(st.integers(0, 2**64), WORDS, st.integers(0, 2**64), WORDS)
def test_two_purposes_share_a_key_only_if_they_are_the_same(seed, words, other_seed, other_words):
    is_same = (seed, words) == (other_seed, other_words) and [*map(type, words)] == [*map(type, other_words)]
    assert (key(seed, *words) == key(other_seed, *other_words)) is is_same


def test_a_number_and_its_text_are_different_words():
    assert key(0, 1) != key(0, "1")
    assert key(0, "a", "b") != key(0, "ab")


def test_a_key_is_half_a_sha256_of_seed_and_words():
    digest = hashlib.sha256(b"i42\x00sorder\x00i3").hexdigest()
    assert key(42, "order", 3) == int(digest[:32], 16)


def test_generators_repeat_and_leave_the_global_ones_alone():
    states = random.getstate(), torch.random.get_rng_state()
    first, again = (generator(1, "noise").random(5) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, generator(1, "other").random(5))
    draws = [torch.rand(5, generator=torch_generator(1, purpose)) for purpose in ("a", "a", "b")]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert random.getstate() == states[0]
    assert torch.equal(torch.random.get_rng_state(), states[1])


def test_seeding_everything_repeats_every_global_generator():
    def draw(seed):
        seed_everything(seed)
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    first, again, other = draw(5), draw(5), draw(6)
    assert first == again
    assert all(one != two for one, two in zip(first, other, strict=True))
    seed_everything(2**70)
