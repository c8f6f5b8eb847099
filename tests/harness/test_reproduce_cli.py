"""``harness reproduce`` from end to end: a small recipe, really run, its verdicts and its exit code."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import main
from harness.errors import ExitCode
from harness.lookup import run_folders
from tests.waiting import until

from .test_road import ROOT, SPEC, harness, is_training, long_spec

RECIPE = """\
name: tiny
title: Refinement of a few frames
source: {citation: nobody published it, url: 'https://example.org'}
arms:
  flat:
    spec: spec.yaml
    title: from a flat object
    seeds: [3]
    set: {products.refine.start: flat, products.refine.passes: 10}
  absent: {spec: absent.yaml, title: a file that nobody has}
figures:
  met: {arm: flat, metric: refined_r_factor, published: 0.1, at_most: 0.3, at: row 1}
  missed: {arm: flat, metric: refined_r_factor, published: 0, within: 1e-9, at: row 2}
  gone: {arm: absent, metric: refined_r_factor, published: 0.1, at_most: 0.3, at: row 3}
fast: {arms: [absent]}
"""
ABSENT = f"""\
name: x
data: {{train: {{file: gone.npz, sha256: '{"ab" * 32}'}}}}
training: {{n_groups: 8}}
products: {{refine: {{}}}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "spec.yaml").write_text(SPEC)
    (tmp_path / "absent.yaml").write_text(ABSENT)
    path = tmp_path / "tiny.recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.mark.slow
def test_a_recipe_is_run_judged_and_the_second_time_taken_from_the_folder(recipe: Path) -> None:
    runs = recipe.parent / "runs"
    done = harness("reproduce", recipe, runs=runs)
    assert done.returncode == ExitCode.DIFFERS, done.stderr
    result = json.loads((runs / "reproduced" / "tiny" / "result.json").read_text())
    verdicts = {name: row["verdict"] for name, row in result["figures"].items()}
    assert verdicts == {"met": "reproduced", "missed": "not reproduced", "gone": "not comparable"}
    assert "gone.npz" in result["arms"]["absent"]["not_run"]
    assert "ab" * 32 in result["arms"]["absent"]["not_run"]
    (one,) = result["arms"]["flat"]["runs"]
    assert one["how"] == "run"
    assert one["cpu_seconds"] > 0
    assert "data:image/png;base64," in (runs / "reproduced" / "tiny" / "page.html").read_text()

    recipe.write_text("".join(line for line in RECIPE.splitlines(True) if not line.startswith("  missed:")))
    again = harness("reproduce", recipe, runs=runs)
    assert again.returncode == ExitCode.OK, again.stderr
    assert "is reused: the same values, data, code and environment" in again.stderr
    assert [path.name for path in run_folders(runs)] == [one["run"]]


def test_the_fast_row_shows_the_figures_of_its_arms_only(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = recipe.parent / "runs"
    assert main(["reproduce", str(recipe), "--fast", "--json", "--runs-dir", str(runs)]) == ExitCode.BAD_INPUT
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert "no arm could be run" in said.err
    assert list(told["figures"]) == ["gone"]
    assert told["machines"] == []
    assert (runs / "reproduced" / "tiny-fast" / "page.html").is_file()


@pytest.mark.slow
def test_what_is_called_again_after_a_stop_has_the_options_of_the_first_call(recipe: Path) -> None:
    long_spec(recipe.parent).rename(recipe.parent / "spec.yaml")
    runs = recipe.parent / "my runs"
    command = ["harness", "reproduce", str(recipe), "--runs-dir", str(runs), "--data-dir", str(recipe.parent)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", *command], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        until(lambda: is_training(runs))
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
    assert process.returncode == ExitCode.INTERRUPTED
    assert f"stopped; `{shlex.join(command)}` goes on where it stood" in said


def test_the_published_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--list"]) == ExitCode.OK
    assert "siemens-star" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"), [([], "name a recipe"), (["siemens-sta"], "did you mean 'siemens-star'?")]
)
def test_a_recipe_that_is_not_named_or_not_there_is_bad_input(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", *arguments]) == ExitCode.BAD_INPUT
    assert said in capsys.readouterr().err
