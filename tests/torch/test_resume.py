"""A training that is broken off and continued gives the bits of one that was not."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptycho_torch.callbacks import StopRequestedError
from ptycho_torch.errors import CheckpointError
from ptycho_torch.exact.checkpoint_io import DurableCheckpointIO
from ptycho_torch.exact.digest import optimizer_digest, tensor_digest
from ptycho_torch.payloads import TrainingPayload
from ptycho_torch.readers import Scan
from ptycho_torch.resume import Cadence, find_continuation, forget_states
from ptycho_torch.training import TrainingResult
from tests.torch.small_training import MakePayload, fit

EVERY_STEP = Cadence(every_steps=1, every_seconds=None)
NEVER = Cadence(every_steps=None, every_seconds=None)


def facts(payload: TrainingPayload, result: TrainingResult) -> dict[str, Any]:
    output = Path(payload.output_dir)
    grown = [output / "metrics.csv", output / "trace.jsonl", *sorted((output / "logs").rglob("*.csv"))]
    return {
        "weights": tensor_digest(result.module.state_dict()),
        "optimizer": optimizer_digest(result.trainer.optimizers[0].state_dict()),
        "metrics": result.metrics,
        "steps": (result.epochs, result.steps),
        "kept": [(kept.path.name, kept.metric) for kept in result.checkpoints],
        "files": {path.relative_to(output).as_posix(): path.read_text() for path in grown},
        "checkpoints": sorted(path.name for path in (output / "checkpoints").glob("[!r]*.ckpt")),
    }


def go_on(payload: TrainingPayload, scan: Scan, **more: Any) -> TrainingResult:
    return fit(payload, scan, continuation=find_continuation(Path(payload.output_dir)), **more)


def break_off(payload: TrainingPayload, scan: Scan, after: int, cadence: Cadence = EVERY_STEP) -> str:
    asked = itertools.count()
    with pytest.raises(StopRequestedError) as caught:
        go_on(payload, scan, cadence=cadence, should_stop=lambda: next(asked) >= after)
    return str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "execution", "first", "second"),
    [
        ({}, {"scheduler": "MultiStage"}, 1, 1),
        ({"gridsize": 2, "neighbor_count": 4}, {"accum_steps": 2, "scheduler": "WarmupCosine"}, 1, 0),
        ({"loss": "mae"}, {"scheduler": "ReduceLROnPlateau", "logger_backend": "csv"}, 2, 3),
        ({}, {"early_stop_patience": 1, "checkpoint_save_top_k": 2, "scheduler": "Exponential"}, 5, 0),
        ({"validate_every": 2}, {"checkpoint_monitor_metric": "train_loss"}, 4, 0),
    ],
)
def test_a_training_broken_off_twice_ends_in_the_bits_of_the_unbroken_one(
    make_payload: MakePayload,
    scan: Scan,
    overrides: dict[str, Any],
    execution: dict[str, Any],
    first: int,
    second: int,
) -> None:
    unbroken, broken = (make_payload({"epochs": 3, **overrides}, **execution) for _ in range(2))
    wanted = facts(unbroken, fit(unbroken, scan, cadence=NEVER))
    break_off(broken, scan, first)
    break_off(broken, scan, second)
    assert facts(broken, go_on(broken, scan, cadence=NEVER)) == wanted


def test_persistent_workers_go_on_where_the_samples_stood(make_payload: MakePayload, scan: Scan) -> None:
    workers = {"num_workers": 2, "persistent_workers": True}
    unbroken, broken = make_payload(**workers), make_payload(**workers)
    wanted = facts(unbroken, fit(unbroken, scan, cadence=NEVER))
    break_off(broken, scan, 1)
    assert facts(broken, go_on(broken, scan, cadence=NEVER)) == wanted


def test_a_stop_waits_until_an_accumulated_step_is_done(make_payload: MakePayload, scan: Scan) -> None:
    # Three batches an epoch, two to a step: the second step ends the epoch, so it is left between epochs.
    payload = make_payload(accum_steps=2)
    assert "after step 1" in break_off(payload, scan, 0)
    assert "after step 2" in break_off(payload, scan, 0)


def test_states_are_saved_by_steps_and_the_oldest_go_when_the_budget_is_spent(
    make_payload: MakePayload, scan: Scan
) -> None:
    payload = make_payload({"epochs": 4})
    break_off(payload, scan, 9, Cadence(every_steps=2, every_seconds=None, budget_mb=0.0))
    folder = Path(payload.output_dir) / "checkpoints"
    assert len(list(folder.glob("resume-*.ckpt"))) == 2
    roomy = make_payload({"epochs": 4})
    break_off(roomy, scan, 9, Cadence(every_steps=2, every_seconds=None))
    names = sorted(path.name for path in (Path(roomy.output_dir) / "checkpoints").glob("resume-*.ckpt"))
    assert [int(name[7:16]) for name in names][:3] == [2, 4, 6]


def test_states_are_saved_by_the_clock(make_payload: MakePayload, scan: Scan) -> None:
    payload = make_payload({"epochs": 4})
    break_off(payload, scan, 5, Cadence(every_steps=None, every_seconds=0.0))
    assert len(list((Path(payload.output_dir) / "checkpoints").glob("resume-*.ckpt"))) >= 5


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def forget_digest(path: Path) -> None:
    path.with_name(f"{path.name}.sha256").unlink()


@pytest.mark.parametrize(
    ("harm", "sentence"), [(damage, "altered"), (tear, "altered"), (forget_digest, "is missing")]
)
def test_an_unsound_state_is_named_and_the_one_before_it_is_used(
    make_payload: MakePayload, scan: Scan, harm: Any, sentence: str
) -> None:
    unbroken, broken = make_payload(), make_payload()
    wanted = facts(unbroken, fit(unbroken, scan, cadence=NEVER))
    break_off(broken, scan, 4)
    output = Path(broken.output_dir)
    newest = max((output / "checkpoints").glob("resume-*.ckpt"))
    harm(newest)
    continuation = find_continuation(output)
    assert continuation is not None
    assert continuation.path.name < newest.name
    assert continuation.passed_over[0].startswith(newest.name)
    assert sentence in continuation.passed_over[0]
    assert facts(broken, go_on(broken, scan, cadence=NEVER)) == wanted


def test_when_no_state_is_sound_the_training_does_not_start_anew_in_silence(
    make_payload: MakePayload, scan: Scan
) -> None:
    payload = make_payload()
    break_off(payload, scan, 2)
    for path in (Path(payload.output_dir) / "checkpoints").glob("resume-*.ckpt"):
        damage(path)
    with pytest.raises(CheckpointError, match="no state of this run is sound"):
        go_on(payload, scan)


def test_a_log_that_was_altered_is_not_continued(make_payload: MakePayload, scan: Scan) -> None:
    payload = make_payload()
    break_off(payload, scan, 4)
    trace = Path(payload.output_dir) / "trace.jsonl"
    before = trace.read_bytes()
    trace.write_bytes(before.replace(b'"epoch":0', b'"epoch":9', 1))
    with pytest.raises(
        CheckpointError, match=r"no state of this run is sound: .*trace\.jsonl no longer begins"
    ):
        go_on(payload, scan)


def test_what_was_written_after_the_state_is_written_once(make_payload: MakePayload, scan: Scan) -> None:
    unbroken, broken = make_payload(logger_backend="csv"), make_payload(logger_backend="csv")
    wanted = facts(unbroken, fit(unbroken, scan, cadence=NEVER))
    break_off(broken, scan, 4)
    output = Path(broken.output_dir)
    with (output / "metrics.csv").open("a") as file:
        file.write("1,6,0.001,9.9,9.9\n")
    with (output / "trace.jsonl").open("a") as file:
        file.write('{"step":9')
    assert facts(broken, go_on(broken, scan, cadence=NEVER)) == wanted


def test_a_training_that_starts_anew_in_a_used_folder_leaves_no_old_lines(
    make_payload: MakePayload, scan: Scan
) -> None:
    payload = make_payload()
    wanted = facts(payload, fit(payload, scan))
    assert facts(payload, fit(payload, scan)) == wanted


def test_states_that_are_needed_no_more_are_removed_with_their_digests(
    make_payload: MakePayload, scan: Scan
) -> None:
    payload = make_payload({"epochs": 1})
    fit(payload, scan, cadence=EVERY_STEP)
    folder = Path(payload.output_dir) / "checkpoints"
    assert list(folder.glob("resume-*"))
    forget_states(Path(payload.output_dir))
    assert list(folder.glob("resume-*")) == []


class Died(BaseException):
    """Stands for a death at a moment between two of the disk's operations."""


