"""Refinement by the real worker: the same bits again, the network's image untouched, what a death leaves."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ExitCode
from harness.store import file_digest
from tests.harness.test_road import SPEC, harness, listed, manifest, only_run, start
from tests.processes import living_worker_of
from tests.waiting import until

pytestmark = pytest.mark.slow  # each of half a dozen runs imports torch

BLOCK = "products: {pictures: false, refine: {passes: 3, batches: 4, probe: true, modes: 2}}\n"
IMAGE, REFINED = "products/reconstruction.npz", "products/refined/refined.npz"
LONG = ("--set", "products.refine.passes=300")  # seconds in which it can be killed


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that has trained, and one that has refined its image besides."""
    folder = tmp_path_factory.mktemp("shop")
    for name, block in (("plain", "products: {pictures: false}\n"), ("with", BLOCK)):
        (folder / f"{name}.yaml").write_text(SPEC + block)
        answer = harness("run", folder / f"{name}.yaml", runs=folder / name)
        assert answer.returncode in {ExitCode.OK, ExitCode.RUN_FAILED}, answer.stderr
    return folder


def compared(run: Path) -> Mapping[str, Any]:
    facts: Mapping[str, Any] = manifest(run)["compared"]
    return facts


def test_what_the_network_has_made_is_what_it_makes_without_a_refinement(shop: Path) -> None:
    plain, both = compared(only_run(shop / "plain")), compared(only_run(shop / "with"))
    own = {name for name in both if "refined" in name}
    assert {"products/refined/refined.npz", "products/refined/passes.csv", "metrics.refined_r_factor"} <= own
    assert {name: both[name] for name in both if name not in own | {"inputs"}} == {
        name: plain[name] for name in plain if name != "inputs"
    }
    assert manifest(only_run(shop / "with"))["refinement"]["network_image"] == plain[IMAGE]


def test_a_run_that_refines_is_verified_bit_by_bit(shop: Path) -> None:
    answer = harness("verify", only_run(shop / "with"), runs=shop / "again")
    assert answer.returncode == ExitCode.OK, answer.stdout + answer.stderr
    assert "bitwise" in answer.stdout


def phases(runs: Path) -> set[str]:
    return {json.loads(path.read_text()).get("phase", "") for path in runs.glob("*/progress.json")}


@pytest.fixture(scope="module")
def refined(shop: Path) -> Path:
    """The image of the run that only trained, refined in a folder of its own."""
    run = only_run(shop / "plain")
    before = {path: file_digest(path) for path in run.rglob("*") if path.is_file()}
    answer = harness("refine", run, *LONG, runs=shop / "refined")
    assert answer.returncode == ExitCode.OK, answer.stdout + answer.stderr
    assert before == {path: file_digest(path) for path in run.rglob("*") if path.is_file()}
    return only_run(shop / "refined")


def test_an_image_that_is_refined_later_is_kept_beside_and_verified_bit_by_bit(
    shop: Path, refined: Path
) -> None:
    assert file_digest(refined / IMAGE) == file_digest(only_run(shop / "plain") / IMAGE)
    assert file_digest(refined / REFINED) != file_digest(refined / IMAGE)
    assert manifest(refined)["checkpoints"] == []
    assert manifest(only_run(shop / "plain"))["status"] == "collapsed"
    assert manifest(refined)["collapse"]["is_collapsed"] is True
    answer = harness("verify", refined, runs=shop / "verified")
    assert answer.returncode == ExitCode.OK, answer.stdout + answer.stderr
    assert "bitwise" in answer.stdout
    assert harness("verify", "--files-only", refined, runs=shop / "verified").returncode == ExitCode.OK


def test_a_refinement_that_is_killed_is_begun_anew_and_ends_in_the_same_bits(
    shop: Path, refined: Path
) -> None:
    runs = shop / "killed"
    host = start(only_run(shop / "plain"), runs, *LONG, verb="refine")
    until(lambda: "refining" in phases(runs))
    path = only_run(runs)
    worker = living_worker_of(path.resolve())
    for process in (host.pid, worker):
        os.kill(process, signal.SIGKILL)
    host.wait()
    until(lambda: listed(runs)[0]["status"] == "interrupted")
    assert not (path / REFINED).exists()
    assert not (path / "manifest.json").exists()
    answer = harness("resume", path, runs=runs)
    assert answer.returncode == ExitCode.OK, answer.stdout + answer.stderr
    assert compared(path) == compared(refined)


def test_a_refinement_that_diverges_however_short_its_steps_fails_and_says_so(shop: Path) -> None:
    longest = ("--set", "products.refine.object_rate=1e20")
    answer = harness("refine", only_run(shop / "plain"), *longest, runs=shop / "diverged")
    assert answer.returncode == ExitCode.RUN_FAILED
    found = manifest(only_run(shop / "diverged"))
    assert found["status"] == "failed"
    assert "lower refine.object_rate" in found["error"]
    assert [made["path"] for made in found["products"]] == [IMAGE]
