"""What a reproduction came to: on the screen, as JSON, and as a page that holds its pictures."""

from __future__ import annotations

import base64
import dataclasses
import json
from pathlib import Path

import pytest

from harness.fetch import Fetcher
from harness.outcome import ProductRecord
from harness.reproduce.arms import ArmResult, Around, run_arm
from harness.reproduce.tables import Reproduction, page, text_lines, write_reproduction
from harness.reproduce.verdicts import judge_figure

from ..conftest import Bench
from .recipes import RECIPE, recipe_in

PICTURE = b"\x89PNG a picture"


@pytest.fixture
def made(bench: Bench, tmp_path: Path) -> Reproduction:
    text = RECIPE.replace("seeds: [1, 2]", "seeds: [1]").replace("A small thing", "A <small> thing")
    recipe = recipe_in(bench.spec.parent, text)
    around = Around(
        executor_for=lambda spec: bench.executor(),
        runs_dir=bench.runs,
        root=bench.root,
        folders=(),
        fetcher=Fetcher(tmp_path / "downloads", may_download=False),
        look=lambda path: None,
        tell=lambda sentence: None,
    )
    result = run_arm(recipe, recipe.arms["one"], around)
    (one,) = result.runs
    (one.path / "products" / "comparison.png").write_bytes(PICTURE)
    products = (*one.manifest.products, ProductRecord("products/comparison.png", "0" * 64))
    (attempt,) = one.manifest.attempts
    attempts = tuple(dataclasses.replace(attempt, cpu_seconds=spent) for spent in (100.5, 20.0))
    changed = dataclasses.replace(one.manifest, products=products, attempts=attempts)
    one = dataclasses.replace(one, manifest=changed)
    results = (
        dataclasses.replace(result, runs=(one,)),
        ArmResult(recipe.arms["two"], not_run="no data folder has probe.npz (sha256 ab)"),
    )
    by_name = {each.arm.name: each for each in results}
    rows = tuple(judge_figure(figure, by_name) for figure in recipe.figures)
    return Reproduction(recipe, results, rows, is_fast=False, shortened="", date="2000-01-01")


def test_the_screen_has_a_line_for_each_arm_and_each_figure(made: Reproduction) -> None:
    told = "\n".join(text_lines(made))
    assert "arm        two: not run, because no data folder has probe.npz (sha256 ab)" in told
    assert "differs    it is smaller" in told
    assert "(120 CPU-seconds)" in told
    assert "2000-01-01, 2 min 00 s of processor time in all runs" in told
    (met,) = (line for line in told.splitlines() if line.startswith("met "))
    (missed,) = (line for line in told.splitlines() if line.startswith("missed "))
    assert " ".join(met.split()) == "met 0.9 0.9 (1 seed) reproduced +0 off, 0.05 is allowed"
    assert "not comparable" in missed


def test_result_and_page_are_written_below_the_runs(made: Reproduction, tmp_path: Path) -> None:
    result, shown_as = write_reproduction(made, tmp_path)
    plain = json.loads(result.read_text())
    assert result == tmp_path / "reproduced" / "small" / "result.json"
    assert plain["figures"]["met"]["verdict"] == "reproduced"
    assert plain["figures"]["met"]["values"] == [0.9]
    assert plain["figures"]["met"]["at"] == "Table 1, row 1"
    assert (
        plain["arms"]["one"]["runs"][0]["manifest_digest"] == made.results[0].runs[0].manifest.manifest_digest
    )
    assert plain["arms"]["two"]["not_run"].endswith("(sha256 ab)")
    assert plain["cpu_seconds"] == plain["arms"]["one"]["runs"][0]["cpu_seconds"] == 120.5
    assert plain["exit_code"] == 0
    assert shown_as.read_text(encoding="utf-8") == page(made)
    fast, _ = write_reproduction(dataclasses.replace(made, is_fast=True), tmp_path)
    assert fast.parent.name == "small-fast"


def test_the_page_holds_its_pictures_and_takes_no_text_for_markup(made: Reproduction) -> None:
    text = page(made)
    assert base64.b64encode(PICTURE).decode() in text
    assert "A &lt;small&gt; thing" in text
    assert "<small>" not in text
    assert text.count("<tr>") == 1 + len(made.rows)
