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


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return computed(tmp_path_factory.mktemp("here"), "operations", *MUTATIONS, *TRAININGS)


@pytest.fixture(
    scope="module",
    params=[pytest.param(cpu, marks=pytest.mark.xdist_group(cpu)) for cpu in ("Haswell", "EPYC")],
)
def there(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Found:
    folder = tmp_path_factory.mktemp(request.param)
    return computed(folder, "operations", *MUTATIONS, *TRAININGS, cpu=request.param)


@pytest.mark.proof
@pytest.mark.parametrize("case", ["known answers", *TRAININGS])
def test_every_number_of_a_training_is_the_same(here: Found, there: Found, case: str) -> None:
    assert there[case] == here[case]


@pytest.mark.proof
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_root_put_back_into_loss_or_optimizer_is_noticed(here: Found, there: Found, mutation: str) -> None:
    assert there[mutation] != here[mutation]


@pytest.mark.proof
@pytest.mark.parametrize("name", list(VENDOR_DEPENDENT))
def test_an_operation_that_is_kept_out_of_training_gives_other_bits(
    here: Found, there: Found, name: str
) -> None:
    assert there["operations"][name] != here["operations"][name]


@pytest.mark.slow
def test_a_training_and_a_root_on_another_processor_are_a_sample_of_the_proof(tmp_path: Path) -> None:
    cases = ("poisson:1", "loop")
    here, there = (computed(tmp_path / str(cpu), *cases, cpu=cpu) for cpu in (None, "Haswell"))
    for same in ("known answers", "poisson:1"):
        assert there[same] == here[same]
    assert there["loop"] != here["loop"]
