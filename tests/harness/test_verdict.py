"""What the differences between a run and its repetition amount to."""

from __future__ import annotations

import pytest

from harness.verdict import judge

FACTS = {"inputs": "i", "code.source_digest": "c", "groups_digest": "g", "metrics.train_loss": 0.1}


def test_equal_facts_are_bitwise() -> None:
    verdict = judge(FACTS, dict(FACTS))
    assert verdict.is_bitwise
    assert (verdict.headline, verdict.sentences) == ("bitwise", ())


def test_a_result_that_differs_is_named_with_both_values() -> None:
    verdict = judge(FACTS, {**FACTS, "metrics.train_loss": 0.2})
    assert not verdict.is_bitwise
    assert verdict.headline == "differs: metrics.train_loss"
    assert verdict.sentences == ("metrics.train_loss: 0.1 -> 0.2",)


def test_equal_results_under_other_conditions_are_bitwise_and_the_conditions_are_named() -> None:
    verdict = judge(FACTS, {**FACTS, "code.source_digest": "d"})
    assert verdict.is_bitwise
    assert verdict.headline == "bitwise, although code.source_digest differs"


@pytest.mark.parametrize("lost", ["groups_digest", "metrics.train_loss"])
def test_a_result_that_is_absent_differs(lost: str) -> None:
    verdict = judge(FACTS, {name: value for name, value in FACTS.items() if name != lost})
    assert verdict.results == (lost,)
    assert verdict.sentences[0].endswith("-> not recorded")


def test_more_than_one_differing_result_is_counted() -> None:
    verdict = judge(FACTS, {**FACTS, "metrics.train_loss": 0.2, "groups_digest": "h"})
    assert verdict.headline == "differs: groups_digest and 1 more compared facts"
