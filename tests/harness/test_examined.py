"""A worker is asked for one batch by a file, and answers by another."""

from __future__ import annotations

from pathlib import Path

from harness.examined import ask_for_batch, batch_asked_for, read_examination


def test_a_run_that_nobody_asks_is_not_looked_into(tmp_path: Path) -> None:
    assert batch_asked_for(tmp_path) is None
    assert read_examination(tmp_path) == {}


def test_what_was_seen_keeps_its_order(tmp_path: Path) -> None:
    ask_for_batch(tmp_path, 7)
    asked = batch_asked_for(tmp_path)
    assert asked is not None
    assert asked[0] == 7
    asked[1]({"b": "1", "a": "2"})
    assert list(read_examination(tmp_path).items()) == [("b", "1"), ("a", "2")]
