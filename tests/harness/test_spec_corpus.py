"""Specs that must be accepted, and broken ones with the message that each must get.

Beside every ``tests/specs/invalid/NAME.yaml`` stands ``NAME.txt`` with one line for each problem, in order:
``line:column key: sentence``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ExitCode, SpecError
from harness.resolve import resolve
from harness.spec import read_spec
from tests.harness.spec_kit import LOCAL, ROOT

SPECS = ROOT / "tests" / "specs"
INVALID = sorted((SPECS / "invalid").glob("*.yaml"))
VALID = sorted((SPECS / "valid").glob("*.yaml"))


def test_there_are_at_least_sixty_broken_specs() -> None:
    assert len(INVALID) >= 60


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_a_valid_spec_is_resolved(path: Path) -> None:
    assert resolve(read_spec(path), LOCAL).run.payload.training.n_groups > 0


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_a_broken_spec_gets_its_message(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    with pytest.raises(SpecError) as caught:
        resolve(read_spec(path.name), LOCAL)
    found = [
        f"{one.place.line}:{one.place.column} {one.key + ': ' if one.key else ''}{one.sentence}"
        for one in caught.value.problems
        if one.place is not None
    ]
    assert found == path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    assert caught.value.exit_code == ExitCode.BAD_INPUT


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_every_problem_is_one_line_with_a_caret_under_its_place(path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        resolve(read_spec(path), LOCAL)
    for problem in caught.value.problems:
        assert "\n" not in problem.sentence
        if problem.source_line is not None and problem.place is not None:
            head, line, caret = problem.render().split("\n")
            assert head.startswith(f"{path}:{problem.place.line}:{problem.place.column}")
            assert len(caret) <= len(line) + 1
            assert caret.strip() == "^"
