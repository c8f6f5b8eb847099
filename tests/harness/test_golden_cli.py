"""The command that a check names for accepting what it has found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.golden_cli import way_to_accept


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "golden").mkdir()
    (tmp_path / "golden" / "ci.json").write_text("{}")
    return tmp_path / "ci.yaml"


def test_it_repeats_what_the_check_was_given(spec: Path, tmp_path: Path) -> None:
    other = tmp_path / "other place.json"
    accept = f"harness golden accept {spec}"
    assert way_to_accept(spec, None, ("seed=2",), tmp_path / "runs") == f"{accept} --set seed=2"
    assert way_to_accept(spec, other, (), tmp_path / "runs") == f"{accept} --golden '{other}'"


def test_where_the_golden_cannot_be_written_it_is_a_copy_that_keeps_the_others(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write wherever a disk lets it
    copy = tmp_path / "runs" / "ci.json"
    accept = f"harness golden accept {spec} --golden {copy}"
    kept = spec.parent / "golden" / "ci.json"
    assert way_to_accept(spec, None, (), tmp_path / "runs") == f"cp {kept} {copy} && {accept}"
    kept.unlink()
    assert way_to_accept(spec, None, (), tmp_path / "runs") == accept
