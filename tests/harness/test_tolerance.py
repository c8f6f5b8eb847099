"""A tolerance is granted by the committed table to what differs in rounding alone, and to nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.manifest import Manifest
from harness.run import Finished
from harness.spreads import Spread, Task, read_spreads, task_of
from harness.verification import verdict_on
from tests.harness.conftest import Bench
from tests.harness.test_road import ROOT

SPEC = ROOT / "runs" / "spread.yaml"
NOWHERE = Path("nowhere")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, planted: Path) -> Finished:
    return Bench(planted, SPEC, tmp_path_factory.mktemp("runs")).run()


def measured_of(manifest: Manifest) -> Task:
    return read_spreads()[task_of(manifest)]


def with_figures(manifest: Manifest, moved: float, *, seed: int = 42, threads: int = 1) -> Manifest:
    """Give a run figures that are off by so many thresholds."""
    figures = {name: 1.0 + moved * one.threshold for name, one in measured_of(manifest).figures.items()}
    facts = {"exactness.threads": threads, "final_tensor_digest": f"of {threads} threads"}
    return replace(manifest, metrics=figures, seeds={"seed": seed}, compared={**manifest.compared, **facts})


def test_the_table_is_of_the_committed_spec_and_of_other_seeds_than_its_own(run: Finished) -> None:
    measured = measured_of(run.manifest)
    assert measured.spec == run.manifest.name == "spread"
    assert len(measured.seeds) >= 5
    assert run.manifest.seeds["seed"] not in {*measured.seeds, *measured.left_out}
    assert [way.partition(",")[2] for way in measured.ways] == [f" {n} thread(s)" for n in (1, 2, 4)]


def test_no_threshold_is_below_what_rounding_was_seen_to_do(run: Finished) -> None:
    def is_wide_enough(spread: Spread) -> bool:
        return spread.threshold >= spread.largest_by_rounding

    assert all(map(is_wide_enough, measured_of(run.manifest).figures.values()))


@pytest.mark.parametrize(
    ("moved", "seed", "kind"), [(0.99, 42, "tolerance"), (1.01, 42, "differs"), (0.99, 43, "differs")]
)
def test_the_table_grants_what_is_within_its_thresholds_and_of_the_same_seed(
    run: Finished, moved: float, seed: int, kind: str
) -> None:
    one, other = (with_figures(run.manifest, 0), with_figures(run.manifest, moved, seed=seed, threads=2))
    verdict = verdict_on((NOWHERE, one), (NOWHERE, other))
    assert verdict.kind == kind, verdict.headline
