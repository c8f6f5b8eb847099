"""What a trace holds, how it is read, and where two of them part."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptycho_torch.readers import Scan
from ptycho_torch.trace import (
    TraceLine,
    batch_in_words,
    find_parting,
    pack_sums,
    read_trace,
    state_before,
)
from ptycho_torch.tracing import tensor_sums
from ptycho_torch.training import TrainingResult
from tests.torch.small_training import MakePayload, fit

LINES = [
    TraceLine(step=1, epoch=0, batch=0, data="a", loss="0x1p+0", gradient="0x1p+1", rate="0x1p-10"),
    TraceLine(
        step=2, epoch=0, batch=1, data="b", loss="0x1p-1", gradient="0x1p+2", rate="0x1p-10", weights="w"
    ),
    TraceLine(
        step=3,
        epoch=0,
        batch=2,
        data="c",
        loss="0x1p-2",
        gradient="0x1p+3",
        rate="0x1p-10",
        tensors={"x": "1", "y": "2"},
    ),
]


def write(path: Path, lines: list[TraceLine], tail: str = "") -> Path:
    path.write_text("".join(line.to_json() + "\n" for line in lines) + tail)
    return path


def test_a_trace_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_trace(write(tmp_path / "t", LINES)) == LINES
    assert read_trace(tmp_path / "absent") == []


def test_a_torn_last_line_is_left_out_and_any_other_is_refused(tmp_path: Path) -> None:
    assert read_trace(write(tmp_path / "t", LINES, '{"step":4,"ep')) == LINES
    path = write(tmp_path / "t", LINES)
    path.write_text(path.read_text().replace('"epoch":0,"batch":1', '"epoch"', 1))
    with pytest.raises(ValueError, match="t:2: it is no line of a trace"):
        read_trace(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tensors", 5),
        ("tensors", {"x": 1}),
        ("state", 7),
        ("names", "ab"),
        ("names", [1]),
        ("step", "1"),
        ("batch", True),
        ("loss", None),
        ("rate", 0.5),
    ],
)
def test_a_value_of_another_type_is_refused_in_the_last_line_too(
    tmp_path: Path, name: str, value: object
) -> None:
    line = json.dumps({**json.loads(LINES[2].to_json()), name: value})
    with pytest.raises(ValueError, match=f"t:3: it is no line of a trace .*{name} has another type"):
        read_trace(write(tmp_path / "t", LINES[:2], line + "\n"))


@pytest.mark.parametrize("kind", ["data", "loss", "gradient", "rate", "weights"])
def test_two_traces_part_where_the_first_value_differs(kind: str) -> None:
    other = [LINES[0], dataclasses.replace(LINES[1], **{kind: "other"}), LINES[2]]
    parting = find_parting(LINES, other)
    assert parting is not None
    assert (parting.line, parting.step, parting.epoch, parting.batch) == (1, 1, 0, 1)
    assert (parting.kind, parting.first, parting.second) == (kind, getattr(LINES[1], kind), "other")
    assert parting.agreed_step == 0


def test_the_first_of_a_step_s_differences_is_named() -> None:
    other = [dataclasses.replace(LINES[0], rate="other", loss="other"), *LINES[1:]]
    parting = find_parting(LINES, other)
    assert parting is not None
    assert parting.kind == "loss"


def test_a_tensor_is_named_and_the_last_agreement_of_all_weights() -> None:
    other = [*LINES[:2], dataclasses.replace(LINES[2], tensors={"x": "1", "y": "other"})]
    parting = find_parting(LINES, other)
    assert parting is not None
    assert (parting.kind, parting.first, parting.second, parting.agreed_step) == ("y", "2", "other", 2)


@pytest.mark.parametrize(("kind", "told"), [("epoch", "1 -> 2"), ("batch", "2 -> 3"), ("data", "b -> c")])
def test_a_person_is_told_numbers_of_epochs_and_batches_from_one(kind: str, told: str) -> None:
    line = LINES[1]
    changed = {"data": "c"} if kind == "data" else {kind: getattr(line, kind) + 1}
    parting = find_parting(LINES, [LINES[0], dataclasses.replace(line, **changed), LINES[2]])
    assert parting is not None
    assert (parting.kind, parting.told) == (kind, told)
    assert batch_in_words(parting.step, parting.epoch, parting.batch) == "step 2 (epoch 1, batch 2)"


def test_the_end_of_one_trace_is_a_parting_and_equal_traces_have_none() -> None:
    parting = find_parting(LINES, LINES[:2])
    assert parting is not None
    assert (parting.kind, parting.step, parting.batch) == ("length", 2, 2)
    assert find_parting(LINES, list(LINES)) is None


def traced(
    make_payload: MakePayload, scan: Scan, **execution: object
) -> tuple[list[TraceLine], TrainingResult]:
    payload = make_payload(**execution)
    result = fit(payload, scan)
    return read_trace(Path(payload.output_dir) / "trace.jsonl"), result


def test_a_training_writes_a_line_for_every_batch_with_the_step_s_gradient_and_rate(
    make_payload: MakePayload, scan: Scan
) -> None:
    lines, result = traced(make_payload, scan, accum_steps=2, learning_rate=0.25)
    assert [(line.epoch, line.batch, line.step) for line in lines] == [
        (0, 0, 0), (0, 1, 1), (0, 2, 2), (1, 0, 2), (1, 1, 3), (1, 2, 4),
    ]  # fmt: skip
    assert [line.gradient is not None for line in lines] == [False, True, True] * 2
    assert {line.rate for line in lines if line.gradient} == {(0.25).hex()}
    assert len({line.data for line in lines}) == 6
    tensors = lines[-1].tensors
    assert tensors is not None
    assert set(result.module.state_dict()) < set(tensors)
    assert any(name.startswith("optimizer/exp_avg/") for name in tensors)
    assert lines[0].tensors is None


def test_the_trace_holds_the_gradient_before_it_is_clipped(make_payload: MakePayload, scan: Scan) -> None:
    free, _ = traced(make_payload, scan)
    clipped, _ = traced(make_payload, scan, gradient_clip_val=1e-6)
    assert free[0].gradient == clipped[0].gradient
    parting = find_parting(free, clipped)
    assert parting is not None
    assert (parting.step, parting.kind.split("/")[0]) == (1, "before")


def test_an_accumulated_batch_has_the_loss_that_it_has_alone(make_payload: MakePayload, scan: Scan) -> None:
    alone, _ = traced(make_payload, scan)
    accumulated, _ = traced(make_payload, scan, accum_steps=2)
    assert float.fromhex(accumulated[0].loss) == pytest.approx(float.fromhex(alone[0].loss), rel=1e-6)


WITH_STATE = [
    TraceLine(1, 0, 0, "a", "0x1p+0", state=pack_sums([1, 2]), names=["w", "b"]),
    TraceLine(2, 0, 1, "b", "0x1p-1", state=pack_sums([3, 4]), names=["w", "b"]),
    TraceLine(3, 0, 2, "c", "0x1p-2", state=pack_sums([5, 6])),
]


def test_the_state_before_a_batch_is_told_by_name() -> None:
    assert state_before(WITH_STATE, 2) == {"w": pack_sums([5]), "b": pack_sums([6])}
    assert state_before(WITH_STATE[2:], 0) == {"tensor 0": pack_sums([5]), "tensor 1": pack_sums([6])}
    assert state_before(LINES, 0) == {}


def test_a_weight_that_changed_between_two_steps_is_named_before_all_that_follows_from_it() -> None:
    changed = dataclasses.replace(WITH_STATE[2], state=pack_sums([5, 7]), loss="other")
    parting = find_parting(WITH_STATE, [*WITH_STATE[:2], changed])
    assert parting is not None
    assert (parting.line, parting.kind, parting.first) == (2, "before/b", pack_sums([6]))
    assert parting.agreed_step == 1


def test_the_state_before_a_batch_counts_as_agreed_where_it_is_the_same() -> None:
    parting = find_parting(WITH_STATE, [*WITH_STATE[:2], dataclasses.replace(WITH_STATE[2], loss="other")])
    assert parting is not None
    assert (parting.kind, parting.agreed_step) == ("loss", 2)


def test_a_trace_that_keeps_no_states_is_compared_by_the_rest() -> None:
    without = [dataclasses.replace(line, state=None, names=None) for line in WITH_STATE]
    assert find_parting(WITH_STATE, without) is None


@given(st.integers(0, 34), st.integers(0, 31))
def test_every_bit_of_a_tensor_counts_in_its_sum_however_it_is_stored(place: int, bit: int) -> None:
    one = torch.arange(35, dtype=torch.float32)
    other = one.clone()
    other.view(torch.int32)[place] ^= -(2**31) if bit == 31 else 1 << bit
    assert tensor_sums([one]) != tensor_sums([other])
    images = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(place))
    last = images.to(memory_format=torch.channels_last)
    assert tensor_sums([images]) == tensor_sums([last])


def test_a_training_sums_up_all_its_state_before_every_batch(make_payload: MakePayload, scan: Scan) -> None:
    lines, result = traced(make_payload, scan)
    assert set(state_before(lines, 0)) == set(result.module.state_dict())
    assert lines[-1].tensors is not None
    assert list(state_before(lines, len(lines) - 1)) == list(lines[-1].tensors)
    assert [line.names is not None for line in lines] == [True, True, False, False, False, False]
    assert len({line.state for line in lines}) == len(lines)
