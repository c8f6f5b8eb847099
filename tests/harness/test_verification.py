"""The verdict on a run and its repetition: bitwise, tolerance, diverged, differs; never a false bitwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import ExitCode
from harness.manifest import Manifest
from harness.recorded import RefusedError, load
from harness.run import Finished
from harness.spreads import Spread, Task, figures_of, read_spreads, task_of, write_spreads
from harness.verdict import Verdict
from harness.verification import verdict_on, verification_exit_code, verification_lines
from tests.harness.conftest import Bench, make_bench_in
from tests.harness.doctoring import rewrite
from tests.harness.test_repeat import again

PLACE = Path("nowhere")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, planted: Path) -> Finished:
    return make_bench_in(tmp_path_factory.mktemp("bench"), planted).run()


def spreads(manifest: Manifest, threshold: float) -> dict[str, Task]:
    figures = {name: Spread(threshold, 0.0, 0.0, 0.0) for name in figures_of(manifest)}
    return {task_of(manifest): Task("small", (1, 2), ("portable, 1 thread(s)",), 1, "2", "cpu", figures)}


def changed(manifest: Manifest, **facts: object) -> Manifest:
    """Say what a run would have come to."""
    metrics = {**manifest.metrics}
    if "metrics.train_loss" in facts:
        metrics["train_loss"] = facts["metrics.train_loss"]
    return replace(manifest, metrics=metrics, compared={**manifest.compared, **facts})  # type: ignore[arg-type]


def judged(one: Manifest, other: Manifest, threshold: float = 0.02) -> Verdict:
    return verdict_on((PLACE, one), (PLACE, other), spreads=spreads(one, threshold))


def elsewhere(manifest: Manifest, loss: float, **conditions: object) -> Manifest:
    return changed(manifest, **{"final_tensor_digest": "other", "metrics.train_loss": loss, **conditions})


@pytest.mark.parametrize(
    "condition", ["environment.cpu", "environment.gpu", "exactness.profile", "exactness.threads"]
)
def test_where_no_bits_are_promised_figures_within_their_measured_spread_are_a_tolerance(
    run: Finished, condition: str
) -> None:
    verdict = judged(run.manifest, elsewhere(run.manifest, 0.11, **{condition: "another"}))
    assert verdict.kind == "tolerance"
    assert not verdict.is_bitwise
    assert "train_loss moved by 0.01, within the threshold 0.02" in verdict.headline
    assert condition in verdict.headline
    assert verification_exit_code(verdict) is ExitCode.OK


def test_a_figure_beyond_its_spread_is_named_with_difference_and_threshold(run: Finished) -> None:
    verdict = judged(run.manifest, elsewhere(run.manifest, 0.15, **{"environment.gpu": "another"}))
    assert verdict.kind == "differs"
    assert verdict.headline == "differs: train_loss moved by 0.05, beyond the threshold 0.02"
    assert verification_exit_code(verdict) is ExitCode.DIFFERS


@pytest.mark.parametrize(
    "conditions",
    [
        {},
        {"code.source_digest": "another", "environment.gpu": "another"},
        {"environment.packages_digest": "another", "environment.cpu": "another"},
        {"data.train": "another", "environment.cpu": "another"},
        {"environment.libc": "another"},
    ],
)
def test_where_the_bits_are_promised_or_something_else_changed_there_is_no_tolerance(
    run: Finished, conditions: dict[str, object]
) -> None:
    verdict = judged(run.manifest, elsewhere(run.manifest, 0.1000001, **conditions))
    assert verdict.kind == "differs"
    assert verdict.figures == ()


def test_another_task_or_seed_or_status_has_no_tolerance(run: Finished) -> None:
    other = elsewhere(run.manifest, 0.11, **{"exactness.profile": "strict"})
    for unlike in (
        replace(other, seeds={"seed": 8}),
        replace(other, status="collapsed"),
        replace(other, resolved={**other.resolved, "training.epochs": replace(_epochs(other), value=3)}),
    ):
        assert judged(run.manifest, unlike).kind == "differs"


def _epochs(manifest: Manifest):  # type: ignore[no-untyped-def]
    return manifest.resolved["training.epochs"]


def test_without_a_measured_spread_no_tolerance_is_granted_and_it_is_said(run: Finished) -> None:
    other = elsewhere(run.manifest, 0.1, **{"exactness.profile": "strict"})
    verdict = verdict_on((PLACE, run.manifest), (PLACE, other), spreads={})
    assert verdict.kind == "differs"
    assert "no spread of figures was measured" in list(verification_lines(verdict))[-1]


def test_a_figure_that_is_gone_is_beyond_any_threshold(run: Finished) -> None:
    other = elsewhere(run.manifest, 0.1, **{"exactness.profile": "strict"})
    metrics = {name: value for name, value in other.metrics.items() if name != "train_loss"}
    assert judged(run.manifest, replace(other, metrics=metrics), 1e9).kind == "differs"


def test_a_record_that_contradicts_itself_is_never_bitwise_nor_within_a_tolerance(run: Finished) -> None:
    for other in (run.manifest, elsewhere(run.manifest, 0.1, **{"environment.gpu": "another"})):
        both = ((PLACE, one) for one in (run.manifest, other))
        verdict = verdict_on(*both, spreads=spreads(run.manifest, 1.0), contradictions=("a file too many",))
        assert verdict.kind == "differs"
        assert verdict.headline == "differs: the record contradicts itself: a file too many"


def test_runs_that_have_not_ended_are_bitwise_only_if_they_collapsed(run: Finished) -> None:
    def so(status: str) -> Manifest:
        return replace(changed(run.manifest, status=status), status=status)  # type: ignore[arg-type]

    assert judged(so("collapsed"), so("collapsed")).kind == "bitwise"
    for status in ("failed", "interrupted"):
        assert judged(so(status), so(status)).kind == "unfinished"
        assert judged(so("completed"), so(status)).kind == "unfinished"


def test_a_run_that_was_broken_off_after_it_took_another_way_is_diverged(bench: Bench) -> None:
    first, second = bench.run(), bench.run("drift")
    broken = replace(second.manifest, status="interrupted")
    assert verdict_on((first.path, first.manifest), (second.path, broken)).kind == "diverged"


def test_a_log_that_only_one_run_was_asked_for_does_not_count_and_one_that_is_gone_does(
    bench: Bench,
) -> None:
    logged = bench.run("complete", "execution.logger_backend=csv").manifest
    files = {name: one for name, one in logged.files.items() if not name.startswith("logs/csv/")}
    removed = replace(logged, files=files)
    leaf = replace(logged.resolved["execution.logger_backend"], value=None)
    unasked = replace(removed, resolved={**logged.resolved, "execution.logger_backend": leaf})
    for one, other in ((logged, unasked), (unasked, logged)):
        assert judged(one, changed(other, inputs="another")).headline == "bitwise, although inputs differ"
    assert judged(logged, removed).results == ("logs/csv/metrics.csv",)


def test_a_training_that_took_another_way_is_diverged_at_its_first_step(bench: Bench) -> None:
    first = bench.run()
    second = again(bench, first.path, behaviour="drift", kind="verify")
    verdict = verdict_on((first.path, first.manifest), (second.path, second.manifest))
    assert verdict.kind == "diverged"
    assert verdict.headline.startswith("diverged at step 1, the loss; differs: checkpoints/last.ckpt and ")


def strict_run_of_elsewhere(bench: Bench) -> Path:
    """Make a run under ``strict`` that was made on another processor."""
    path = bench.run("complete", "exactness.profile=strict").path

    def moved(plain: dict[str, dict[str, dict[str, str]]]) -> None:
        plain["environment"]["cpu"]["model"] = "Another processor"
        plain["compared"]["environment.cpu"] = "Another processor"  # type: ignore[assignment]

    rewrite(path, moved)
    return path


def test_verify_goes_on_on_another_processor_and_a_rerun_does_not(bench: Bench) -> None:
    path = strict_run_of_elsewhere(bench)
    with pytest.raises(RefusedError, match="processor Another processor ->"):
        again(bench, path)
    notes: list[str] = []
    finished = again(bench, path, kind="verify", notes=notes)
    assert any("processor Another processor ->" in note for note in notes)
    recorded = load(path)
    verdict = verdict_on((recorded.path, recorded.manifest), (finished.path, finished.manifest))
    assert verdict.headline == "bitwise, although environment.cpu differs"


class TestTheTable:
    def test_what_is_written_is_read_again(self, tmp_path: Path, run: Finished) -> None:
        table = spreads(run.manifest, 0.5)
        write_spreads(tmp_path / "table.json", table)
        assert read_spreads(tmp_path / "table.json") == table
        assert read_spreads(tmp_path / "no table") == {}

    def test_seed_exactness_and_place_leave_a_run_the_same_task(self, bench: Bench) -> None:
        job: Callable[..., Finished] = bench.run
        tasks = {task_of(job("complete", *sets).manifest) for sets in ((), ("seed=9", "exactness.threads=2"))}
        assert len(tasks) == 1
        assert task_of(job("complete", "training.epochs=3").manifest) not in tasks
