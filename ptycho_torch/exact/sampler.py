"""Order of the samples: a function of seed and epoch alone, so that a run can resume anywhere."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from ptycho_torch.exact.seeding import generator

SampleKey = tuple[int, int]
"""Epoch and sample index."""


class KeyedBatchSampler(Sampler[list[SampleKey]]):
    """Batches of ``(epoch, index)`` whose order is keyed by seed and epoch.

    It keeps no random state. A run resumed in the middle of an epoch calls :meth:`set_position`
    before its loader is iterated; later epochs begin at their first batch again.

    Parameters
    ----------
    n_samples
        Number of samples.
    batch_size
        Samples per batch; the last batch may be smaller.
    seed
        The run's seed.
    shuffle
        Permute the samples in every epoch; else keep their order.
    """

    def __init__(self, n_samples: int, batch_size: int, seed: int, *, shuffle: bool = True) -> None:
        super().__init__()
        if n_samples < 1 or batch_size < 1:
            raise ValueError(f"{n_samples} samples in batches of {batch_size}: both must be 1 or more")
        self._n_samples = n_samples
        self._batch_size = batch_size
        self._seed = seed
        self._shuffle = shuffle
        self._epoch = 0
        self._resumed_at = (0, 0)

    @property
    def sampler(self) -> KeyedBatchSampler:
        """The sampler itself: Lightning looks here for :meth:`set_epoch`."""
        return self

    @property
    def epoch(self) -> int:
        """The epoch whose order the next iteration gives."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch; batches are skipped in it only where :meth:`set_position` said so."""
        self._epoch = epoch

    def set_position(self, epoch: int, batch: int = 0) -> None:
        """Go to a batch of an epoch.

        Parameters
        ----------
        epoch
            Epoch, from zero.
        batch
            Number of that epoch's batches already processed; they are skipped, in that epoch only.

        Raises
        ------
        ValueError
            When the epoch has fewer batches.
        """
        if not (epoch >= 0 and 0 <= batch <= len(self)):
            raise ValueError(
                f"position (epoch {epoch}, batch {batch}) is outside an epoch of {len(self)} batches"
            )
        self._epoch = epoch
        self._resumed_at = (epoch, batch)

    def order(self, epoch: int) -> list[int]:
        """Give the sample indices of an epoch in their order."""
        if not self._shuffle:
            return list(range(self._n_samples))
        draw = generator(self._seed, "order", epoch).random(self._n_samples)
        indices: list[int] = np.argsort(draw, kind="stable").tolist()
        return indices

    def __len__(self) -> int:
        return (self._n_samples + self._batch_size - 1) // self._batch_size

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch = self._epoch
        resumed_epoch, resumed_batch = self._resumed_at
        order = self.order(epoch)
        for batch in range(resumed_batch if epoch == resumed_epoch else 0, len(self)):
            first = batch * self._batch_size
            yield [(epoch, index) for index in order[first : first + self._batch_size]]
