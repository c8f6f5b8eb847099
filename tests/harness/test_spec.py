from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import SpecError, UserError
from harness.spec import load_spec, read_spec
from tests.harness.spec_kit import ROOT, SMALL, write


def problems_of(folder: Path, text: str, *sets: str) -> list[str]:
    return [problem.render() for problem in read_spec(write(folder, text), sets).problems]


def test_every_value_keeps_its_place(tmp_path: Path) -> None:
    spec = load_spec(
        write(tmp_path, "name: x\ndata:\n  train: {simulate: {seed: 3}}\ntraining: {n_groups: 8}\n")
    )
    places = {
        key: (value.place.line, value.place.column) for key, value in spec.written.items() if value.place
    }
    assert places == {"name": (1, 7), "data.train.simulate.seed": (3, 28), "training.n_groups": (4, 22)}


def test_the_text_is_kept_verbatim(tmp_path: Path) -> None:
    text = SMALL + "# the end\n"
    assert load_spec(write(tmp_path, text)).text == text


def test_an_override_beats_the_file_and_has_a_place_of_its_own(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, SMALL), ["seed=3", "training.n_groups=16"])
    assert spec.get("training.n_groups") == 16
    assert str(spec.place("training.n_groups")) == "--set:2:19"
    assert spec.written["training.n_groups"].value == 64


@pytest.mark.parametrize(
    ("option", "key", "value"),
    [
        ("n_groups=8", "training.n_groups", 8),
        ("learning_rate=1e-3", "execution.learning_rate", 1e-3),
        ("execution.logger_backend=", "execution.logger_backend", None),
        ("training.stage_factors=[1, 0.5]", "training.stage_factors", [1, 0.5]),
        ("nepochs=3", "training.epochs", 3),
        ("data.train.simulate.object.size_px=120", "data.train.simulate.object.size_px", 120),
        ("name=other", "name", "other"),
    ],
)
def test_an_override_is_read_as_yaml(tmp_path: Path, option: str, key: str, value: object) -> None:
    assert load_spec(write(tmp_path, SMALL), [option]).get(key) == value


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("n_groups", "write --set key=value"),
        ("passes=3", "'passes' does not belong at the top of a spec: move it to the block products.refine"),
        ("=3", "write --set key=value"),
        ("n_groups=no", "--set:1:10 training.n_groups: must be a whole number"),
        ("n_groop=3", "there is no key 'n_groop'"),
        ("n_groop=3", "did you mean 'training.n_groups'?"),
        ("epoch=3", "did you mean 'training.epochs'?"),
        ("Learning-Rate=1", "did you mean 'execution.learning_rate'?"),
        ("modle=3", "did you mean 'model'?"),
        ("file=x", "did you mean 'data.train.file' or 'data.test.file' or 'data.reference.file'?"),
        ("row=3", "did you mean 'data.train.simulate.scan.rows'?"),
        ("qqq=3", "(legal: name, seed, init_from, data,"),
        ("training.n_groop=3", "did you mean 'n_groups'?"),
        ("training=3", "where a block is expected"),
        ("n_groups=[1", "--set:1:10"),
        ("name=!!str x", "the tag"),
    ],
)
def test_a_broken_override_is_answered_with_its_place(tmp_path: Path, option: str, sentence: str) -> None:
    found = problems_of(tmp_path, SMALL, option)
    assert any(sentence in problem for problem in found)
    assert any(option in problem for problem in found)


def test_an_override_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (said,) = problems_of(tmp_path, SMALL, "name=caf\udce9")
    assert "byte 0xe9 is not UTF-8" in said


def test_the_last_of_two_equal_overrides_wins(tmp_path: Path) -> None:
    assert load_spec(write(tmp_path, SMALL), ["seed=1", "seed=2"]).get("seed") == 2


def test_an_override_can_give_what_the_file_lacks(tmp_path: Path) -> None:
    text = "name: x\ndata: {train: {simulate: {}}}\n"
    assert problems_of(tmp_path, text, "n_groups=8") == []


def test_problems_of_the_file_and_of_the_command_line_come_together(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(write(tmp_path, SMALL + "sed: 3\n"), ["epochs=no"])
    assert [str(problem.key) for problem in caught.value.problems] == ["sed", "training.epochs"]


def test_a_spec_that_is_absent_is_answered_with_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    for name in ("star.yaml", ".pre-commit-config.yaml", "one.recipe.yaml", "runs/scan.yaml"):
        write(tmp_path, SMALL, name)
    with pytest.raises(UserError, match=r"there is no such spec \(specs there: runs/scan.yaml, star.yaml\)"):
        load_spec(tmp_path / "sta.yaml")


def test_a_spec_that_no_container_of_compose_can_see_is_answered_with_where_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_AS", "docker-compose run --rm harness")
    with pytest.raises(UserError, match="a container sees the specs below runs/"):
        load_spec(tmp_path / "elsewhere.yaml")


def test_a_folder_is_no_spec(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a spec is a file"):
        load_spec(tmp_path)


def test_reading_a_spec_needs_no_torch(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL)
    program = (
        "import sys\nfrom harness.spec import load_spec\nfrom harness import resolve\n"
        f"load_spec({str(path)!r})\nassert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_a_field_that_is_misspelt_outside_its_block_is_not_called_missing_too(tmp_path: Path) -> None:
    text = SMALL.replace("training:", "n_group: 8\ntraining:").replace("n_groups: 64", "epochs: 2")
    [problem] = problems_of(tmp_path, text)
    assert "did you mean 'training.n_groups'?" in problem
