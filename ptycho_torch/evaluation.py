"""Judge a trained network: is it collapsed, does its image explain the frames, is it like the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ptycho_torch.alignment import Aligned, align_with_truth
from ptycho_torch.collapse import CollapseVerdict, assess
from ptycho_torch.inference import Predictions, probe_intensity, reproject
from ptycho_torch.losses import LOSSES, Loss
from ptycho_torch.metrics import compare_aligned, mean_frame, poisson_r_factor, r_factor
from ptycho_torch.readers.scan import Scan
from ptycho_torch.stitching import Reconstruction
from ptycho_torch.upstream_metrics import published_figures

__all__ = ["Evaluation", "counts_of", "evaluate", "judge_image"]

_CHUNK = 64


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What is known about a result.

    Parameters
    ----------
    metrics
        Figures by name. Correlations, SSIM, PSNR and resolutions are against the truth, where there is one.
    collapse
        The verdict on the network.
    aligned
        The image beside its truth; None where there is none.
    """

    metrics: dict[str, float]
    collapse: CollapseVerdict
    aligned: Aligned | None


def evaluate(
    *,
    scan: Scan,
    train_frames: NDArray[np.int64],
    counts_per_amplitude: float,
    loss_name: str,
    mean_counts: float,
    train_loss: float,
    predictions: Predictions,
    reconstruction: Reconstruction,
    whole: Reconstruction,
) -> Evaluation:
    """Judge a network by its loss, its image and the diffraction that the image predicts.

    Parameters
    ----------
    scan
        All frames; its object, where there is one, is the truth.
    train_frames
        The frames that were trained on; the network's loss is compared with the mean frame's on them.
    counts_per_amplitude
        Factor from the scan's amplitude to the square root of counts.
    loss_name, mean_counts, train_loss
        The loss, its constant, and its mean over the last epoch.
    predictions, reconstruction
        The patches as stitched, and the image.
    whole
        The image with the scan's edge, from which the frames are predicted again.
    """
    counts = counts_of(scan, counts_per_amplitude)
    loss: Loss = LOSSES[loss_name](mean_counts=mean_counts)
    mean = mean_frame(counts[train_frames]).astype(np.float32)
    constant_loss = _mean_loss(
        loss, counts[train_frames], lambda frames: np.broadcast_to(mean, frames.shape), scan
    )
    perfect_loss = _mean_loss(loss, counts[train_frames], lambda frames: frames, scan)
    verdict = assess(
        loss=train_loss,
        mean_frame_loss=constant_loss,
        perfect_loss=perfect_loss,
        patches=predictions.patches,
        probe_intensity=probe_intensity(scan),
        obj=reconstruction.object,
        coverage=reconstruction.coverage,
    )
    judged, aligned = judge_image(reconstruction, whole, scan, counts)
    metrics = judged | {
        "mean_frame_loss": constant_loss,
        "perfect_loss": perfect_loss,
        "mean_counts_per_frame": float(counts.sum(axis=(1, 2), dtype=np.float64).mean()),
        "r_factor_mean_frame": r_factor(np.broadcast_to(mean, counts.shape), counts, scan.mask),
        "patches_accepted": float(reconstruction.accepted),
        "patches_total": float(reconstruction.total),
    }
    metrics |= {f"collapse_{name}": float(value) for name, value in verdict.figures.items()}
    return Evaluation(metrics, verdict, aligned)


def judge_image(
    image: Reconstruction, whole: Reconstruction, scan: Scan, counts: NDArray[np.float32]
) -> tuple[dict[str, float], Aligned | None]:
    """Judge an image by the diffraction that it predicts, and by the truth where there is one.

    Parameters
    ----------
    image
        The image.
    whole
        The image with the scan's edge, from which the frames are predicted again.
    scan
        All frames, with the probe that belongs to the image; its object, where there is one, is the truth.
    counts
        Its frames in counts, masked pixels zero, from :func:`counts_of`.

    Returns
    -------
    tuple
        ``r_factor``, ``r_factor_poisson_floor`` and the figures of
        :func:`ptycho_torch.metrics.compare_aligned` and
        :func:`ptycho_torch.upstream_metrics.published_figures`; the image beside its truth, None where
        there is none.
    """
    predicted = reproject(whole, scan)
    metrics = {
        "r_factor": r_factor(predicted, counts, scan.mask),
        "r_factor_poisson_floor": poisson_r_factor(predicted, scan.mask),
    }
    if scan.object is None:
        return metrics, None
    aligned = align_with_truth(image.object, image.coverage, image.frame_origin_px, scan.object)
    return metrics | compare_aligned(aligned) | published_figures(aligned), aligned


def counts_of(scan: Scan, counts_per_amplitude: float) -> NDArray[np.float32]:
    """Return the frames of a scan in counts, masked pixels zero."""
    counts = np.empty(scan.diffraction.shape, dtype=np.float32)
    for first in range(0, scan.n_frames, _CHUNK):
        block = np.asarray(scan.diffraction[first : first + _CHUNK]) * np.float32(counts_per_amplitude)
        counts[first : first + _CHUNK] = block * block
    if scan.mask is not None:
        counts[:, ~scan.mask] = 0
    return counts


def _mean_loss(
    loss: Loss,
    measured: NDArray[np.float32],
    predict: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    scan: Scan,
) -> float:
    mask = None if scan.mask is None else torch.from_numpy(scan.mask)
    total = 0.0
    for first in range(0, len(measured), _CHUNK):
        frames = measured[first : first + _CHUNK]
        predicted = torch.from_numpy(np.ascontiguousarray(predict(frames)))[:, None]
        value = loss(predicted, torch.from_numpy(frames)[:, None], mask)
        total += float(value) * len(frames)
    return total / len(measured)
