"""Looking into one batch names every tensor in the order in which it is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ptycho_torch.examination import ExaminedError
from ptycho_torch.readers import Scan
from ptycho_torch.trace import read_trace
from tests.torch.small_training import MakePayload, fit


def examined(make_payload: MakePayload, scan: Scan, index: int, **overrides: Any) -> dict[str, str]:
    seen: dict[str, str] = {}
    with pytest.raises(ExaminedError, match=f"batch {index} was looked into"):
        fit(make_payload(overrides), scan, examine=(index, seen.update))
    return seen


def first_difference(one: dict[str, str], other: dict[str, str]) -> str | None:
    return next((name for name in one if one[name] != other.get(name)), None)


def test_the_tensors_stand_in_the_order_of_the_computation(make_payload: MakePayload, scan: Scan) -> None:
    names = list(examined(make_payload, scan, 4))
    kinds = [name.split("/")[0] for name in names]
    assert list(dict.fromkeys(kinds)) == ["before", "batch", "activation", "loss", "gradient", "after"]
    assert sum(kind == "gradient" for kind in kinds) == sum(
        name.startswith("after/optimizer/exp_avg/") for name in names
    )


def test_the_same_batch_looks_the_same_in_two_trainings_and_as_the_trace_says(
    make_payload: MakePayload, scan: Scan
) -> None:
    payload = make_payload()
    fit(payload, scan)
    seen = examined(make_payload, scan, 4)
    assert seen == examined(make_payload, scan, 4)
    recorded = read_trace(Path(payload.output_dir) / "trace.jsonl")
    assert seen["loss"] == recorded[4].loss


def test_a_training_that_is_looked_into_leaves_the_trace_of_any_other_up_to_that_batch(
    make_payload: MakePayload, scan: Scan
) -> None:
    payload = make_payload({}, accum_steps=2)
    fit(payload, scan)
    trace = Path(payload.output_dir) / "trace.jsonl"
    recorded = read_trace(trace)
    with pytest.raises(ExaminedError):
        fit(payload, scan, examine=(4, lambda seen: None))
    assert read_trace(trace) == recorded[:5]


def test_what_differs_first_is_what_was_changed(make_payload: MakePayload, scan: Scan) -> None:
    ours = examined(make_payload, scan, 0)
    assert first_difference(ours, examined(make_payload, scan, 0, batch_size=3)) == "batch/index"
    other_loss = first_difference(ours, examined(make_payload, scan, 0, loss="mae"))
    assert other_loss == "loss"
