from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho_torch.exact.sampler import KeyedBatchSampler

SIZES = {"n_samples": st.integers(1, 60), "batch_size": st.integers(1, 20)}


@settings(max_examples=40, deadline=None)
@given(**SIZES, seed=st.integers(0, 2**63), epoch=st.integers(0, 500))
def test_an_epoch_holds_every_sample_once_under_its_own_number(n_samples, batch_size, seed, epoch):
    sampler = KeyedBatchSampler(n_samples, batch_size, seed)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert {key[0] for batch in batches for key in batch} == {epoch}
    assert sorted(key[1] for batch in batches for key in batch) == list(range(n_samples))
    assert all(len(batch) == batch_size for batch in batches[:-1])


@settings(max_examples=40, deadline=None)
@given(**SIZES, seed=st.integers(0, 2**31), data=st.data())
def test_a_resumed_epoch_is_the_rest_of_the_epoch_and_later_ones_are_whole(n_samples, batch_size, seed, data):
    whole, resumed = (KeyedBatchSampler(n_samples, batch_size, seed) for _ in range(2))
    epoch = data.draw(st.integers(0, 20))
    batch = data.draw(st.integers(0, len(whole)))
    resumed.set_position(epoch, batch)
    assert len(resumed) == len(whole)
    for later in (epoch, epoch, epoch + 1):
        whole.set_epoch(later)
        resumed.set_epoch(later)
        skipped = batch if later == epoch else 0
        assert list(resumed) == list(whole)[skipped:]
        assert len(resumed) == len(whole)


def test_the_order_follows_seed_and_epoch_alone():
    first, again, other = (KeyedBatchSampler(50, 8, seed) for seed in (1, 1, 2))
    list(again)
    again.set_epoch(9)
    list(again)
    assert first.order(4) == again.order(4)
    assert first.order(4) != first.order(5)
    assert first.order(4) != other.order(4)


def test_without_shuffling_the_order_is_the_given_one():
    assert list(KeyedBatchSampler(5, 2, 0, shuffle=False)) == [[(0, 0), (0, 1)], [(0, 2), (0, 3)], [(0, 4)]]


def test_the_order_is_frozen_across_releases():
    assert KeyedBatchSampler(10, 4, 42).order(3) == [2, 3, 4, 9, 5, 6, 0, 8, 7, 1]


@pytest.mark.parametrize("position", [(-1, 0), (0, -1), (0, 8)])
def test_a_position_outside_the_epoch_is_refused(position):
    with pytest.raises(ValueError, match="7 batches"):
        KeyedBatchSampler(50, 8, 0).set_position(*position)


@pytest.mark.parametrize(("n_samples", "batch_size"), [(0, 4), (4, 0)])
def test_an_empty_order_is_refused(n_samples, batch_size):
    with pytest.raises(ValueError, match="1 or more"):
        KeyedBatchSampler(n_samples, batch_size, 0)
