from __future__ import annotations

import numpy as np
import pytest

from ptycho_torch.collapse import CollapseVerdict, assess, variation_between_frames
from ptycho_torch.errors import DataError
from ptycho_torch.stitching import stitch
from tests.torch.known_object import KnownScan, make_known_scan


@pytest.fixture
def known_scan() -> KnownScan:
    return make_known_scan()


def judge(scan: KnownScan, patches: np.ndarray, **losses: float) -> CollapseVerdict:
    made = stitch(np.nan_to_num(patches), scan.corners_px, scan.probe_intensity)
    return assess(
        **({"loss": 0.5, "mean_frame_loss": 1.0, "perfect_loss": 0.0} | losses),
        patches=patches,
        probe_intensity=scan.probe_intensity,
        obj=made.object,
        coverage=made.coverage,
    )


def test_true_patches_with_a_good_loss_are_no_collapse(known_scan: KnownScan) -> None:
    verdict = judge(known_scan, known_scan.patches)
    assert not verdict.is_collapsed
    assert verdict.reasons == ()
    assert verdict.figures["explained"] == 0.5
    assert verdict.figures["variation"] > 0.1


@pytest.mark.parametrize("strength", [0.1, 0.3])
def test_a_faint_object_is_no_collapse(known_scan: KnownScan, strength: float) -> None:
    verdict = judge(known_scan, 1 + strength * (known_scan.patches - 1))
    assert verdict.reasons == ()


def test_a_pure_phase_object_is_no_collapse(known_scan: KnownScan) -> None:
    assert judge(known_scan, np.exp(1j * np.angle(known_scan.patches))).reasons == ()


@pytest.mark.parametrize("loss", [0.995, 1.0, 3.0])
def test_a_loss_no_better_than_the_mean_frame_is_a_collapse(known_scan: KnownScan, loss: float) -> None:
    verdict = judge(known_scan, known_scan.patches, loss=loss)
    assert verdict.is_collapsed
    assert [reason for reason in verdict.reasons if "mean frame" in reason]


def test_losses_below_zero_are_judged_by_their_differences(known_scan: KnownScan) -> None:
    good = judge(known_scan, known_scan.patches, loss=-9.0, mean_frame_loss=-5.0, perfect_loss=-10.0)
    assert good.figures["explained"] == pytest.approx(0.8)
    assert judge(
        known_scan, known_scan.patches, loss=-4.0, mean_frame_loss=-5.0, perfect_loss=-10.0
    ).is_collapsed


def test_one_patch_for_every_frame_is_a_collapse_even_with_other_phases(known_scan: KnownScan) -> None:
    phases = np.exp(1j * np.linspace(0, 6, len(known_scan.patches)))[:, None, None]
    same = known_scan.patches[:1] * phases
    verdict = judge(known_scan, same)
    assert verdict.is_collapsed
    assert verdict.figures["variation"] < 1e-6
    assert "does not depend on the input" in " ".join(verdict.reasons)


def test_a_flat_object_is_a_collapse(known_scan: KnownScan) -> None:
    verdict = judge(known_scan, np.full_like(known_scan.patches, 0.5))
    assert "the object is flat" in " ".join(verdict.reasons)


def test_an_object_of_zeros_is_a_collapse(known_scan: KnownScan) -> None:
    verdict = judge(known_scan, np.zeros_like(known_scan.patches))
    assert "the object is zero everywhere" in verdict.reasons


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_a_collapse(known_scan: KnownScan, loss: float) -> None:
    verdict = judge(known_scan, known_scan.patches, loss=loss)
    assert verdict.reasons == (f"the loss is {loss}",)


def test_patches_that_are_not_finite_are_a_collapse(known_scan: KnownScan) -> None:
    patches = known_scan.patches.copy()
    patches[3, 4, 5] = np.nan
    assert judge(known_scan, patches).reasons == ("the reconstruction holds values that are not finite",)


def test_data_with_nothing_to_learn_are_an_error_and_no_verdict(known_scan: KnownScan) -> None:
    with pytest.raises(DataError, match="nothing to learn"):
        judge(known_scan, known_scan.patches, mean_frame_loss=0.5, perfect_loss=0.5)


def test_arrays_that_do_not_fit_are_refused(known_scan: KnownScan) -> None:
    with pytest.raises(DataError, match="do not fit"):
        assess(
            loss=0.5,
            mean_frame_loss=1.0,
            perfect_loss=0.0,
            patches=known_scan.patches,
            probe_intensity=known_scan.probe_intensity,
            obj=np.ones((4, 4)),
            coverage=np.ones((4, 5)),
        )


def test_variation_counts_only_what_is_lit() -> None:
    patches = np.ones((10, 8, 8), dtype=np.complex64)
    patches[:, 0, 0] = np.arange(10)
    dark = np.ones((8, 8))
    dark[0, 0] = 0
    assert variation_between_frames(patches, dark) < 1e-6
    assert variation_between_frames(patches, np.ones((8, 8))) > 0.3


def test_unrelated_patches_vary_by_their_own_size() -> None:
    noise = np.random.default_rng(0).normal(size=(400, 16, 16, 2)) @ [1, 1j]
    assert variation_between_frames(noise, np.ones((16, 16))) == pytest.approx(1, abs=0.02)
