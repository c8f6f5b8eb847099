"""Refinement by the real worker: the same bits again, and the network's image untouched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ExitCode
from harness.store import file_digest
from tests.harness.test_road import SPEC, harness, manifest, only_run

pytestmark = pytest.mark.slow  # each run imports torch

BLOCK = "products: {pictures: false, refine: {passes: 3, batches: 4, probe: true, modes: 2}}\n"
IMAGE, REFINED = "products/reconstruction.npz", "products/refined/refined.npz"
LONGER = ("--set", "products.refine.passes=60")


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


@pytest.fixture(scope="module")
def refined(shop: Path) -> Path:
    """The image of the run that only trained, refined in a folder of its own."""
    run = only_run(shop / "plain")
    before = {path: file_digest(path) for path in run.rglob("*") if path.is_file()}
    answer = harness("refine", run, *LONGER, runs=shop / "refined")
    assert answer.returncode == ExitCode.OK, answer.stdout + answer.stderr
    assert before == {path: file_digest(path) for path in run.rglob("*") if path.is_file()}
    return only_run(shop / "refined")


def test_an_image_that_is_refined_later_is_kept_beside_and_verified_bit_by_bit(
    shop: Path, refined: Path
) -> None:
    assert file_digest(refined / IMAGE) == file_digest(only_run(shop / "plain") / IMAGE)
    assert file_digest(refined / REFINED) != file_digest(refined / IMAGE)
    assert manifest(refined)["checkpoints"] == []
    answer = harness("verify", refined, runs=shop / "verified")
    assert answer.returncode == ExitCode.OK, answer.stdout + answer.stderr
    assert "bitwise" in answer.stdout
    assert harness("verify", "--files-only", refined, runs=shop / "verified").returncode == ExitCode.OK
