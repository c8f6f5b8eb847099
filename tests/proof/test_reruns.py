"""Fifty re-runs of ``runs/ci.yaml`` on a loaded machine, ten in fresh processes: always the same bits."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proof.conftest import Tally
from tests.proof.forked import ROOT, Forks
from tests.proof.real_runs import harness, only_run

pytestmark = pytest.mark.proof
FRESH_CHUNKS, FORKED_CHUNKS, CHUNK = 2, 8, 5


@pytest.fixture
def load() -> Iterator[None]:
    """A busy process beside each test; `make proof` runs one test more than there are cores."""
    busy = subprocess.Popen(["nice", "-n", "10", sys.executable, "-c", "while True: pass"])
    yield
    busy.kill()
    busy.wait()


@pytest.fixture(scope="module")
def first(place: Path) -> Path:
    runs = place / "ci"
    answer = harness("run", ROOT / "runs" / "ci.yaml", "--runs-dir", runs)
    assert answer.returncode == 0, answer.stderr
    path = only_run(runs)
    assert path is not None
    return path


@pytest.mark.usefixtures("load")
@pytest.mark.parametrize("chunk", range(FRESH_CHUNKS))
def test_a_re_run_in_fresh_processes_on_a_loaded_machine_is_bitwise(
    first: Path, tmp_path: Path, tally: Tally, chunk: int
) -> None:
    """Re-runs of runs/ci.yaml, fresh processes, loaded machine."""
    for number in range(CHUNK):
        answer = harness("verify", first, "--runs-dir", tmp_path / "runs")
        is_bitwise = answer.returncode == 0 and answer.stdout.startswith("bitwise")
        tally.point(f"{chunk}.{number}", [] if is_bitwise else [answer.stdout + answer.stderr])
        shutil.rmtree(tmp_path / "runs")
    tally.close()


@pytest.mark.usefixtures("load")
@pytest.mark.parametrize("chunk", range(FORKED_CHUNKS))
def test_a_re_run_on_a_loaded_machine_is_bitwise(
    forks: Forks, first: Path, tmp_path: Path, tally: Tally, chunk: int
) -> None:
    """Re-runs of runs/ci.yaml, forked processes, loaded machine."""
    for number in range(CHUNK):
        status, said = forks.host("verify", first, "--runs-dir", tmp_path / "runs", "--executor", "forked")
        is_bitwise = status == 0 and "bitwise" in said.splitlines()
        tally.point(f"{chunk}.{number}", [] if is_bitwise else [said])
        shutil.rmtree(tmp_path / "runs")
    tally.close()
