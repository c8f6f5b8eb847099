"""A trained network turned on a scan: predicted, stitched and judged, a few frames at a time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.alignment import Aligned, align_with_truth
from ptycho_torch.config import InferenceConfig, PyTorchExecutionConfig
from ptycho_torch.data.dataset import Scaling
from ptycho_torch.errors import DataError
from ptycho_torch.inference import predict_patches, reprojections, stitch_patches, synchronise
from ptycho_torch.metrics import FrameScore, compare_aligned
from ptycho_torch.module import PtychoModule
from ptycho_torch.placement import chunks
from ptycho_torch.readers.scan import Scan
from ptycho_torch.scratch import Store
from ptycho_torch.stitching import Reconstruction
from ptycho_torch.upstream_metrics import published_figures

__all__ = ["ScanResult", "reconstruct_scan", "scaling_for", "trained_scaling"]


@dataclass(frozen=True, eq=False)
class ScanResult:
    """A scan, reconstructed.

    Parameters
    ----------
    image
        The object.
    metrics
        How well it explains the frames, and how near it is to the scan's reference where there is one.
    aligned
        The image beside that reference; None where there is none.
    """

    image: Reconstruction
    metrics: Mapping[str, float]
    aligned: Aligned | None


def trained_scaling(module: PtychoModule, scan: Scan) -> Scaling:
    """Return the scales of a trained network, as they hold for the probe of a scan: :func:`scaling_for`.

    Raises
    ------
    DataError
        When the probe's frames are of another size than the network's.
    """
    if scan.side_px != module.model.N:
        raise DataError(
            f"{scan.source}: frames are {scan.side_px} pixels wide, the network's are {module.model.N}"
        )
    return scaling_for(module.scaling, scan)


def scaling_for(scaling: Scaling, scan: Scan) -> Scaling:
    """Return the scales that a network was trained with, as they hold for the probe of a scan.

    What the network puts in its patches fits the power of the probe that it was trained with. Under a probe
    that is given on another scale the same exit waves take the patches on another.
    """
    probe = scan.probe.astype(np.complex128)
    power = math.fsum((np.square(probe.real) + np.square(probe.imag)).ravel().tolist())
    ratio = scaling.probe_power / power
    return dataclasses.replace(scaling, intensity_scale=scaling.intensity_scale * ratio, probe_power=power)


def reconstruct_scan(
    module: PtychoModule,
    scan: Scan,
    scaling: Scaling,
    inference: InferenceConfig,
    execution: PyTorchExecutionConfig,
    *,
    batch_size: int,
    store: Store,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> ScanResult:
    """Reconstruct a scan.

    Parameters
    ----------
    module
        The trained network, on the device where it is to predict.
    scan
        The frames; held anywhere that gives rows.
    scaling
        The scales of the training, see :func:`trained_scaling`.
    inference, execution
        How patches become an image.
    batch_size
        Groups per batch.
    store
        Where what grows with the number of frames is kept.
    report
        Called after every batch with frames done and frames in all.
    """
    predictions = predict_patches(module, scan, scaling, batch_size=batch_size, report=report, store=store)
    batches = predictions.num_batches
    predictions = synchronise(predictions, scan, inference, middle_trim=execution.middle_trim, store=store)
    window = inference.window
    image = stitch_patches(predictions, scan, execution, window=window)
    padded = dataclasses.replace(execution, pad_eval=True)
    whole = image if execution.pad_eval else stitch_patches(predictions, scan, padded, window=window)
    metrics = {
        **_judge_frames(whole, scan, scaling.counts_per_amplitude),
        "patches_accepted": float(image.accepted),
        "patches_total": float(image.total),
        "inference_batches": float(batches),
    }
    aligned = None
    if scan.object is not None:
        aligned = align_with_truth(image.object, image.coverage, image.frame_origin_px, scan.object)
        metrics |= compare_aligned(aligned) | published_figures(aligned)
    return ScanResult(image, metrics, aligned)


def _judge_frames(whole: Reconstruction, scan: Scan, counts_per_amplitude: float) -> dict[str, float]:
    """Compare the frames that the image predicts, and their mean, with the measured ones."""
    total = np.zeros((scan.side_px, scan.side_px))
    for chunk in chunks(scan.n_frames):
        total += _counts(scan, chunk, counts_per_amplitude).sum(axis=0, dtype=np.float64)
    mean = (total / scan.n_frames).astype(np.float32)
    ours, constant = FrameScore(scan.mask), FrameScore(scan.mask)
    for chunk, predicted in reprojections(whole, scan):
        measured = _counts(scan, chunk, counts_per_amplitude)
        ours.compare(predicted, measured)
        ours.expect(predicted)
        constant.compare(np.broadcast_to(mean, measured.shape), measured)
    return {
        "mean_counts_per_frame": float(total.sum() / scan.n_frames),
        "r_factor": ours.r_factor,
        "r_factor_mean_frame": constant.r_factor,
        "r_factor_poisson_floor": ours.poisson_floor,
    }


def _counts(scan: Scan, chunk: slice, counts_per_amplitude: float) -> NDArray[np.float32]:
    amplitude = np.asarray(scan.diffraction[chunk]) * np.float32(counts_per_amplitude)
    counts: NDArray[np.float32] = amplitude * amplitude
    if scan.mask is not None:
        counts[:, ~scan.mask] = 0
    return counts
