"""The three lanes, what they say to whom, and the exit code: a golden that is missing is never a pass."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import ExitCode
from harness.golden import Golden, GoldenFile, Key, MadeFrom, Published
from harness.golden_check import Lane, Report, ab_lane, golden_lane, tolerance_lane
from harness.golden_report import (
    accepted_lines,
    json_text,
    junit_text,
    markdown_text,
    report_lines,
    write_reports,
)
from harness.verdict import judge
from ptycho_torch.trace import TraceLine
from tests.harness.test_road import SPEC, harness, only_run

KEY = Key("ab" * 32, "portable", 1, "x86-64 with AVX2 and FMA")
CURE = "harness golden accept runs/ci.yaml"
SAME = judge({"final_tensor_digest": "a"}, {"final_tensor_digest": "a"})


def golden(*losses: float, **facts: object) -> Golden:
    trace = tuple(TraceLine(step + 1, 0, step, "d", loss.hex()).to_json() for step, loss in enumerate(losses))
    whole = {"final_tensor_digest": "a", "metrics.train_loss": losses[-1], **facts}
    origin = MadeFrom("c" * 40, {"harness/run.py": "1"}, {"torch": "2.0"}, {"training.epochs": 2})
    return Golden(whole, {"conv.weight": f"{losses[-1]}"}, trace, origin)  # type: ignore[arg-type]


WAS = golden(0.5, 0.25, 0.125)
KEPT = GoldenFile({"train_loss": Published(0.125, 0.01)}, {str(KEY): WAS})


def report(*lanes: Lane) -> Report:
    return Report("runs/ci.yaml", "runs/golden/ci.json", KEY, lanes, ("runs/_out/a", "runs/_out/b"))


def test_all_lanes_hold_for_a_run_that_came_to_the_same() -> None:
    found = report(
        ab_lane(SAME), golden_lane(KEPT, KEY, WAS, CURE), tolerance_lane(KEPT.published, {"train_loss": 0.13})
    )
    assert [lane.status for lane in found.lanes] == ["holds"] * 3
    assert found.exit_code is ExitCode.OK


def test_two_runs_that_are_not_the_same_differ_even_within_a_tolerance() -> None:
    lane = ab_lane(judge({"final_tensor_digest": "a"}, {"final_tensor_digest": "b"}))
    assert lane.status == "differs"
    assert lane.moved == ("final_tensor_digest: a -> b",)
    assert report(lane).exit_code is ExitCode.DIFFERS


def test_a_golden_that_differs_names_step_facts_and_tensors_old_to_new_and_the_reason() -> None:
    now = golden(0.5, 0.3, 0.2)
    now = replace(now, origin=replace(now.origin, packages={"torch": "2.1"}))
    lane = golden_lane(KEPT, KEY, now, CURE)
    assert lane.status == "differs"
    assert "diverged at step 2, the loss" in lane.headline
    assert CURE in lane.headline
    assert "metrics.train_loss: 0.125 -> 0.2" in lane.moved
    assert "tensor conv.weight: 0.125 -> 0.2" in lane.moved
    assert lane.why == ("package torch 2.0 -> 2.1",)


def test_a_golden_that_differs_for_no_recorded_reason_says_so() -> None:
    lane = golden_lane(KEPT, KEY, golden(0.5, 0.3, 0.125), CURE)
    assert lane.why == ("nothing that is recorded was changed: machine or library behave anew",)


def test_the_same_bits_from_other_code_hold() -> None:
    now = replace(WAS, facts={**WAS.facts, "code.source_digest": "new"})
    lane = golden_lane(KEPT, KEY, now, CURE)
    assert (lane.status, lane.moved) == ("holds", ())
    assert "although code.source_digest differs" in lane.headline


@pytest.mark.parametrize(
    "other",
    [replace(KEY, lock="cd" * 32), replace(KEY, threads=2), replace(KEY, processor="GPU"), None],
)
def test_a_missing_golden_is_told_with_the_other_keys_and_the_cure_and_is_no_pass(other: Key | None) -> None:
    kept = GoldenFile(goldens={str(other): WAS} if other else {})
    found = report(ab_lane(SAME), golden_lane(kept, KEY, WAS, CURE))
    assert found.lanes[1].status == "missing"
    assert found.exit_code is ExitCode.BAD_INPUT
    assert str(KEY) in found.lanes[1].headline
    assert (str(other) if other else "there are: none") in found.lanes[1].headline
    assert found.lanes[1].headline.endswith(CURE)


def test_what_moved_since_the_golden_of_another_lock_is_told_beside_the_missing_one() -> None:
    kept = GoldenFile(goldens={str(replace(KEY, lock="cd" * 32)): WAS})
    now = replace(golden(0.5, 0.3), origin=replace(WAS.origin, packages={"torch": "2.1"}))
    lane = golden_lane(kept, KEY, now, CURE)
    assert lane.status == "missing"
    assert lane.moved[0].startswith("against lock cdcdcdcdcdcd: diverged at step 2, the loss")
    assert lane.why == ("package torch 2.0 -> 2.1",)


def test_a_difference_weighs_more_than_a_missing_golden() -> None:
    lane = ab_lane(judge({"final_tensor_digest": "a"}, {"final_tensor_digest": "b"}))
    assert report(lane, golden_lane(GoldenFile(), KEY, WAS, CURE)).exit_code is ExitCode.DIFFERS


@pytest.mark.parametrize("figures", [{"train_loss": 0.2}, {}, {"train_loss": float("nan")}])
def test_a_published_figure_that_moved_too_far_or_is_gone_differs(figures: dict[str, float]) -> None:
    lane = tolerance_lane(KEPT.published, figures)
    assert lane.status == "differs"
    assert "train_loss" in lane.moved[0]
    assert report(lane).exit_code is ExitCode.DIFFERS


def test_without_published_figures_the_lane_says_that_nothing_was_measured() -> None:
    lane = tolerance_lane({}, {"train_loss": 0.1})
    assert lane.status == "not measured"
    assert "benchmarks/spread.py" in lane.headline


def test_accepting_says_what_moved_why_and_which_figures_were_published() -> None:
    now = replace(golden(0.5, 0.3), origin=replace(WAS.origin, values={"training.epochs": 1}))
    after = GoldenFile({"train_loss": Published(0.3, 0.01)}, {str(KEY): now})
    told = "\n".join(accepted_lines(KEY, KEPT, after))
    assert "diverged at step 2, the loss" in told
    assert "metrics.train_loss: 0.125 -> 0.3" in told
    assert "value training.epochs 2 -> 1" in told
    assert "published  train_loss: 0.125 -> 0.3" in told
    assert "moved      nothing" in "\n".join(accepted_lines(KEY, KEPT, KEPT))
    assert "no golden that it could be held against" in next(accepted_lines(KEY, GoldenFile(), KEPT))


def mixed() -> Report:
    return report(
        ab_lane(SAME),
        golden_lane(KEPT, KEY, golden(0.5, 0.3, 0.2, note="a\x00b|c"), CURE),
        tolerance_lane({}, {}),
    )


class TestTheReports:
    def test_junit_counts_what_failed_and_what_could_not_be_looked_at(self) -> None:
        suites = ET.fromstring(junit_text(mixed()).encode())
        counted = {
            suite.get("name"): [suite.get(kind) for kind in ("tests", "failures", "errors", "skipped")]
            for suite in suites
        }
        assert counted["A/B"] == ["1", "0", "0", "0"]
        assert counted["golden"] == ["1", "1", "0", "0"]
        assert counted["tolerance"] == ["1", "0", "0", "1"]
        failure = suites.find("testsuite/testcase/failure")
        assert failure is not None
        assert "metrics.train_loss: 0.125 -> 0.2" in (failure.text or "")
        missing = ET.fromstring(junit_text(report(golden_lane(GoldenFile(), KEY, WAS, CURE))).encode())
        assert missing.find("testsuite/testcase/error") is not None

    def test_json_says_of_every_lane_what_it_found(self) -> None:
        told = json.loads(json_text(mixed()))
        assert (told["holds"], told["exit_code"], told["key"]["threads"]) == (False, 3, 1)
        assert {lane["name"]: lane["status"] for lane in told["lanes"]} == {
            "A/B": "holds",
            "golden": "differs",
            "tolerance": "not measured",
        }

    def test_a_person_reads_lanes_reasons_and_the_exit_code(self) -> None:
        told = list(report_lines(mixed()))
        assert told[1] == f"key        {KEY}"
        assert any(line.startswith("golden     ✗ ") for line in told)
        assert told[-1] == "exit code  3"

    def test_markdown_is_one_table_whatever_a_fact_holds(self) -> None:
        rows = [line for line in markdown_text(mixed()).splitlines() if line.startswith("|")]
        assert len(rows) == 5

    def test_files_are_written_into_folders_that_are_made(self, tmp_path: Path) -> None:
        paths = [tmp_path / "new" / name for name in ("a.xml", "a.json", "a.md")]
        write_reports(mixed(), *paths)
        assert all(path.stat().st_size > 100 for path in paths)


@pytest.mark.slow
class TestWithTheRealWorker:
    def test_a_run_is_accepted_held_and_found_out_when_it_moves(self, tmp_path: Path) -> None:
        spec, kept = tmp_path / "road.yaml", tmp_path / "golden" / "road.json"
        spec.write_text(SPEC + "products: {reconstruction: false}\n")
        missing = harness("golden", "check", spec, runs=tmp_path / "runs")
        assert missing.returncode == 2, missing.stdout + missing.stderr
        assert f"Accept one with: harness golden accept {spec}" in missing.stdout
        assert not kept.exists()
        accepted = harness("golden", "accept", spec, runs=tmp_path / "runs")
        assert accepted.returncode == 0, accepted.stdout + accepted.stderr
        assert kept.is_file()
        content = json.loads(kept.read_text())
        (golden,) = content["goldens"].values()
        golden["tensors"]["generator.encoder.0.first.bias"] = "0" * 16
        golden["facts"]["final_tensor_digest"] = "0" * 64
        kept.write_text(json.dumps(content))
        junit = tmp_path / "out" / "junit.xml"
        differs = harness("golden", "check", spec, "--junit", junit, runs=tmp_path / "more")
        assert differs.returncode == 3, differs.stdout + differs.stderr
        assert "moved: final_tensor_digest: 000000000000" in differs.stdout
        assert "moved: tensor generator.encoder.0.first.bias: 0000000000000000 -> " in differs.stdout
        assert ET.parse(junit).find("testsuite/testcase/failure") is not None

    def test_a_run_that_fails_is_no_verdict(self, tmp_path: Path) -> None:
        spec = tmp_path / "road.yaml"
        spec.write_text(SPEC.replace("epochs: 1", "epochs: 0"))
        answer = harness("golden", "check", spec, runs=tmp_path / "runs")
        assert answer.returncode == 2
        spec.write_text(SPEC)  # so short a training collapses
        answer = harness("golden", "check", spec, runs=tmp_path / "runs")
        assert (answer.returncode, "collapsed" in answer.stdout) == (1, True)
        assert only_run(tmp_path / "runs")
