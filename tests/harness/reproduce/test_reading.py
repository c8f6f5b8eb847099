"""Recipes are read strictly: what is wrong is said at once, with line and column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.code_capture import source_root
from harness.errors import SpecError, UserError
from harness.reproduce.reading import find_recipe, read_recipe, recipe_paths

from ..spec_kit import SMALL, write
from .recipes import RECIPE, recipe_in, write_recipe

PUBLISHED = source_root() / "runs" / "published"


@pytest.fixture(autouse=True)
def a_spec(tmp_path: Path) -> None:
    write(tmp_path, SMALL)


def test_a_recipe_gives_arms_with_their_options_and_figures(tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path)
    assert list(recipe.arms) == ["one", "two"]
    assert recipe.arms["two"].sets("small", 2) == ("training.epochs=3", "name=small-two", "seed=2")
    assert [figure.told.published for figure in recipe.figures] == [0.9, 0.99]
    assert [(arm.name, arm.seeds) for arm in recipe.chosen(is_fast=True)] == [("one", (1,))]


def test_what_shortens_a_fast_run_is_put_over_its_arms(tmp_path: Path) -> None:
    recipe = recipe_in(
        tmp_path, RECIPE.replace("[one]}", "[two], num_seeds: 2, set: {training.epochs: 1, N: 64}}")
    )
    (arm,) = recipe.chosen(is_fast=True)
    assert arm.seeds == (1, 2)
    assert [one.text for one in arm.overrides] == ["training.epochs=3", "training.epochs=1", "N=64"]
    assert recipe.shortened(is_fast=True) == "training.epochs=1, N=64"
    assert recipe.shortened(is_fast=False) == ""


BROKEN = {
    "a misspelt key": (
        "title: A",
        "titel: A",
        "2:1 titel: there is no key 'titel' here, did you mean 'title'?",
    ),
    "a missing block": ("fast: {arms: [one]}", "", "1:1 fast: is required: add it"),
    "a missing field": ("url: 'https://example.org/paper', ", "", "3:1 source.url: is required: add it"),
    "a wrong type": ("published: 0.9,", "published: high,", "figures.met.published: must be a number"),
    "no arms": ("arms: [one]", "arms: []", "10:14 fast.arms: must hold at least 1, not []"),
    "an unknown arm of a figure": (
        "arm: two",
        "arm: twoo",
        "9:17 figures.missed.arm: is 'twoo', and there is none of that name, did you mean 'two'?",
    ),
    "an unknown metric": (
        "metric: phase_correlation, published: 0.9,",
        "metric: phase_corelation, published: 0.9,",
        "8:27 figures.met.metric: is 'phase_corelation'",
    ),
    "no bound": ("within: 0.05, ", "", "exactly one of within, at_least and at_most must say"),
    "two bounds": ("within: 0.05, ", "within: 0.05, at_most: 1, ", "exactly one of within, at_least"),
    "a bound of nothing": ("within: 0.05", "within: 0", "8:70 figures.met.within: must be above 0"),
    "a bound that is not used": (
        "within: 0.05, ",
        "within: 0.05, not_comparable: no, ",
        "keep one of the two",
    ),
    "a figure less an arm of other seeds": (
        "within: 0.05",
        "within: 0.05, less: three",
        "8:82 figures.met.less: is 'three'",
    ),
    "a seed twice": ("seeds: [1, 2]}", "seeds: [1, 1]}", "5:51 arms.one.seeds: names a seed twice"),
    "a refined image's figure where none is refined": (
        "metric: phase_correlation, published: 0.9,",
        "metric: refined_r_factor, published: 0.9,",
        "8:27 figures.met.metric: is a refined image's, and the arm one has none: put products.refine",
    ),
    "a test scan's figure where there is none": (
        "metric: phase_correlation, published: 0.9,",
        "metric: test_phase_ssim, published: 0.9,",
        "8:27 figures.met.metric: is a test scan's, and the arm one has none: put data.test",
    ),
    "a figure less itself": (
        "within: 0.05",
        "within: 0.05, less: one",
        "8:82 figures.met.less: is the arm itself",
    ),
    "more seeds in short than at length": (
        "fast: {arms: [one]}",
        "fast: {arms: [one], num_seeds: 3}",
        "10:32 fast.num_seeds: is 3, but the arm one has 2",
    ),
    "another name than the file's": (
        "name: small",
        "name: other",
        "1:7 name: is 'other', but its file says 'small'",
    ),
    "an illegal override": (
        "training.epochs: 3",
        "training.epochs: 0",
        "6:66 training.epochs: must be at least 1",
    ),
    "an unknown override": ("training.epochs: 3", "training.epoch: 3", "did you mean 'epochs'?"),
    "a spec that is not there": (
        "spec: spec.yaml, title: the first",
        "spec: spek.yaml, title: the first",
        "5:15 arms.one.spec:",
    ),
    "an arm that is no block": (
        "one: {spec: spec.yaml, title: the first, seeds: [1, 2]}",
        "one: 3",
        "5:8 arms.one: is no block",
    ),
    "an override that is no block": ("set: {training.epochs: 3}", "set: 3", "arms.two.set: is no block"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, fault: str) -> None:
    old, new, said = BROKEN[fault]
    assert old in RECIPE
    with pytest.raises(SpecError) as refused:
        recipe_in(tmp_path, RECIPE.replace(old, new, 1))
    assert said in str(refused.value)
    assert str(refused.value).startswith(f"{tmp_path / 'small.recipe.yaml'}:")


def test_arms_that_are_subtracted_have_the_same_seeds(tmp_path: Path) -> None:
    text = RECIPE.replace("within: 0.05", "within: 0.05, less: two").replace("seeds: [1, 2], set", "set")
    with pytest.raises(SpecError, match="8:82 figures.met.less: is subtracted seed by seed"):
        recipe_in(tmp_path, text)


def test_everything_is_said_at_once(tmp_path: Path) -> None:
    text = RECIPE.replace("arm: two", "arm: three").replace("title: A", "titel: A")
    with pytest.raises(SpecError) as refused:
        recipe_in(tmp_path, text)
    assert len(refused.value.problems) == 3  # the misspelt key, the missing one, and the arm


def test_a_spec_with_problems_of_its_own_is_named(tmp_path: Path) -> None:
    write(tmp_path, SMALL.replace("n_groups", "n_grups"))
    with pytest.raises(SpecError, match="did you mean 'n_groups'"):
        recipe_in(tmp_path)


def test_a_recipe_is_found_by_its_name_or_file(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    assert find_recipe("small", tmp_path) == path
    assert find_recipe("elsewhere/x.yaml", tmp_path) == Path("elsewhere/x.yaml")
    with pytest.raises(UserError, match="there is no recipe 'smal' in .*, did you mean 'small'?"):
        find_recipe("smal", tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        read_recipe(tmp_path / "x.yaml")


def test_an_arm_that_refines_by_what_is_put_over_its_spec_has_the_figures_of_it(tmp_path: Path) -> None:
    text = RECIPE.replace("arm: two, metric: phase_correlation", "arm: two, metric: refined_r_factor")
    recipe = recipe_in(tmp_path, text.replace("training.epochs: 3", "products.refine.passes: 3"))
    assert recipe.figures[1].told.metric == "refined_r_factor"


@pytest.mark.parametrize("path", recipe_paths(PUBLISHED), ids=lambda path: path.name)
def test_every_published_recipe_is_sound(path: Path) -> None:
    recipe = read_recipe(path)
    assert path.name == f"{recipe.name}.recipe.yaml"
    assert recipe.figures


@pytest.mark.parametrize("path", recipe_paths(PUBLISHED), ids=lambda path: path.name)
def test_in_every_published_arm_the_windows_reach_well_from_frame_to_frame(path: Path) -> None:
    told = yaml.safe_load(path.read_text(encoding="utf-8"))
    for arm in told["arms"].values():
        values = flat(yaml.safe_load((path.parent / arm["spec"]).read_text(encoding="utf-8"))) | arm.get(
            "set", {}
        )
        window = values.get("execution.middle_trim", 0) or values["model.N"] // 2
        steps = 1 if values.get("inference.window") == "flat" else 2
        for role in ("train", "test"):
            step = values.get(f"data.{role}.simulate.scan.step_px")
            assert step is None or window >= steps * step


def flat(block: dict[str, Any], head: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in block.items():
        found |= flat(value, f"{head}{name}.") if isinstance(value, dict) else {f"{head}{name}": value}
    return found
