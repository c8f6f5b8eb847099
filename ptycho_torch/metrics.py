"""How good a reconstruction is: against a known object, and against the measured diffraction."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.alignment import Aligned, align_with_truth
from ptycho_torch.errors import DataError
from ptycho_torch.ring_correlation import fourier_ring_correlation, resolution_px

FloatArray = NDArray[np.float64]

DECIMALS = 9
"""Reported figures are rounded: a last bit of a library's cosine must not make two runs differ."""
SSIM_WINDOW_PX = 7
FLAT = 1e-6
"""Below this standard deviation, relative to the mean amplitude or in radians, an image has no contrast."""
_CHUNK = 32


def compare_with_truth(
    obj: NDArray[Any], coverage: NDArray[Any], frame_origin_px: NDArray[Any], truth: NDArray[Any]
) -> dict[str, float]:
    """Measure a stitched object against the true one, where it is well covered.

    Parameters
    ----------
    obj, coverage, frame_origin_px, truth
        As for :func:`ptycho_torch.alignment.align_with_truth`.

    Returns
    -------
    dict[str, float]
        See :func:`compare_aligned`.

    Raises
    ------
    DataError
        As for :func:`ptycho_torch.alignment.align_with_truth`.
    """
    return compare_aligned(align_with_truth(obj, coverage, frame_origin_px, truth))


def compare_aligned(aligned: Aligned) -> dict[str, float]:
    """Measure an aligned reconstruction against its truth.

    Phases are taken on one branch for both images, centred on the truth's mean phase, and never unwrapped:
    a truth that spans more than one turn is judged too strictly rather than too kindly.

    Returns
    -------
    dict[str, float]
        ``phase_correlation``, ``amplitude_correlation`` (Pearson, best plane of each image removed; 0 for
        a reconstruction without contrast), ``phase_ssim``, ``amplitude_ssim``, ``phase_psnr_db``,
        ``amplitude_psnr_db`` (data range: the truth's), ``frc_0.5_resolution_px`` and
        ``frc_1_7_resolution_px`` (full period; 2 is Nyquist), ``registered_shift_row_px``,
        ``registered_shift_column_px``, ``removed_ramp_row_rad_per_px``,
        ``removed_ramp_column_rad_per_px``, ``added_phase_rad``, ``amplitude_scale``, ``evaluated_rows`` and
        ``evaluated_columns``.
        A truth without contrast in phase or amplitude has no figures for it.
    """
    obj, truth = aligned.object, aligned.truth
    figures: dict[str, float] = {}
    level = float(np.abs(truth).mean())
    for name, image, reference, unit in (
        ("phase", np.angle(obj), np.angle(truth), 1.0),
        ("amplitude", np.abs(obj), np.abs(truth), level),
    ):
        if reference.std() > FLAT * unit:
            figures.update(_compare_images(name, image, reference, FLAT * unit))
    curve = fourier_ring_correlation(obj, truth)
    figures["frc_0.5_resolution_px"] = resolution_px(curve, 0.5)
    figures["frc_1_7_resolution_px"] = resolution_px(curve, 1 / 7)
    figures["registered_shift_row_px"], figures["registered_shift_column_px"] = aligned.shift_px
    row, column = aligned.ramp_rad_per_px
    figures["removed_ramp_row_rad_per_px"], figures["removed_ramp_column_rad_per_px"] = row, column
    figures["added_phase_rad"], figures["amplitude_scale"] = aligned.phase_rad, aligned.scale
    figures["evaluated_rows"], figures["evaluated_columns"] = (float(side) for side in truth.shape)
    return {name: round(float(value), DECIMALS) for name, value in figures.items()}


def _compare_images(name: str, image: FloatArray, truth: FloatArray, flat: float) -> dict[str, float]:
    data_range = float(truth.max() - truth.min())
    error = float(((image - truth) ** 2).mean())
    # An exact copy has no finite PSNR; float32 objects cannot be told apart beyond this floor.
    floor = (data_range * 1e-7) ** 2
    return {
        f"{name}_correlation": _correlate_contrast(image, truth, flat),
        f"{name}_ssim": structural_similarity(image, truth, data_range),
        f"{name}_psnr_db": 10 * math.log10(data_range**2 / max(error, floor)),
    }


def _correlate_contrast(image: FloatArray, truth: FloatArray, flat: float) -> float:
    # Without planes: else the ramp that alignment gives an empty image would follow the truth's own.
    level = without_plane(image)
    return pearson(level, without_plane(truth)) if level.std() > flat else 0.0


def without_plane(image: FloatArray) -> FloatArray:
    rows, columns = (np.arange(side) - (side - 1) / 2 for side in image.shape)
    row_slope = (image * rows[:, None]).sum() / ((rows**2).sum() * len(columns))
    column_slope = (image * columns[None, :]).sum() / ((columns**2).sum() * len(rows))
    return np.asarray(image - image.mean() - row_slope * rows[:, None] - column_slope * columns[None, :])


def structural_similarity(image: FloatArray, truth: FloatArray, data_range: float) -> float:
    import skimage.metrics

    compare: Callable[..., Any] = skimage.metrics.structural_similarity
    return float(compare(truth, image, data_range=data_range, win_size=SSIM_WINDOW_PX))


