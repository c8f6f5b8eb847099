"""What is said of a result: a perfect one, an empty one, and one with a reference."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ptycho_torch.config import PyTorchExecutionConfig
from ptycho_torch.errors import DataError
from ptycho_torch.evaluation import Evaluation, evaluate
from ptycho_torch.inference import Predictions, stitch_patches
from ptycho_torch.losses import LOSSES
from ptycho_torch.readers.scan import Scan
from ptycho_torch.reference import with_reference
from tests.torch.simulated_truth import simulated, true_patches

MEAN_COUNTS = 1e6
TRAINED = np.arange(70)


def counts_of(scan: Scan) -> torch.Tensor:
    return torch.from_numpy(np.square(scan.diffraction))[:, None]


def losses(loss_name: str, frames: NDArray[np.int64]) -> tuple[float, float]:
    """Return the loss of the mean frame and that of the frames themselves, all frames in one go."""
    loss, counts = LOSSES[loss_name](mean_counts=MEAN_COUNTS), counts_of(simulated())[frames]
    mean = counts.double().mean(dim=0, keepdim=True).float().expand_as(counts).contiguous()
    return float(loss(mean, counts)), float(loss(counts, counts))


def judge(patches: NDArray[np.complex64], scan: Scan, *, pad: bool = True, **changes: Any) -> Evaluation:
    predictions = Predictions(patches, scan.corners_px, 1)
    mean_frame_loss, perfect_loss = losses("poisson", TRAINED)
    facts: dict[str, Any] = {
        "scan": scan,
        "train_frames": TRAINED,
        "counts_per_amplitude": 1.0,
        "loss_name": "poisson",
        "mean_counts": MEAN_COUNTS,
        "train_loss": 0.9 * perfect_loss + 0.1 * mean_frame_loss,
        "predictions": predictions,
        "reconstruction": stitch_patches(predictions, scan, PyTorchExecutionConfig(pad_eval=pad)),
        "whole": stitch_patches(predictions, scan, PyTorchExecutionConfig(pad_eval=True)),
    }
    return evaluate(**(facts | changes))


@pytest.fixture(scope="module")
def perfect() -> Evaluation:
    return judge(true_patches(), simulated(), pad=False)


class TestAPerfectResult:
    def test_it_is_like_the_truth(self, perfect: Evaluation) -> None:
        assert perfect.metrics["phase_correlation"] > 0.99
        assert perfect.metrics["amplitude_correlation"] > 0.99
        assert perfect.metrics["phase_ssim"] > 0.9
        assert perfect.aligned is not None
        assert perfect.aligned.shift_px == pytest.approx((0, 0), abs=0.05)

    def test_its_image_with_the_edge_explains_the_frames_but_for_photon_noise(
        self, perfect: Evaluation
    ) -> None:
        figures = perfect.metrics
        floor = figures["r_factor_poisson_floor"]
        assert floor < figures["r_factor"] < 1.04 * floor
        assert figures["r_factor_mean_frame"] > 2 * floor

    def test_it_is_not_collapsed(self, perfect: Evaluation) -> None:
        assert not perfect.collapse.is_collapsed
        assert perfect.collapse.reasons == ()
        assert perfect.metrics["collapse_explained"] == pytest.approx(0.9, abs=1e-6)
        assert perfect.metrics["collapse_variation"] > 0.1

    def test_patches_and_photons_are_counted(self, perfect: Evaluation) -> None:
        assert (perfect.metrics["patches_accepted"], perfect.metrics["patches_total"]) == (72, 72)
        assert perfect.metrics["mean_counts_per_frame"] == pytest.approx(MEAN_COUNTS, rel=1e-3)

    def test_every_figure_is_a_finite_number(self, perfect: Evaluation) -> None:
        assert [name for name, value in perfect.metrics.items() if not math.isfinite(value)] == []


class TestLosses:
    @pytest.mark.parametrize("loss_name", ["poisson", "mae"])
    @pytest.mark.parametrize("frames", [np.arange(70), np.arange(3, 20)], ids=["70 frames", "17 frames"])
    def test_every_frame_that_was_trained_on_weighs_alike_and_no_other(
        self, loss_name: str, frames: NDArray[np.int64]
    ) -> None:
        found = judge(true_patches(), simulated(), loss_name=loss_name, train_frames=frames).metrics
        mean_frame_loss, perfect_loss = losses(loss_name, frames)
        assert found["mean_frame_loss"] == pytest.approx(mean_frame_loss, rel=1e-5)
        assert found["perfect_loss"] == pytest.approx(perfect_loss, rel=1e-5, abs=1e-7)
        assert found["mean_frame_loss"] > 1.5 * found["perfect_loss"]


class TestAnEmptyResult:
    def test_one_patch_for_all_frames_is_collapsed_and_the_reasons_are_told(self) -> None:
        flat = np.full_like(true_patches(), 0.8)
        mean_frame_loss, _ = losses("poisson", TRAINED)
        verdict = judge(flat, simulated(), train_loss=mean_frame_loss).collapse
        assert verdict.is_collapsed
        for word in ("mean frame", "does not depend on the input", "flat"):
            assert any(word in reason for reason in verdict.reasons), word

    def test_its_image_explains_the_frames_worse_than_the_true_one(self, perfect: Evaluation) -> None:
        figures = judge(np.full_like(true_patches(), 0.8), simulated()).metrics
        assert figures["r_factor"] > 2 * perfect.metrics["r_factor"]
        assert figures["phase_correlation"] < 0.1


class TestWhatTheFramesAre:
    def test_frames_in_other_units_are_brought_to_counts(self, perfect: Evaluation) -> None:
        scan = dataclasses.replace(simulated(), diffraction=simulated().diffraction / np.float32(10))
        found = judge(true_patches(), scan, counts_per_amplitude=10.0).metrics
        for name in ("r_factor", "mean_frame_loss", "perfect_loss", "mean_counts_per_frame"):
            assert found[name] == pytest.approx(perfect.metrics[name], rel=1e-4), name

    def test_what_stands_in_masked_pixels_changes_nothing(self, perfect: Evaluation) -> None:
        mask = np.ones((64, 64), dtype=bool)
        mask[24:40, 24:40] = False

        def judged(value: float) -> dict[str, float]:
            diffraction = simulated().diffraction.copy()
            diffraction[:, ~mask] = value
            scan = dataclasses.replace(simulated(), diffraction=diffraction, mask=mask)
            return judge(true_patches(), scan).metrics

        expected = judged(0.0)
        assert expected["mean_counts_per_frame"] < 0.999 * MEAN_COUNTS
        assert expected["r_factor"] < 1.05 * expected["r_factor_poisson_floor"]
        assert expected["r_factor_poisson_floor"] > 1.2 * perfect.metrics["r_factor_poisson_floor"]
        for value in (1e4, math.nan):
            assert judged(value) == expected

    def test_without_a_truth_nothing_is_compared_with_one(self) -> None:
        found = judge(true_patches(), dataclasses.replace(simulated(), object=None))
        assert found.aligned is None
        assert "phase_correlation" not in found.metrics
        assert found.metrics["r_factor"] < 1.04 * found.metrics["r_factor_poisson_floor"]


class TestWithReference:
    def test_positions_that_differ_by_a_constant_move_onto_the_references_grid(self) -> None:
        scan = dataclasses.replace(
            simulated(), corners_px=simulated().corners_px - (31.25, -7.5), object=None
        )
        placed = with_reference(scan, simulated())
        assert np.array_equal(placed.corners_px, simulated().corners_px)
        assert placed.object is simulated().object
        assert placed.diffraction is scan.diffraction
        assert judge(true_patches(), placed).metrics["phase_correlation"] > 0.99

    @pytest.mark.parametrize(("beyond_px", "is_legal"), [(0.04, True), (0.06, False), (-0.06, False)])
    def test_one_frame_may_stand_elsewhere_by_a_twentieth_of_a_pixel(
        self, beyond_px: float, is_legal: bool
    ) -> None:
        corners = simulated().corners_px + 3.0
        corners[5, 1] += beyond_px
        scan = dataclasses.replace(simulated(), corners_px=corners)
        if is_legal:
            assert np.array_equal(with_reference(scan, simulated()).corners_px, simulated().corners_px)
        else:
            with pytest.raises(DataError, match=r"differ from the scan's by up to 0\.06 px"):
                with_reference(scan, simulated())

    def test_rows_and_columns_in_the_wrong_order_are_refused(self) -> None:
        scan = dataclasses.replace(simulated(), corners_px=simulated().corners_px[:, ::-1])
        with pytest.raises(DataError, match="check the position conventions"):
            with_reference(scan, simulated())

    def test_a_reference_of_another_number_of_frames_is_refused(self) -> None:
        fewer = dataclasses.replace(
            simulated(), diffraction=simulated().diffraction[:-1], corners_px=simulated().corners_px[:-1]
        )
        with pytest.raises(DataError, match="72 frames and the scan 71"):
            with_reference(fewer, simulated())

    def test_a_reference_without_an_object_is_refused(self) -> None:
        with pytest.raises(DataError, match="needs an object"):
            with_reference(simulated(), dataclasses.replace(simulated(), object=None))
