"""However a run in a container ends: a status, a sentence, and nothing to clean by hand."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.images import connect
from harness.store import OUTCOME, is_held
from ptycho_torch.resume import find_continuation
from tests.container.docker_kit import (
    DURABLE,
    ENDLESS,
    containers_of,
    folder_of,
    harness,
    host,
    manifest,
    status_of,
    until_it_trains,
)
from tests.processes import living_worker_of, worker_of
from tests.waiting import PATIENCE_S, until

pytestmark = [pytest.mark.container, pytest.mark.usefixtures("cpu_image")]
TIMES = range(3)
STATES = "resume-*.ckpt"


@pytest.fixture
def folder() -> Iterator[Path]:
    with folder_of(0) as made:
        yield made


def assert_nothing_is_left(folder: Path, run: Path) -> None:
    """No container, no process, no lock, and every recorded file is whole."""
    until(lambda: containers_of(connect(), run) == [], "the container's removal")
    assert worker_of(run) is None
    assert not is_held(run)
    assert harness(folder, "show", run.name).returncode == 0


def assert_a_durable_state_is_kept(run: Path) -> None:
    """The newest state passes its check: its digest, and what it says of the files that grow beside it."""
    state = find_continuation(run)
    assert state is not None
    assert state.step > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_ends_in_a_checkpoint(folder: Path, number: signal.Signals) -> None:
    with host(folder, ENDLESS) as (process, run):
        until_it_trains(process, run)
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 128 + number
    assert manifest(run)["status"] == "interrupted"
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert_nothing_is_left(folder, run)


def test_a_second_request_ends_a_worker_that_does_not_listen(folder: Path) -> None:
    with host(folder, ENDLESS) as (process, run):
        until_it_trains(process, run)
        os.kill(living_worker_of(run), signal.SIGSTOP)
        process.send_signal(signal.SIGINT)
        # Of two signals that are sent before it looks, a process hears one.
        log = folder / "host.log"
        until(lambda: "once more (Ctrl-C)" in log.read_text(), "the answer to the first request", log)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
    assert manifest(run)["status"] == "interrupted"
    assert_nothing_is_left(folder, run)


@pytest.mark.parametrize("time", TIMES)
def test_docker_stop_ends_in_a_checkpoint(folder: Path, time: int) -> None:
    with host(folder, ENDLESS, *DURABLE) as (process, run):
        until_it_trains(process, run, STATES)
        (container,) = containers_of(connect(), run)
        connect().api.stop(container["Id"])
        assert process.wait(PATIENCE_S) == 143
    record = manifest(run)
    assert record["status"] == "interrupted"
    assert record["error"].startswith("stopped on request")
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert_a_durable_state_is_kept(run)
    assert_nothing_is_left(folder, run)


@pytest.mark.parametrize("time", TIMES)
def test_docker_kill_is_a_failure_that_says_so(folder: Path, time: int) -> None:
    with host(folder, ENDLESS, *DURABLE) as (process, run):
        until_it_trains(process, run, STATES)
        (container,) = containers_of(connect(), run)
        connect().api.kill(container["Id"])
        assert process.wait(PATIENCE_S) == 1
    record = manifest(run)
    assert record["status"] == "failed"
    assert record["error"].endswith("its container was killed from outside")
    assert record["attempts"][0]["exit_status"] == -signal.SIGKILL
    assert_a_durable_state_is_kept(run)
    assert_nothing_is_left(folder, run)


@pytest.mark.parametrize("time", TIMES)
def test_a_killed_worker_is_a_failure_that_says_so(folder: Path, time: int) -> None:
    with host(folder, ENDLESS, *DURABLE) as (process, run):
        until_it_trains(process, run, STATES)
        os.kill(living_worker_of(run), signal.SIGKILL)
        assert process.wait(PATIENCE_S) == 1
    record = manifest(run)
    assert record["status"] == "failed"
    assert record["error"].startswith("the worker was killed (SIGKILL)")
    assert_a_durable_state_is_kept(run)
    assert_nothing_is_left(folder, run)


@pytest.mark.parametrize("time", TIMES)
def test_the_memory_limit_is_a_failure_that_names_it(folder: Path, time: int) -> None:
    with host(folder, ENDLESS, *DURABLE, "container.memory=1g") as (process, run):
        until_it_trains(process, run, STATES)
        # Of all in the container the worker is to be taken, although another process wants the memory.
        Path(f"/proc/{living_worker_of(run)}/oom_score_adj").write_text("1000")
        (container,) = containers_of(connect(), run)
        wants = connect().api.exec_create(container["Id"], ["python", "-c", "b'x' * 2**31"])
        connect().api.exec_start(wants, detach=True)
        assert process.wait(PATIENCE_S) == 1
    record = manifest(run)
    assert record["status"] == "failed"
    assert record["error"].endswith("it wanted more memory than container.memory allows: raise it")
    assert_a_durable_state_is_kept(run)
    assert_nothing_is_left(folder, run)


@pytest.mark.parametrize("time", TIMES)
def test_a_killed_host_leaves_a_worker_that_keeps_a_checkpoint_and_goes(folder: Path, time: int) -> None:
    with host(folder, ENDLESS, *DURABLE) as (process, run):
        until_it_trains(process, run, STATES)
        process.kill()
        process.wait()
        until(lambda: worker_of(run) is None, "the worker's end")
    assert (run / OUTCOME).is_file()
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert_a_durable_state_is_kept(run)
    until(lambda: status_of(folder, run) == "interrupted", "its status")
    assert_nothing_is_left(folder, run)
