"""The disk fails at the n-th write, fsync or rename of a run's folder, for every n, on both sides.

Whatever happens, there is no torn manifest, none that names a missing or altered file, and nothing to unlock;
the run says what happened; and when the disk works again, resuming ends in the bits of an unharmed run.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.manifest import read_manifest
from harness.run import Finished
from harness.store import BEGUN
from tests.proof.conftest import Tally
from tests.proof.forked import (
    ENDED,
    Death,
    Forks,
    Subject,
    differing,
    facts,
    problems_of,
    wait_until_free,
)
from tests.proof.real_runs import only_run
from tests.proof.specs import OWN_NETWORK, SMALL
from tests.proof.test_kills import subject_of

pytestmark = pytest.mark.proof
KINDS = "wsr"
ACTIONS = {"eio": os.strerror(5), "enospc": os.strerror(28), "kill": "SIGKILL"}
SETS = (
    "training.epochs=2",
    "training.n_groups=4",
    "training.batch_size=2",
    "execution.num_workers=0",
    "execution.persistent_workers=false",
    "execution.logger_backend=null",
    "checkpoints.every_steps=1",
)
CHUNKS = 4
WITH_EVERYTHING = ("training.epochs=2", "training.n_groups=4", "products.reconstruction=true")
"""Beside what is on in the spec: two persistent workers, the csv logger, a state after every step."""

POINTS_OF_A_SAMPLE = 4


def listed(forks: Forks, runs: Path) -> list[str]:
    """Say what of `list` and `show` does not work."""
    found = []
    status, said = forks.host("list", "--json", "--runs-dir", runs)
    if status != 0 or "Traceback" in said:
        return [f"list: {said}"]
    for run in json.loads(said):
        status, said = forks.host("show", run["path"], "--runs-dir", runs)
        if status != 0 or "Traceback" in said:
            found.append(f"show: {said}")
    return found


def end_of(subject: Subject, path: Path, wanted: dict[str, Any]) -> list[str]:
    """Resume a run where there is something to resume, and name the facts that differ at its end."""
    try:
        subject.resume(path)
    except UserError as error:
        if "nothing left to do" in str(error):
            return differing(facts(path), wanted)
        if not (path / BEGUN).is_file() and "run its spec again" in str(error):
            return []
        return [str(error)]
    return differing(facts(path), wanted)


@pytest.fixture(scope="module")
def subject(forks: Forks, place: Path) -> Subject:
    return subject_of(forks, place, "faults", SMALL, *OWN_NETWORK, *SETS)


@pytest.fixture(scope="module")
def wanted(subject: Subject) -> dict[str, Any]:
    return facts(subject.run().path)


def calls_in(report: Path) -> list[str]:
    lines = report.read_text().splitlines()
    report.unlink()
    return lines


def hit_in(report: Path) -> str | None:
    """Return the call that was made to fail, or None where the run made fewer calls than that."""
    hits = [line.removesuffix(" HIT") for line in calls_in(report) if line.endswith(" HIT")]
    assert len(hits) <= 1
    return hits[0] if hits else None


Choice = Callable[[int], Iterable[int]]
"""From the number of calls to the calls that are to fail, counted from one."""


def part(chunk: int) -> Choice:
    return lambda calls: range(1 + chunk, calls + 1, CHUNKS)


def worker_faults(
    subject: Subject,
    wanted: dict[str, Any],
    tmp_path: Path,
    tally: Tally,
    action: str,
    chosen: Choice,
    live: Callable[[Death], Finished] | None = None,
) -> None:
    """Let chosen calls of the worker fail, one in each run, or in each of what else it is to live through."""
    report, live = tmp_path / "calls", live or subject.run
    noted = live(Death(fault=f"{{run}}|{KINDS}|0|eio|{report}"))
    calls = calls_in(report)
    shutil.rmtree(noted.path)
    for number in chosen(len(calls)):
        finished = live(Death(fault=f"{{run}}|{KINDS}|{number}|{action}|{report}"))
        hit = hit_in(report)
        if hit is None:
            assert finished.manifest.status in ENDED, finished.manifest.error
            shutil.rmtree(finished.path)
            continue
        said = finished.manifest.error or ""
        found = problems_of(finished.path)
        reached_its_end = finished.manifest.status in ENDED
        if ACTIONS[action] not in said and not (action == "kill" and reached_its_end):
            found.append(f"it is {finished.manifest.status} and says {said!r}")
        found += end_of(subject, finished.path, wanted)
        tally.point(f"{action} at call {number} ({hit})", found)
        shutil.rmtree(finished.path)


def host_faults(
    subject: Subject, wanted: dict[str, Any], tmp_path: Path, tally: Tally, action: str, chosen: Choice
) -> None:
    """Let chosen calls of the host fail, one in each run."""
    forks, runs, report = subject.forks, tmp_path / "runs", tmp_path / "calls"
    runs.mkdir()
    command = ["run", subject.spec, "--runs-dir", runs, "--executor", "forked"]
    command += [word for one in subject.sets for word in ("--set", one)]
    status, said = forks.host(*command, fault=f"{runs}|{KINDS}|0|eio|{report}")
    assert status in {0, 1}, said
    calls = calls_in(report)
    shutil.rmtree(runs)
    for number in chosen(len(calls)):
        runs.mkdir()
        status, said = forks.host(*command, fault=f"{runs}|{KINDS}|{number}|{action}|{report}")
        hit, path = hit_in(report), only_run(runs)
        if hit is None:
            assert path is not None, said
            assert read_manifest(path).status in ENDED, said
            shutil.rmtree(runs)
            continue
        found = [said] if "Traceback" in said else []
        if action == "kill":
            found += [f"it ended with {status}"] * (status != -9)
        elif status == 0 or ACTIONS[action] not in said:
            found.append(f"it ended with {status} and said {said!r}")
        if path is not None:
            found += [*problems_of(path), *listed(forks, runs), *end_of(subject, path, wanted)]
        tally.point(f"{action} at call {number} ({hit})", found)
        shutil.rmtree(runs)


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("action", ACTIONS)
def test_a_fault_of_the_disk_under_the_worker(
    subject: Subject, wanted: dict[str, Any], tmp_path: Path, tally: Tally, action: str, chunk: int
) -> None:
    """Fault or death at every write, fsync, rename of the worker."""
    worker_faults(subject, wanted, tmp_path, tally, action, part(chunk))
    tally.close()


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("action", ACTIONS)
def test_a_fault_of_the_disk_under_the_host(
    subject: Subject, wanted: dict[str, Any], tmp_path: Path, tally: Tally, action: str, chunk: int
) -> None:
    """Fault or death at every write, fsync, rename of the host."""
    host_faults(subject, wanted, tmp_path, tally, action, part(chunk))
    tally.close()


@pytest.fixture(scope="module")
def whole(forks: Forks, place: Path) -> tuple[Subject, dict[str, Any]]:
    subject = subject_of(forks, place, "whole-faults", SMALL, *WITH_EVERYTHING)
    return subject, facts(subject.run().path)


def spread(action: str) -> Choice:
    """Choose a few calls from the first to the last, others for every action."""
    first = 3 + 5 * list(ACTIONS).index(action)
    return lambda calls: range(first, calls + 1, calls // POINTS_OF_A_SAMPLE)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_fault_under_a_worker_with_workers_logger_and_products(
    whole: tuple[Subject, dict[str, Any]], tmp_path: Path, tally: Tally, action: str
) -> None:
    """Fault or death with workers, csv logger and products: a sample."""
    worker_faults(*whole, tmp_path, tally, action, spread(action))
    tally.close()


@pytest.mark.parametrize("action", ACTIONS)
def test_a_fault_under_a_worker_that_resumes(
    whole: tuple[Subject, dict[str, Any]], tmp_path: Path, tally: Tally, action: str
) -> None:
    """Fault or death while a run is resumed: a sample."""
    subject, wanted = whole
    broken = subject.run(Death(step=2)).path
    wait_until_free(broken)

    def go_on(death: Death) -> Finished:
        return subject.resume(Path(shutil.copytree(broken, tmp_path / "again")), death)

    worker_faults(subject, wanted, tmp_path, tally, action, spread(action), go_on)
    shutil.rmtree(broken)
    tally.close()
