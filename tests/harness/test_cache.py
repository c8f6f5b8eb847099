"""Facts that are asked for once: kept where that can be done, and asked again where it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.cache import remembered

KEYS = frozenset({"lock", "optional"})
FACTS: dict[str, Any] = {"lock": None, "optional": ["wandb"]}


class Asked:
    """Gives the facts, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> dict[str, Any]:
        self.times += 1
        return FACTS


def test_facts_are_asked_for_once(tmp_path: Path) -> None:
    asked = Asked()
    for _ in range(2):
        assert remembered(tmp_path / "images" / "a.json", KEYS, asked) == FACTS
    assert asked.times == 1


@pytest.mark.parametrize("old", ['{"lock": null}', "[]", "{", "\udcff"])
def test_what_an_earlier_version_kept_or_is_damaged_is_asked_anew(tmp_path: Path, old: str) -> None:
    kept, asked = tmp_path / "a.json", Asked()
    kept.write_text(old, encoding="utf-8", errors="surrogateescape")
    for _ in range(2):
        assert remembered(kept, KEYS, asked) == FACTS
    assert asked.times == 1


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    asked = Asked()
    for _ in range(2):
        assert remembered(tmp_path / "file" / "images" / "a.json", KEYS, asked) == FACTS
    assert asked.times == 2