@pytest.fixture
def dying_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Let the process die at the n-th change of a file's name, existence or length; None lets it live."""
    operations = [(Path, "replace"), (Path, "unlink"), (os, "truncate")]
    originals = {place: getattr(*place) for place in operations}

    def arm(moment: int | None) -> None:
        left = itertools.count(moment, -1) if moment is not None else itertools.repeat(-1)
        for place in operations:

            def operate(*arguments: Any, original: Any = originals[place], **more: Any) -> Any:
                if next(left) == 0:
                    raise Died
                return original(*arguments, **more)

            monkeypatch.setattr(*place, operate)

    return arm


def test_a_death_at_any_moment_on_the_disk_is_survived(
    make_payload: MakePayload, scan: Scan, dying_at: Callable[[int | None], None]
) -> None:
    unbroken, broken = make_payload(), make_payload()
    wanted = facts(unbroken, fit(unbroken, scan, cadence=NEVER))
    often = Cadence(every_steps=1, every_seconds=None, budget_mb=0.0)
    # One folder dies again and again, each time a little later: resuming is broken off as well.
    deaths = 0
    result = None
    while result is None:
        dying_at(1 + 3 * deaths)
        try:
            result = go_on(broken, scan, cadence=often)
        except Died:
            deaths += 1
    assert deaths >= 5
    assert facts(broken, result) == wanted
    assert not list((Path(broken.output_dir) / "checkpoints").glob(".*"))


def test_an_unfinished_save_is_no_state(make_payload: MakePayload, scan: Scan) -> None:
    payload = make_payload()
    output = Path(payload.output_dir)
    break_off(payload, scan, 0)
    (state,) = (output / "checkpoints").glob("resume-*.ckpt")
    state.rename(state.with_name(f".{state.name}.tmp"))
    assert find_continuation(output) is None


def test_only_states_hold_what_the_logs_were(make_payload: MakePayload, scan: Scan) -> None:
    payload = make_payload()
    break_off(payload, scan, 3)
    folder = Path(payload.output_dir) / "checkpoints"
    for path in folder.glob("*.ckpt"):
        held = DurableCheckpointIO().load_checkpoint(path)["callbacks"].get("ResumePoints", {})
        assert bool(held) == path.name.startswith("resume-"), path.name
