"""Under profile ``portable`` another processor gives the same bits: shown by emulating some.

The emulator computes the processor's approximate reciprocal roots exactly, and so as no vendor's table does.
It knows no AVX512.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.plan import worker_environment
from tests.proof.conftest import Tally
from tests.proof.forked import differing
from tests.vendor_dependent import VENDOR_DEPENDENT

ROOT = Path(__file__).resolve().parents[2]
QEMU = shutil.which("qemu-x86_64")
TRAININGS = ("poisson:1", "mae:1", "poisson:2", "mae:2")
MUTATIONS = ("root", "loop")

pytestmark = [
    pytest.mark.skipif(QEMU is None, reason="there is no qemu-x86_64: apt-get install qemu-user"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the host's own processor is no x86-64"),
]

Found = dict[str, dict[str, str]]


def computed(folder: Path, *cases: str, cpu: str | None = None) -> Found:
    """Carry the cases out in a fresh process, on the host's own processor or on an emulated one."""
    emulator = [] if cpu is None else [str(QEMU), "-cpu", cpu]
    python = [sys.executable, "-W", "ignore", "-m", "tests.proof.portable_training"]
    done = subprocess.run(
        [*emulator, *python, str(folder), *cases],
        env=worker_environment("portable", 1, os.environ, str(ROOT)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.proof
@pytest.mark.parametrize("cpu", ["Haswell", "EPYC"])
def test_every_number_of_a_training_is_the_same_and_a_root_put_back_is_noticed(
    tmp_path: Path, tally: Tally, cpu: str
) -> None:
    """Emulated processors: trainings, tiled convolutions, mutations, single operations."""
    cases = ("operations", "tiles", *MUTATIONS, *TRAININGS)
    here, there = (computed(tmp_path / str(one), *cases, cpu=one) for one in (None, cpu))
    for case in ("known answers", "tiles", *TRAININGS):
        tally.point(f"{cpu}, {case}", differing(there[case], here[case]))
    for mutation in MUTATIONS:
        is_noticed = there[mutation] != here[mutation]
        tally.point(f"{cpu}, {mutation} put back", [] if is_noticed else ["nobody notices"])
    for name in VENDOR_DEPENDENT:
        has_other_bits = there["operations"][name] != here["operations"][name]
        tally.point(f"{cpu}, {name}", [] if has_other_bits else ["could have been left in training"])
    tally.close()


@pytest.mark.slow
def test_a_training_and_a_root_on_another_processor_are_a_sample_of_the_proof(tmp_path: Path) -> None:
    cases = ("poisson:1", "loop", "tiles")
    here, there = (computed(tmp_path / str(cpu), *cases, cpu=cpu) for cpu in (None, "Haswell"))
    for same in ("known answers", "poisson:1", "tiles"):
        assert there[same] == here[same]
    assert {name.partition(" ")[0] for name in here["tiles"]} == {"_TiledBackward"}
    assert there["loop"] != here["loop"]
