"""Verdicts on published figures, from what came of the arms."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from harness.manifest import Leaf, Manifest
from harness.reproduce.arms import ArmResult, ArmRun
from harness.reproduce.recipe import Arm, Figure, FigureBlock
from harness.reproduce.verdicts import exit_code_of, judge_figure, ours

from ..conftest import Bench

ARMS = {name: Arm(name, "an arm", (1, 2), Path("spec.yaml")) for name in ("one", "two")}


@pytest.fixture(scope="module")
def manifest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    from ..conftest import make_bench_in

    bench: Bench = make_bench_in(tmp_path_factory.mktemp("bench"), request.getfixturevalue("planted"))
    return bench.run().manifest


def figure(**told: object) -> Figure:
    given = {"arm": "one", "metric": "phase_ssim", "published": 0.9, "at": "Table 1", **told}
    if not {"within", "at_least", "at_most", "not_comparable"} & set(told):
        given["within"] = 0.05
    return Figure("a figure", FigureBlock(**given))  # type: ignore[arg-type]


def result(
    manifest: Manifest,
    name: str,
    *values: float | None,
    status: str = "completed",
    metric: str = "phase_ssim",
) -> ArmResult:
    runs = [
        ArmRun(
            seed,
            Path("run"),
            dataclasses.replace(
                manifest,
                status=status,  # type: ignore[arg-type]
                metrics={} if value is None else {metric: value},
            ),
            "run",
        )
        for seed, value in enumerate(values, start=1)
    ]
    return ArmResult(ARMS[name], tuple(runs))


@pytest.mark.parametrize(
    ("told", "values", "verdict"),
    [
        ({"within": 0.05}, (0.86, 0.86), "reproduced"),
        ({"within": 0.05}, (0.80, 0.89), "not reproduced"),
        ({"within": 0.05}, (0.96,), "not reproduced"),
        ({"at_least": 0.88}, (0.88,), "reproduced"),
        ({"at_least": 0.88}, (0.87,), "not reproduced"),
        ({"at_least": 0.88}, (2.0,), "reproduced"),
        ({"at_most": 0.92}, (0.1,), "reproduced"),
        ({"at_most": 0.92}, (0.93,), "not reproduced"),
    ],
)
def test_the_mean_over_the_seeds_is_held_against_the_bound(
    manifest: Manifest, told: dict[str, float], values: tuple[float, ...], verdict: str
) -> None:
    row = judge_figure(figure(**told), {"one": result(manifest, "one", *values)})
    assert row.verdict == verdict
    assert exit_code_of([row], [result(manifest, "one", 0.9)]) == (3 if verdict == "not reproduced" else 0)


def test_a_recipe_of_which_nothing_could_be_run_has_not_ended_well(manifest: Manifest) -> None:
    absent = ArmResult(ARMS["two"], not_run="no scan.npz")
    row = judge_figure(figure(arm="two"), {"two": absent})
    assert row.verdict == "not comparable"
    assert exit_code_of([row], [absent]) == 2
    assert exit_code_of([row], [absent, result(manifest, "one", 0.9)]) == 0


def test_a_difference_of_two_arms_is_taken_seed_by_seed(manifest: Manifest) -> None:
    results = {"one": result(manifest, "one", 0.9, 0.8), "two": result(manifest, "two", 0.6, 0.7)}
    row = judge_figure(figure(less="two", published=0.2, within=0.01), results)
    assert row.values == pytest.approx((0.3, 0.1))
    assert row.verdict == "reproduced"
    assert ours(row) == "0.2 ± 0.14 (2 seeds)"


@pytest.mark.parametrize("status", ["failed", "collapsed", "interrupted"])
def test_a_run_that_did_not_complete_reproduces_nothing(manifest: Manifest, status: str) -> None:
    row = judge_figure(figure(), {"one": result(manifest, "one", 0.9, status=status)})
    assert (row.verdict, row.why) == ("not reproduced", f"the run of one with seed 1 is {status}")


def test_a_refined_image_is_judged_by_itself_where_the_network_has_collapsed(manifest: Manifest) -> None:
    collapsed = result(manifest, "one", 0.9, status="collapsed", metric="refined_phase_ssim")
    told = figure(metric="refined_phase_ssim")
    assert judge_figure(told, {"one": collapsed}).verdict == "reproduced"
    failed = result(manifest, "one", 0.9, status="failed", metric="refined_phase_ssim")
    assert judge_figure(told, {"one": failed}).verdict == "not reproduced"


def test_a_network_that_collapsed_in_a_shortened_run_is_not_held_against_the_publication(
    manifest: Manifest,
) -> None:
    collapsed = {"one": result(manifest, "one", 0.9, status="collapsed")}
    row = judge_figure(figure(), collapsed, "training.epochs=1")
    assert (row.verdict, row.why) == ("not comparable", "shortened: training.epochs=1")
    failed = {"one": result(manifest, "one", 0.9, status="failed")}
    assert judge_figure(figure(), failed, "training.epochs=1").verdict == "not reproduced"


def test_a_figure_that_a_run_lacks_is_not_compared_whatever_became_of_its_network(manifest: Manifest) -> None:
    lacking = {"one": result(manifest, "one", None, status="collapsed")}
    row = judge_figure(figure(), lacking)
    assert (row.verdict, row.why) == ("not comparable", "not every run has the figure phase_ssim")


@pytest.mark.parametrize(
    ("metric", "start", "verdict", "why", "is_told"),
    [
        ("frc_0.5_resolution_px", "network", "not reproduced", "a resolution means nothing", False),
        ("refined_half_bit_resolution_px", "network", "not comparable", "no half begins with its", False),
        ("refined_half_bit_resolution_px", "flat", "reproduced", "", True),
        ("refined_frc_0.5_resolution_px", "network", "reproduced", "", True),
    ],
)
def test_a_resolution_that_means_nothing_is_neither_compared_nor_told(
    manifest: Manifest, metric: str, start: str, verdict: str, why: str, is_told: bool
) -> None:
    refined = {**manifest.resolved, "products.refine.start": Leaf(start, "entry point")}
    manifest = dataclasses.replace(manifest, resolved=refined)
    collapsed = result(manifest, "one", 0.9, status="collapsed", metric=metric)
    row = judge_figure(figure(metric=metric), {"one": collapsed})
    assert row.verdict == verdict
    assert why in row.why
    assert row.values == ((0.9,) if is_told else ())


def test_what_cannot_be_compared_says_why(manifest: Manifest) -> None:
    sound = {"one": result(manifest, "one", 0.9)}
    absent = {"one": ArmResult(ARMS["one"], not_run="no data folder has a file")}
    incomplete = {"one": result(manifest, "one", 0.9, None)}
    for told, results, shortened, why in (
        (figure(), {}, "", "the arm one was not asked for"),
        (figure(), absent, "", "the arm one was not run: no data folder has a file"),
        (figure(less="two"), sound, "", "the arm two was not asked for"),
        (figure(), incomplete, "", "not every run has the figure phase_ssim"),
        (figure(), sound, "epochs=1", "shortened: epochs=1"),
        (figure(not_comparable="another protocol"), sound, "", "another protocol"),
    ):
        row = judge_figure(told, results, shortened)
        assert (row.verdict, row.why) == ("not comparable", why)
        assert exit_code_of([row], [result(manifest, "one", 0.9)]) == 0


def test_a_value_of_one_seed_has_no_spread(manifest: Manifest) -> None:
    assert ours(judge_figure(figure(), {"one": result(manifest, "one", 0.9)})) == "0.9 (1 seed)"
    assert ours(judge_figure(figure(), {})) == "-"
