"""Wholly fresh processes through the real command line: killed with their workers, and resumed."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.manifest import read_manifest
from tests.proof.conftest import Tally
from tests.proof.forked import Death, Forks, continued_from, differing, events_named, facts, wait_until_free
from tests.proof.real_runs import (
    batches_of,
    command,
    harness,
    killed_when,
    only_run,
    surroundings,
    workers_of,
)
from tests.proof.specs import SMALL
from tests.proof.test_kills import subject_of
from tests.waiting import until

pytestmark = pytest.mark.proof
ENDED_CODES = {0, 1}
"""The network of so short a training may count as collapsed, which is 1."""
CHUNKS, CHUNK = 4, 5
BATCHES = 21


@pytest.fixture(scope="module")
def spec(place: Path) -> Path:
    path = place / "fresh.yaml"
    path.write_text(
        SMALL.replace("{reconstruction: false}", "{pictures: false}").replace(
            "every_steps: 1", "every_steps: 2"
        )
    )
    return path


@pytest.fixture(scope="module")
def wanted(spec: Path, place: Path) -> dict[str, Any]:
    runs = place / "fresh"
    answer = harness("run", spec, "--runs-dir", runs)
    assert answer.returncode in ENDED_CODES, answer.stderr
    path = only_run(runs)
    assert path is not None
    assert batches_of(path) == BATCHES
    return facts(path)


def resumed(path: Path, runs: Path) -> str:
    wait_until_free(path)
    answer = harness("resume", path, "--runs-dir", runs)
    assert answer.returncode in ENDED_CODES, answer.stderr
    return answer.stdout


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_run_killed_with_its_worker_goes_on_in_fresh_processes(
    spec: Path, wanted: dict[str, Any], tmp_path: Path, tally: Tally, chunk: int
) -> None:
    """SIGKILL of host and worker, wholly fresh processes."""
    drawn = random.Random(chunk)
    points = 0
    while points < CHUNK:
        batches, runs = drawn.randrange(2, BATCHES - 2), tmp_path / "runs"
        path = killed_when(lambda run, n=batches: batches_of(run) >= n, runs, "run", spec, "--runs-dir", runs)
        if path is not None:
            points += 1
            resumed(path, runs)
            tally.point(f"batch {batches}", differing(facts(path), wanted))
        shutil.rmtree(runs)
    tally.close()


def harmed(path: Path, harm: str) -> Path:
    newest = max((path / "checkpoints").glob("resume-*.ckpt"))
    content = newest.read_bytes()
    if harm == "torn":
        newest.write_bytes(content[: len(content) // 3])
    elif harm == "one bit altered":
        newest.write_bytes(content[:2000] + bytes([content[2000] ^ 1]) + content[2001:])
    elif harm == "empty":
        newest.write_bytes(b"")
    elif harm == "exchanged for an older one":
        shutil.copyfile(min((path / "checkpoints").glob("resume-*.ckpt")), newest)
    else:
        newest.with_name(f"{newest.name}.sha256").unlink()
    return newest


@pytest.mark.parametrize(
    "harm", ["torn", "one bit altered", "empty", "exchanged for an older one", "without its digest"]
)
def test_an_unsound_state_is_passed_over_and_named(
    spec: Path, wanted: dict[str, Any], tmp_path: Path, tally: Tally, harm: str
) -> None:
    """States torn, altered, emptied, exchanged, bare."""
    runs = tmp_path / "runs"
    path = killed_when(lambda run: batches_of(run) >= BATCHES - 7, runs, "run", spec, "--runs-dir", runs)
    assert path is not None
    wait_until_free(path)
    newest = harmed(path, harm)
    resumed(path, runs)
    found = differing(facts(path), wanted)
    [said] = events_named(path, "continuing")
    if not any(newest.name in sentence for sentence in said["passed_over"]):
        found.append(f"{newest.name} is not named in {said}")
    if continued_from(read_manifest(path))[-1] >= int(newest.stem.removeprefix("resume-")):
        found.append("it did not go on from the state before")
    if newest.name not in harness("show", path, "--runs-dir", runs).stdout + str(said):
        found.append("nobody is told")
    tally.point(harm, found)
    tally.close()


def test_a_worker_killed_again_and_again_is_started_again_by_itself(
    spec: Path, wanted: dict[str, Any], tmp_path: Path, tally: Tally
) -> None:
    """SIGKILL of the worker under --max-restarts."""
    runs = tmp_path / "runs"
    host = subprocess.Popen(
        command("run", spec, "--runs-dir", runs, "--max-restarts", "3"),
        env=surroundings(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for kill, batches in enumerate((5, 11, 17), start=1):
        until(lambda n=batches: (run := only_run(runs)) is not None and batches_of(run) >= n)
        until(lambda: workers_of(host.pid))  # the one before may have come so far, too
        [worker] = workers_of(host.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
        path = only_run(runs)
        assert path is not None
        until(lambda n=kill, run=path: len(events_named(run, "restarting")) >= n)
    assert host.wait() in ENDED_CODES
    manifest = read_manifest(path)
    found = differing(facts(path), wanted)
    if [one.exit_status for one in manifest.attempts[:3]] != [-signal.SIGKILL] * 3 or len(
        manifest.attempts
    ) != 4:
        found.append(f"attempts are {manifest.attempts}")
    tally.point("three kills", found)
    tally.close()


def test_a_worker_killed_more_often_than_is_allowed_is_left(forks: Forks, tmp_path: Path) -> None:
    subject = subject_of(forks, tmp_path, "often", SMALL)
    finished = subject.run(Death(step=1), max_restarts=2)
    assert finished.manifest.status == "failed"
    assert [one.exit_status for one in finished.manifest.attempts] == [-signal.SIGKILL] * 3
