"""From a trained network to one image: predict every patch, bring them to one phase, stitch, re-project."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ptycho_torch.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig
from ptycho_torch.data.dataset import Scaling
from ptycho_torch.data.grouping import group_neighbours, group_squares
from ptycho_torch.interpolation import TAPS, delay
from ptycho_torch.module import PtychoModule
from ptycho_torch.physics.probe import within_support
from ptycho_torch.physics.propagation import far_field_intensity
from ptycho_torch.placement import Window
from ptycho_torch.readers.scan import Scan
from ptycho_torch.scratch import Store, in_memory
from ptycho_torch.stitching import Reconstruction, stitch, synchronise_phases

__all__ = [
    "Predictions",
    "on_its_device",
    "predict_patches",
    "probe_intensity",
    "reproject",
    "reprojections",
    "stitch_patches",
    "synchronise",
    "with_supported_probe",
    "with_trained_probe",
]

REPROJECTION_BATCH = 32


@dataclass(frozen=True, eq=False)
class Predictions:
    """The patches that a network sees in the frames of a scan.

    Parameters
    ----------
    patches
        Object patches [J, N, N], complex64, on the scale on which ``abs(F(P O))**2`` is in counts.
    corners_px
        Row and column of each patch's pixel [0, 0] on the object grid, [J, 2].
    num_batches
        Number of batches in which they were predicted.
    """

    patches: NDArray[np.complex64]
    corners_px: NDArray[np.float64]
    num_batches: int


def probe_intensity(scan: Scan) -> NDArray[np.float32]:
    """Return the sum of abs(P)^2 over the probe's modes, [N, N]."""
    return np.asarray((scan.probe.real**2 + scan.probe.imag**2).sum(axis=0), dtype=np.float32)


def with_supported_probe(scan: Scan, model: ModelConfig) -> Scan:
    """Give a scan its probe within the model's mask; without a mask return the scan as it is."""
    probe = within_support(scan.probe, model)
    return scan if probe is scan.probe else dataclasses.replace(scan, probe=probe)


def with_trained_probe(module: PtychoModule, scan: Scan) -> Scan:
    """Give a scan the network's probe, where the probe was trained too; else its own, within the mask."""
    if not module.model.probe_trainable:
        return with_supported_probe(scan, module.model)
    return dataclasses.replace(scan, probe=module.forward_model.probe.detach().cpu().numpy())


def on_its_device(module: PtychoModule) -> PtychoModule:
    """Move a network to where its execution asks for; a training leaves it in main memory."""
    return module.to("cuda" if module.execution.accelerator in {"cuda", "gpu"} else "cpu")


def predict_patches(
    module: PtychoModule,
    scan: Scan,
    scaling: Scaling,
    *,
    batch_size: int,
    report: Callable[[int, int], None] = lambda done, total: None,
    store: Store = in_memory,
) -> Predictions:
    """Predict one patch for every frame of a scan.

    Parameters
    ----------
    module
        The trained network.
    scan
        The frames; masked pixels are zero in the network's input, as they are in training.
    scaling
        The frozen scales of the data that the network was trained on.
    batch_size
        Groups per batch; a network that gives every pattern its own patch sees one frame per group.
    report
        Called after every batch with frames done and frames in all.
    store
        Where the patches are kept, to which no bit is due.
    """
    groups, corners = _inference_groups(module, scan)
    patches = store((len(groups), scan.side_px, scan.side_px), np.complex64)
    amplitude_scale = np.float32(np.sqrt(np.float64(scaling.intensity_scale)))
    was_training = module.training
    module.eval()
    num_batches = 0
    with torch.inference_mode():
        for first in range(0, len(groups), batch_size):
            members = groups[first : first + batch_size]
            amplitude = np.asarray(scan.diffraction[members], dtype=np.float32) * np.float32(
                scaling.input_scale
            )
            if scan.mask is not None:
                amplitude[..., ~scan.mask] = 0
            predicted = module.predict_patches_in_portions(torch.from_numpy(amplitude).to(module.device))
            scaled = predicted[:, 0].cpu().numpy()
            scaled *= amplitude_scale
            patches[first : first + len(members)] = scaled
            num_batches += 1
            report(first + len(members), len(groups))
    module.train(was_training)
    return Predictions(patches, corners, num_batches)


