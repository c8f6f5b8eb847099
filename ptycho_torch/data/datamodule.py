"""The training and validation data of one run: split, groups, scales and loaders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from ptycho_torch.data.dataset import Batch, GroupDataset, Scaling, measure_scaling
from ptycho_torch.data.grouping import (
    group_neighbours,
    group_squares,
    groups_digest,
    select_frames,
    split_frames,
)
from ptycho_torch.demand import frames_held_together
from ptycho_torch.errors import DataError, NotRunnableError
from ptycho_torch.exact.sampler import KeyedBatchSampler
from ptycho_torch.exact.seeding import key
from ptycho_torch.exact.torch_seeding import torch_generator
from ptycho_torch.readers.scan import Scan, raise_problems

if TYPE_CHECKING:
    from ptycho_torch.payloads import TrainingPayload


class PtychoDataModule(LightningDataModule):
    """Split a scan by frames, form groups on each side, and load them in a keyed order.

    The same seed gives the same batches whatever the number of workers.

    Parameters
    ----------
    payload
        The resolved configurations.
    train
        Checked training scan.
    test
        Checked validation scan; None holds out ``validation_fraction`` of the training scan's frames.
    seed
        The run's seed.

    Raises
    ------
    DataError
        When a scan does not fit the model or the other scan, or its frames do not suffice.
    """

    def __init__(self, payload: TrainingPayload, train: Scan, test: Scan | None, seed: int) -> None:
        super().__init__()
        self._payload = payload
        self._seed = seed
        raise_problems(train.source, _misfits(payload, train))
        if test is not None:
            raise_problems(test.source, _misfits(payload, test))
            if (test.units == "normalized_amplitude") != (train.units == "normalized_amplitude"):
                raise DataError(
                    f"{test.source}: holds {test.units} but {train.source} holds {train.units}: "
                    "give both in one unit"
                )
        data, gridsize = payload.data, payload.model.gridsize
        frames = select_frames(train.n_frames, data.n_subsample, seed, sequential=data.sequential_sampling)
        trained, held_out = split_frames(
            len(frames),
            data.validation_fraction if test is None else 0.0,
            seed,
            positions_px=train.corners_px[frames],
            cluster=frames_held_together(gridsize, data.neighbor_count),
        )
        self._train_frames = frames[trained]
        self._val_scan = train if test is None else test
        self._val_frames = frames[held_out] if test is None else np.arange(test.n_frames, dtype=np.int64)
        self._train_groups = self._grouped(train, self._train_frames, payload.training.n_groups, "train")
        self._val_groups = np.empty((0, gridsize**2), dtype=np.int64)
        if len(self._val_frames):
            self._val_groups = self._grouped(self._val_scan, self._val_frames, None, "validation")
        self._scaling = measure_scaling(train, self._train_frames, data, payload.model)
        self._train = GroupDataset(train, self._train_groups, self._scaling)
        self._val = GroupDataset(self._val_scan, self._val_groups, self._scaling)
        batch_size = payload.training.batch_size
        self._sampler = KeyedBatchSampler(len(self._train), batch_size, seed)

    def _grouped(
        self, scan: Scan, frames: NDArray[np.int64], n_groups: int | None, side: str
    ) -> NDArray[np.int64]:
        data, model = self._payload.data, self._payload.model
        seed, positions_px = key(self._seed, "groups", side), scan.corners_px[frames]
        try:
            if model.grouping == "square":
                members = group_squares(
                    positions_px, n_groups, seed=seed, sequential=data.sequential_sampling
                )
            else:
                members = group_neighbours(
                    positions_px,
                    model.gridsize,
                    len(frames) if n_groups is None else n_groups,
                    neighbor_count=data.neighbor_count,
                    seed=seed,
                    sequential=data.sequential_sampling,
                    oversample=data.oversample,
                )
        except DataError as error:
            raise DataError(f"{scan.source}, {side} frames: {error}") from error
        return frames[members]

    @property
    def scaling(self) -> Scaling:
        """Scales measured on the training frames."""
        return self._scaling

    @property
    def frames(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Training and validation frames."""
        return self._train_frames, self._val_frames

    @property
    def groups(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Training and validation groups, (G, C) frame indices; (0, C) without validation."""
        return self._train_groups, self._val_groups

    @property
    def groups_digest(self) -> str:
        """Digest of both sides' groups."""
        return groups_digest(self._train_groups, self._val_groups)

    @property
    def datasets(self) -> tuple[GroupDataset, GroupDataset]:
        """Training and validation dataset."""
        return self._train, self._val

    @property
    def max_offset_px(self) -> float:
        """Largest absolute offset of a patch from its group's mean on either side; sets the canvas."""
        return max(float(np.abs(side.offsets_px).max(initial=0.0)) for side in self.datasets)

    def set_position(self, epoch: int, batch: int = 0) -> None:
        """Resume the training order: skip the epoch's first batches, in that epoch only.

        Call it before the trainer makes its iterators, with the counts of *processed* epochs and batches.

        Parameters
        ----------
        epoch
            Epoch, from zero.
        batch
            Batches of it that are already processed.
        """
        self._sampler.set_position(epoch, batch)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Load the training groups, every epoch in another keyed order."""
        if self.trainer is not None and self.trainer.world_size > 1:
            raise NotRunnableError(
                f"execution.n_devices is {self.trainer.world_size} but samples are not divided among "
                "devices: set it to 1"
            )
        return self._loader(self._train, self._sampler, "train loader")

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Load the validation groups in their order; an empty list when there are none."""
        if not len(self._val):
            return []
        sampler = KeyedBatchSampler(
            len(self._val), self._payload.training.batch_size, self._seed, shuffle=False
        )
        return self._loader(self._val, sampler, "validation loader")

    def _loader(self, dataset: GroupDataset, sampler: KeyedBatchSampler, name: str) -> DataLoader[Batch]:
        execution = self._payload.execution_config
        return DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=_as_is,
            num_workers=execution.num_workers,
            pin_memory=execution.pin_memory,
            persistent_workers=execution.persistent_workers,
            prefetch_factor=execution.prefetch_factor,
            # Without one, every iter() would draw from the global generator.
            generator=torch_generator(self._seed, name),
        )


def _as_is(batch: Any) -> Any:
    return batch


def _misfits(payload: TrainingPayload, scan: Scan) -> list[str]:
    problems = []
    if scan.side_px != payload.model.N:
        problems.append(
            f"frames are {scan.side_px} pixels wide but model.N is {payload.model.N}: set model.N to match"
        )
    is_normalized = scan.units == "normalized_amplitude"
    if is_normalized != (payload.data.units == "normalized_amplitude"):
        problems.append(f"holds {scan.units} but data.units is {payload.data.units}: correct data.units")
    return problems
