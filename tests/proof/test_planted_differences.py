"""Of every planted difference, `harness bisect` names step and tensor, and puts the true cause first."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.conftest import plant_tree
from tests.proof.planting import harness, prepare
from tests.proof.plants import PLANTS, carry_out, step_expected
from tests.proof.warm import end_servers

SAMPLE = ("a bit of a weight, once", "one byte of the frames", "the learning rate in the second epoch")
"""What the slow tests try of all that is planted."""

ALL = [
    pytest.param(name, marks=[pytest.mark.proof, *([pytest.mark.slow] if name in SAMPLE else [])])
    for name in PLANTS
]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("ground")
    yield prepare(folder / "first", plant_tree(folder / "tree"))
    end_servers()


@pytest.mark.parametrize("name", ALL)
def test_a_planted_difference_is_found(name: str, tmp_path: Path, ground: Path) -> None:
    plot, first, second = carry_out(name, tmp_path, ground)
    found = plot.bisect(first, second)
    expected = PLANTS[name][1]
    assert found.step == step_expected(name, first, second), found
    assert expected.batch in {None, found.batch}, found
    assert fnmatch.fnmatchcase(found.tensor, expected.tensor), found.tensor
    assert len(found.causes) >= 5, "the harmless differences are there too"
    cause = found.causes[0].suspect
    assert cause.area == expected.area, found.causes
    assert fnmatch.fnmatchcase(cause.name, expected.name), found.causes


@pytest.mark.proof
@pytest.mark.slow
def test_the_command_line_finds_it_in_processes_of_its_own(tmp_path: Path, ground: Path) -> None:
    plot, first, second = carry_out("the sign of a term of the loss", tmp_path, ground)
    answer = harness(plot.trees[0], "bisect", first, second, "--json")
    assert answer.returncode == 3, answer.stdout + answer.stderr
    found = json.loads(answer.stdout)
    assert (found["step"], found["tensor"], found["told_by"]) == (0, "loss", "replay")
    assert found["causes"][0]["suspect"]["name"] == "ptycho_torch/losses/poisson.py"
    assert [one["start"] for one in found["replays"].values()] == ["the beginning"] * 2