def synchronise(
    predictions: Predictions,
    scan: Scan,
    inference: InferenceConfig,
    *,
    middle_trim: int,
    store: Store = in_memory,
) -> Predictions:
    """Bring the patches to one global phase, where `inference` asks for it."""
    if not inference.sync_phases:
        return predictions
    patches = synchronise_phases(
        predictions.patches,
        predictions.corners_px,
        probe_intensity(scan),
        rounds=inference.sync_rounds,
        middle_trim=middle_trim,
        window=inference.window,
        store=store,
    )
    return dataclasses.replace(predictions, patches=patches)


def stitch_patches(
    predictions: Predictions, scan: Scan, execution: PyTorchExecutionConfig, *, window: Window = "smooth"
) -> Reconstruction:
    """Stitch the patches as ``middle_trim``, ``pad_eval`` and the configuration's ``window`` say."""
    return stitch(
        predictions.patches,
        predictions.corners_px,
        probe_intensity(scan),
        middle_trim=execution.middle_trim,
        window=window,
        pad=execution.pad_eval,
    )


def reproject(reconstruction: Reconstruction, scan: Scan) -> NDArray[np.float32]:
    """Predict the diffraction of a stitched object at every position of a scan.

    Returns
    -------
    NDArray[np.float32]
        Counts [J, N, N]; where the object is not covered nothing is transmitted.
    """
    predicted = np.empty((scan.n_frames, scan.side_px, scan.side_px), dtype=np.float32)
    for chunk, intensity in reprojections(reconstruction, scan):
        predicted[chunk] = intensity
    return predicted


def reprojections(reconstruction: Reconstruction, scan: Scan) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Do the same a few frames at a time: yields which, and their counts."""
    probe = torch.from_numpy(np.ascontiguousarray(scan.probe))
    first = 0
    for patches in _cut(reconstruction, scan):
        with torch.inference_mode():
            intensity = far_field_intensity(torch.from_numpy(patches)[:, None] * probe)
        yield slice(first, first + len(patches)), intensity.numpy()
        first += len(patches)


def _cut(reconstruction: Reconstruction, scan: Scan) -> Iterator[NDArray[np.complex64]]:
    side, margin = scan.side_px, TAPS
    whole = np.ceil(scan.corners_px)
    fractions = whole - scan.corners_px
    rows, columns = (whole.astype(np.int64) - reconstruction.frame_origin_px).T
    height, width = reconstruction.object.shape
    before = margin + max(0, -int(min(rows.min(), columns.min())))
    after = margin + side + max(0, int(max(rows.max() + side - height, columns.max() + side - width)))
    canvas = np.pad(reconstruction.object, ((before, after), (before, after)))
    for first in range(0, scan.n_frames, REPROJECTION_BATCH):
        chunk = slice(first, first + REPROJECTION_BATCH)
        windows: list[NDArray[Any]] = []
        for row, column in zip(rows[chunk].tolist(), columns[chunk].tolist(), strict=True):
            top, left = row + before - margin, column + before - margin
            windows.append(canvas[top : top + side + 2 * margin, left : left + side + 2 * margin])
        moved = delay(np.stack(windows), fractions[chunk])
        yield np.ascontiguousarray(moved[:, margin : margin + side, margin : margin + side])


def _inference_groups(module: PtychoModule, scan: Scan) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    gridsize = module.model.gridsize
    if module.model.object_big or gridsize == 1:
        return np.arange(scan.n_frames, dtype=np.int64)[:, None], scan.corners_px
    if module.model.grouping == "square":
        groups = group_squares(scan.corners_px, None, seed=0, sequential=True)
    else:
        groups = group_neighbours(
            scan.corners_px,
            gridsize,
            scan.n_frames,
            neighbor_count=gridsize**2 - 1,
            seed=0,
            sequential=True,
        )
    return groups, scan.corners_px[groups].mean(axis=1)