def pearson(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Correlate two real images; 0 when one of them has no contrast at all."""
    first, second = (np.asarray(image, dtype=np.float64) - np.mean(image) for image in (first, second))
    power = float((first**2).sum() * (second**2).sum())
    return float((first * second).sum()) / math.sqrt(power) if power > 0 else 0.0


def r_factor(
    predicted_intensity: NDArray[Any], measured_intensity: NDArray[Any], mask: NDArray[Any] | None = None
) -> float:
    """Compare predicted with measured diffraction, as amplitudes.

    Parameters
    ----------
    predicted_intensity, measured_intensity
        Counts, shape (..., N, N); no scale is fitted.
    mask
        Shape (N, N), True where a pixel is used; None uses all.

    Returns
    -------
    float
        Sum of abs(sqrt(predicted) - sqrt(measured)) over the sum of sqrt(measured).

    Raises
    ------
    DataError
        When shapes disagree, a value is negative or not finite, or nothing was measured.
    """
    score = FrameScore(mask)
    score.compare(predicted_intensity, measured_intensity)
    return score.r_factor


class FrameScore:
    """R-factors of frames that are given a few at a time.

    Parameters
    ----------
    mask
        Shape (N, N), True where a pixel is used; None uses all.
    """

    def __init__(self, mask: NDArray[Any] | None = None) -> None:
        self._mask = mask
        self._difference = self._total = self._expected = self._expected_total = 0.0

    def compare(self, predicted_intensity: NDArray[Any], measured_intensity: NDArray[Any]) -> None:
        """Count frames (..., N, N), predicted and measured."""
        for predicted, measured in _frames(predicted_intensity, measured_intensity, self._mask):
            amplitude = np.sqrt(measured)
            self._difference += float(np.abs(np.sqrt(predicted) - amplitude).sum())
            self._total += float(amplitude.sum())

    def expect(self, predicted_intensity: NDArray[Any]) -> None:
        """Count frames (..., N, N) as they are predicted, for the floor."""
        rates, deviation, amplitude = _poisson_table()
        for rate, _ in _frames(predicted_intensity, predicted_intensity, self._mask):
            is_bright = rate > rates[-1]
            bright = np.sqrt(rate[is_bright])
            faint = rate[~is_bright]
            beyond = bright.size / math.sqrt(2 * math.pi)
            self._expected += float(np.interp(faint, rates, deviation).sum()) + beyond
            total = float(np.interp(faint, rates, amplitude).sum()) + float((bright - 0.125 / bright).sum())
            self._expected_total += total

    @property
    def r_factor(self) -> float:
        """The R-factor of what was compared, see :func:`r_factor`."""
        return round(self._difference / _positive(self._total), DECIMALS)

    @property
    def poisson_floor(self) -> float:
        """See :func:`poisson_r_factor`."""
        return round(self._expected / _positive(self._expected_total), DECIMALS)


def poisson_r_factor(predicted_intensity: NDArray[Any], mask: NDArray[Any] | None = None) -> float:
    """Expect this R-factor of a perfect prediction, from which frames differ by Poisson noise only."""
    score = FrameScore(mask)
    score.expect(predicted_intensity)
    return score.poisson_floor


@functools.cache
def _poisson_table() -> tuple[FloatArray, FloatArray, FloatArray]:
    rates = np.concatenate([[0.0], np.geomspace(1e-6, 1.0, 200), np.arange(1.125, 200.1, 0.125)])
    counts = np.arange(350.0)
    log_factorial = np.array([math.lgamma(count + 1) for count in counts])
    logarithm = np.log(np.maximum(rates, 1e-300))
    probability = np.exp(counts * logarithm[:, None] - rates[:, None] - log_factorial)
    deviation = (probability * np.abs(np.sqrt(counts)[None, :] - np.sqrt(rates)[:, None])).sum(axis=1)
    amplitude = (probability * np.sqrt(counts)[None, :]).sum(axis=1)
    return rates, deviation, amplitude


def mean_frame(measured_intensity: NDArray[Any]) -> FloatArray:
    """Average all frames: the best prediction that does not look at the object."""
    frames = np.asarray(measured_intensity)
    frames = frames.reshape(-1, *frames.shape[-2:])
    return np.asarray(frames.mean(axis=0, dtype=np.float64))


def _frames(
    predicted: NDArray[Any], measured: NDArray[Any], mask: NDArray[Any] | None
) -> Iterator[tuple[FloatArray, FloatArray]]:
    predicted, measured = np.asarray(predicted), np.asarray(measured)
    if predicted.shape != measured.shape or measured.ndim < 2:
        raise DataError(f"predicted {predicted.shape} and measured {measured.shape} frames differ in shape")
    frame = measured.shape[-2:]
    used = np.ones(frame, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    if used.shape != frame:
        raise DataError(f"the mask has shape {used.shape}: it must be the frame's {frame}")
    predicted, measured = predicted.reshape(-1, *frame), measured.reshape(-1, *frame)
    for start in range(0, len(measured), _CHUNK):
        pair = [part[start : start + _CHUNK, used].astype(np.float64) for part in (predicted, measured)]
        if any(not np.isfinite(part).all() or (part < 0).any() for part in pair):
            raise DataError(
                f"frames {start} to {start + len(pair[0]) - 1} hold intensities below zero or not finite"
            )
        yield pair[0], pair[1]


def _positive(total: float) -> float:
    if total <= 0:
        raise DataError("the frames hold no counts where the mask is true, so there is no R-factor")
    return total
