"""What the manifest tells of a run's attempts: from when to when they lived, and what they have spent."""

from __future__ import annotations

import dataclasses
import json
import signal

import pytest

from harness.record import attempts_of
from harness.store import JOURNAL, MANIFEST, PROGRESS, read_events
from tests.harness.conftest import Bench
from tests.harness.test_resume import go_on


def at(second: int, event: str, **facts: object) -> dict[str, object]:
    return {"time": f"2026-01-01T00:00:{second:02d}.000+00:00", "event": event, **facts}


def test_attempts_are_told_from_the_journal() -> None:
    died_with_its_host = [at(0, "created"), at(1, "started"), at(4, "phase")]
    went_on = [
        at(20, "resumed"),
        at(21, "started"),
        at(25, "continuing", step=7),
        at(31, "worker ended", exit_status=0),
    ]
    first, second = attempts_of([*died_with_its_host, *went_on, at(32, "ended")])
    assert dataclasses.astuple(first) == ("2026-01-01T00:00:01.000+00:00", 3.0, None, 0, (), None)
    assert dataclasses.astuple(second) == ("2026-01-01T00:00:21.000+00:00", 10.0, 0, 7, (), None)


def test_what_an_attempt_has_spent_is_told_at_its_end_or_when_its_run_is_resumed() -> None:
    events = [
        at(1, "started"),
        at(2, "worker ended", exit_status=-9, cpu_seconds=4.5),
        at(3, "started"),
        at(4, "resumed", cpu_seconds=2.0),
        at(5, "resumed", cpu_seconds=99.0),  # its host died before it had started a worker
        at(6, "started"),
        at(7, "worker ended", exit_status=-9, cpu_seconds=None),
        at(8, "resumed", cpu_seconds=99.0),
        at(9, "started"),
    ]
    assert [one.cpu_seconds for one in attempts_of(events)] == [4.5, 2.0, None, None]


def test_the_time_of_a_run_is_that_of_all_attempts_and_of_old_manifests_that_of_their_last(
    bench: Bench,
) -> None:
    finished = go_on(bench, bench.run("killed").path).manifest
    spent = [one.cpu_seconds for one in finished.attempts]
    assert None not in spent
    assert finished.cpu_seconds == sum(filter(None, spent)) > max(filter(None, spent))
    old = tuple(dataclasses.replace(one, cpu_seconds=None) for one in finished.attempts)
    of_old = dataclasses.replace(finished, attempts=old, timings={"cpu_seconds": 3.0})
    assert of_old.cpu_seconds == 3.0
    assert dataclasses.replace(of_old, timings={}).cpu_seconds is None


def test_what_an_earlier_attempt_has_told_is_not_counted_again(bench: Bench) -> None:
    first, second = go_on(bench, bench.run("killed").path, "silent").manifest.attempts
    assert first.cpu_seconds
    assert (second.exit_status, second.cpu_seconds) == (-signal.SIGKILL, None)


@pytest.mark.parametrize(
    "left",
    [None, "", "[]", '{"cpu_', '{"cpu_seconds": NaN}', '{"cpu_seconds": -1.0}', '{"cpu_seconds": "x"}'],
)
def test_progress_that_is_damaged_or_gone_costs_no_more_than_the_figure(
    bench: Bench, left: str | None
) -> None:
    path = bench.run("killed").path
    events = [event for event in read_events(path) if event["event"] not in {"worker ended", "ended"}]
    (path / JOURNAL).write_text("".join(f"{json.dumps(event)}\n" for event in events))
    for name in (MANIFEST, PROGRESS):
        (path / name).unlink()
    if left is not None:
        (path / PROGRESS).write_text(left)
    finished = go_on(bench, path).manifest
    assert finished.status == "completed"
    first, second = finished.attempts
    assert first.cpu_seconds is None
    assert finished.cpu_seconds == second.cpu_seconds is not None
