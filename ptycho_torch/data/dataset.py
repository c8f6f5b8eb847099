"""Groups of frames as samples: scaled amplitudes for the network, counts for the loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ptycho_torch.config import DataConfig, ModelConfig
from ptycho_torch.errors import DataError
from ptycho_torch.exact.sampler import SampleKey
from ptycho_torch.physics.probe import within_support
from ptycho_torch.readers.scan import Scan

_BLOCK_FRAMES = 64


@dataclass(frozen=True)
class Batch:
    """A batch of B groups of C frames.

    Parameters
    ----------
    input_amplitude
        Network input [B, C, N, N] float32: amplitude times ``Scaling.input_scale``, masked pixels zero.
    measured_intensity
        **Counts** [B, C, N, N] float32, masked pixels zero.
    offsets_px
        [B, C, 2] float32, (row, column) of each patch's centre from the mean of its group.
    mask
        [N, N] bool, True where the pixel is used; None uses all.
    index
        [B] int64, number of each group.
    """

    input_amplitude: Tensor
    measured_intensity: Tensor
    offsets_px: Tensor
    mask: Tensor | None
    index: Tensor

    def portion(self, first: int, last: int) -> Batch:
        """Give the groups from number `first` up to, and without, number `last` of the batch."""
        return Batch(
            self.input_amplitude[first:last],
            self.measured_intensity[first:last],
            self.offsets_px[first:last],
            self.mask,
            self.index[first:last],
        )

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """Give the batch on another device."""
        return Batch(
            self.input_amplitude.to(device, non_blocking=non_blocking),
            self.measured_intensity.to(device, non_blocking=non_blocking),
            self.offsets_px.to(device, non_blocking=non_blocking),
            None if self.mask is None else self.mask.to(device, non_blocking=non_blocking),
            self.index.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> Batch:
        """Give the batch in page-locked memory; the loader calls this."""
        return Batch(
            self.input_amplitude.pin_memory(),
            self.measured_intensity.pin_memory(),
            self.offsets_px.pin_memory(),
            None if self.mask is None else self.mask.pin_memory(),
            self.index.pin_memory(),
        )


@dataclass(frozen=True)
class Scaling:
    """Scales measured on the training frames, frozen and kept with the model.

    Parameters
    ----------
    input_scale
        Network input over stored amplitude: sqrt((N/2)^2 / mean over frames of sum x^2).
    intensity_scale
        Counts over ``|F(P O)|^2``: the factor at which a patch of amplitude ``amplitude_level``
        explains the mean frame.
    counts_per_amplitude
        Root of counts over stored amplitude: 1 for data in counts, else from ``nphotons``.
    mean_counts
        Mean over the training frames of a frame's counts: measured for data in counts, else ``nphotons``.
    probe_power
        Sum of ``|P|^2`` over pixels and modes, within the probe's mask where there is one.
    """

    input_scale: float
    intensity_scale: float
    counts_per_amplitude: float
    mean_counts: float
    probe_power: float


def measure_scaling(
    scan: Scan, train_frames: NDArray[np.int64], data: DataConfig, model: ModelConfig
) -> Scaling:
    """Measure the scales on the training frames.

    All sums run in double precision and are rounded once, so they do not depend on blocks or order.

    Parameters
    ----------
    scan
        The scan.
    train_frames
        Frames of the training split; no other frame is looked at.
    data
        Gives ``nphotons``, used for ``normalized_amplitude`` only.
    model
        Gives the amplitude level, and the mask of the probe.

    Raises
    ------
    DataError
        When there are no training frames or they are dark, or the probe is within its mask.
    """
    if len(train_frames) == 0:
        raise DataError(f"{scan.source}: there are no training frames to measure the scales on")
    mean_power = math.fsum(_frame_powers(scan, train_frames)) / len(train_frames)
    if not mean_power > 0:
        raise DataError(f"{scan.source}: the {len(train_frames)} training frames are dark")
    is_normalized = scan.units == "normalized_amplitude"
    mean_counts = float(data.nphotons) if is_normalized else mean_power
    probe = within_support(scan.probe, model).astype(np.complex128)
    probe_power = math.fsum((np.square(probe.real) + np.square(probe.imag)).ravel().tolist())
    return Scaling(
        input_scale=math.sqrt((scan.side_px / 2) ** 2 / mean_power),
        intensity_scale=mean_counts / (probe_power * model.amplitude_level**2),
        counts_per_amplitude=math.sqrt(mean_counts / mean_power) if is_normalized else 1.0,
        mean_counts=mean_counts,
        probe_power=probe_power,
    )


def _frame_powers(scan: Scan, frames: NDArray[np.int64]) -> Iterator[float]:
    for first in range(0, len(frames), _BLOCK_FRAMES):
        block = scan.diffraction[frames[first : first + _BLOCK_FRAMES]]
        for frame in block:
            used = frame.ravel() if scan.mask is None else frame[scan.mask]
            yield float(np.square(used, dtype=np.float64).sum())


class GroupDataset(Dataset[Batch]):
    """Samples that are groups of frames; a frame's row is read when a batch needs it, and copied once.

    Parameters
    ----------
    scan
        A checked scan. Its stack is neither copied nor changed.
    groups
        (G, C) frame indices.
    scaling
        Scales measured on the training frames, for validation frames too.
    """

    def __init__(self, scan: Scan, groups: NDArray[np.int64], scaling: Scaling) -> None:
        corners_px = scan.corners_px[groups]
        self._diffraction = scan.diffraction
        self._mask = scan.mask
        self._groups = groups
        self._offsets_px: NDArray[np.float32] = (corners_px - corners_px.mean(axis=1, keepdims=True)).astype(
            np.float32
        )
        self._input_scale = np.float32(scaling.input_scale)
        self._counts_per_amplitude = np.float32(scaling.counts_per_amplitude)

    @property
    def offsets_px(self) -> NDArray[np.float32]:
        """(G, C, 2) offsets of the patches from the mean of their group."""
        return self._offsets_px

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, key: SampleKey | int) -> Batch:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[SampleKey | int]) -> Batch:
        """Make a batch of the groups named by ``(epoch, index)`` or by index."""
        index = np.array([key[1] if isinstance(key, tuple) else key for key in keys], dtype=np.int64)
        frames = self._groups[index]
        side = self._diffraction.shape[-1]
        stored = self._diffraction[frames.reshape(-1)].reshape(*frames.shape, side, side)
        if self._mask is not None:
            stored[..., ~self._mask] = 0
        amplitude = stored * self._input_scale
        if self._counts_per_amplitude != 1:
            stored *= self._counts_per_amplitude
        np.square(stored, out=stored)
        return Batch(
            input_amplitude=torch.from_numpy(amplitude),
            measured_intensity=torch.from_numpy(stored),
            offsets_px=torch.from_numpy(self._offsets_px[index]),
            mask=None if self._mask is None else torch.from_numpy(self._mask.copy()),
            index=torch.from_numpy(index),
        )
