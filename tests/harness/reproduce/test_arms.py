"""Arms are carried out as ordinary runs; what is done is reused, and what was broken off goes on."""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.fetch import Fetcher
from harness.lookup import run_folders
from harness.progress import read_progress
from harness.reproduce.arms import Around, run_arm
from harness.store import MANIFEST, OUTCOME, hold_run

from ..conftest import Bench
from .recipes import RECIPE, recipe_in


@dataclasses.dataclass
class Told:
    around: Around
    sentences: list[str]


@pytest.fixture
def told(bench: Bench, tmp_path: Path) -> Told:
    sentences: list[str] = []
    around = Around(
        executor_for=lambda spec: bench.executor(),
        runs_dir=bench.runs,
        root=bench.root,
        folders=(),
        fetcher=Fetcher(tmp_path / "downloads", may_download=False),
        look=lambda path: None,
        tell=sentences.append,
    )
    return Told(around, sentences)


def with_behaviour(told: Told, bench: Bench, behaviour: str) -> Around:
    return dataclasses.replace(told.around, executor_for=lambda spec: bench.executor(behaviour))


def test_each_seed_is_a_run_of_its_own_with_its_manifest(bench: Bench, told: Told) -> None:
    recipe = recipe_in(bench.spec.parent)
    result = run_arm(recipe, recipe.arms["two"], told.around)
    assert [one.how for one in result.runs] == ["run", "run"]
    for one, seed in zip(result.runs, (1, 2), strict=True):
        assert (one.path / MANIFEST).is_file()
        assert one.manifest.name == "small-two"
        assert one.manifest.resolved["seed"].value == seed
        assert one.manifest.resolved["training.epochs"].value == 3


def test_what_is_done_is_reused_and_said(bench: Bench, told: Told) -> None:
    recipe = recipe_in(bench.spec.parent)
    first = run_arm(recipe, recipe.arms["one"], told.around)
    again = run_arm(recipe, recipe.arms["one"], told.around)
    assert [one.how for one in again.runs] == ["reused", "reused"]
    assert [one.path for one in again.runs] == [one.path for one in first.runs]
    assert [one for one in told.sentences if "is reused: the same values, data, code" in one]
    assert len(list(run_folders(bench.runs))) == 2


def test_an_ordinary_run_of_the_same_values_is_reused_whatever_its_name(bench: Bench, told: Told) -> None:
    recipe = recipe_in(bench.spec.parent, RECIPE.replace("seeds: [1, 2]}", "seeds: [42]}", 1))
    done = bench.run()
    (one,) = run_arm(recipe, recipe.arms["one"], told.around).runs
    assert (one.how, one.path) == ("reused", done.path)


@pytest.mark.parametrize("what", ["a file of the run", "data"])
def test_what_is_no_longer_the_same_is_run_anew_and_said(bench: Bench, told: Told, what: str) -> None:
    recipe = recipe_in(bench.spec.parent, RECIPE.replace("seeds: [1, 2]}", "seeds: [42]}", 1))
    done = bench.run()
    if what == "data":
        damaged = bench.data
        damaged.write_bytes(damaged.read_bytes() + b" ")
    else:
        (done.path / "products" / "weights.safetensors").write_bytes(b"altered")
    (one,) = run_arm(recipe, recipe.arms["one"], told.around).runs
    assert one.how == "run"
    is_said = any(f"{done.path.name} is not reused" in sentence for sentence in told.sentences)
    assert is_said == (what != "data")  # with other data it is another run from the beginning


