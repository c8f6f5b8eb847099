"""What a person reads is what they can type where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.called import CALLED_AS, called, shown
from harness.cli import main
from tests.harness.conftest import Bench

COMPOSE = "docker-compose run --rm harness"


def test_a_path_is_told_from_the_working_folder_on_where_it_lies_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "runs" / "a") == "runs/a"
    assert shown(tmp_path.parent / "b") == str(tmp_path.parent / "b")
    assert called("rerun", tmp_path / "a b") == "harness rerun 'a b'"


def test_every_command_that_is_named_begins_as_the_variable_says(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(CALLED_AS, COMPOSE)
    monkeypatch.chdir(bench.runs.parent)
    ended, broken = (bench.run(behaviour).path.name for behaviour in ("complete", "killed"))
    named = {
        ("show", ended): [f"rerun runs/{ended}", f"verify runs/{ended}"],
        ("show", broken): [f"resume runs/{broken}", f"rerun runs/{broken}"],
        ("verify", broken): [f"resume runs/{broken}"],
        ("resume", ended): [f"rerun runs/{ended}"],
        ("show", "nothing like it"): ["list"],
        ("new", str(bench.data)): ["run scan.yaml"],
    }
    for (verb, subject), words in named.items():
        main([verb, subject, *([] if verb == "new" else ["--runs-dir", str(bench.runs)])])
        said = "".join(capsys.readouterr())
        for one in words:
            assert f"{COMPOSE} {one}" in said, said
        assert said.count("harness") == said.count(COMPOSE), said