def test_code_that_changed_is_run_anew(
    own_tree: Path, make_bench: Callable[[Path], Bench], told: Told
) -> None:
    bench = make_bench(own_tree)
    around = dataclasses.replace(told.around, root=own_tree, executor_for=lambda spec: bench.executor())
    recipe = recipe_in(bench.spec.parent, RECIPE.replace("seeds: [1, 2]}", "seeds: [42]}", 1))
    run_arm(recipe, recipe.arms["one"], around)
    with (own_tree / "ptycho_torch" / "stitching.py").open("a") as file:
        file.write("# changed\n")
    (one,) = run_arm(recipe, recipe.arms["one"], around).runs
    assert one.how == "run"
    assert any("is not reused: " in one and "stitching.py" in one for one in told.sentences)


def test_a_run_that_was_broken_off_goes_on_in_its_folder(bench: Bench, told: Told) -> None:
    recipe = recipe_in(bench.spec.parent, RECIPE.replace("seeds: [1, 2]}", "seeds: [42]}", 1))
    broken = bench.run("killed")
    (broken.path / MANIFEST).unlink()
    (broken.path / OUTCOME).unlink(missing_ok=True)
    (one,) = run_arm(recipe, recipe.arms["one"], told.around).runs
    assert (one.how, one.path) == ("resumed", broken.path)
    assert one.manifest.status == "completed"


def test_a_request_to_stop_that_finds_nothing_left_to_stop_in_a_run_ends_the_recipe(
    bench: Bench, told: Told
) -> None:
    asked: list[Path] = []

    def ask_once(path: Path) -> None:
        if not asked and read_progress(path).get("phase") == "waiting":
            asked.append(path)
            signal.raise_signal(signal.SIGINT)

    recipe = recipe_in(bench.spec.parent)
    around = dataclasses.replace(with_behaviour(told, bench, "late"), look=ask_once)
    result = run_arm(recipe, recipe.arms["one"], around)
    (one,) = result.runs  # of two seeds
    assert (one.manifest.status, one.stopped_by) == ("completed", signal.SIGINT)
    assert result.was_stopped


def test_a_run_that_another_process_holds_is_told_and_left_alone(bench: Bench, told: Told) -> None:
    recipe = recipe_in(bench.spec.parent, RECIPE.replace("seeds: [1, 2]}", "seeds: [42]}", 1))
    done = bench.run()
    with hold_run(done.path):
        (one,) = run_arm(recipe, recipe.arms["one"], told.around).runs
    assert one.how == "run"
    assert f"{done.path.name} is not reused: another process is running it" in told.sentences


def test_a_run_that_failed_is_not_reused(bench: Bench, told: Told) -> None:
    recipe = recipe_in(bench.spec.parent, RECIPE.replace("seeds: [1, 2]}", "seeds: [42]}", 1))
    failed = run_arm(recipe, recipe.arms["one"], with_behaviour(told, bench, "fail")).runs
    (one,) = run_arm(recipe, recipe.arms["one"], told.around).runs
    assert failed[0].manifest.status == "failed"
    assert (one.how, one.manifest.status) == ("run", "completed")


@pytest.mark.parametrize("key", ["data.train", "data.test.simulate.probe"])
def test_an_arm_whose_file_is_nowhere_is_not_run_and_names_it_with_its_digest(
    bench: Bench, told: Told, key: str
) -> None:
    digest = "ab" * 32
    kind = {f"{key}.kind": "file"} if key.endswith("probe") else {}
    overrides = json.dumps({**kind, f"{key}.file": "gone.npz", f"{key}.sha256": digest})
    text = RECIPE.replace("{training.epochs: 3}", overrides)
    recipe = recipe_in(bench.spec.parent, text)
    result = run_arm(recipe, recipe.arms["two"], told.around)
    assert result.runs == ()
    assert result.not_run == f"no data folder has gone.npz (sha256 {digest})"


def test_an_arm_that_the_recipe_says_cannot_be_run_is_listed_only(bench: Bench, told: Told) -> None:
    recipe = recipe_in(bench.spec.parent, RECIPE.replace("the second,", "the second, not_run: no probe,"))
    result = run_arm(recipe, recipe.arms["two"], told.around)
    assert (result.runs, result.not_run) == ((), "no probe")
