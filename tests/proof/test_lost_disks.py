"""A disk that is really full, or really becomes read-only, at any moment of a run; and what is left then."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.manifest import DamagedError
from ptycho_torch.resume import find_continuation
from tests.processes import may_mount
from tests.proof.conftest import Tally
from tests.proof.forked import Forks, Subject, facts, problems_of
from tests.proof.real_runs import only_run
from tests.proof.specs import OWN_NETWORK, SMALL
from tests.proof.test_disk_faults import SETS, end_of, listed
from tests.proof.test_kills import subject_of

pytestmark = pytest.mark.proof
POINTS = 12
_DISK = "96m"
_FREE_BYTES = 2**16
_FULL = "No space left on device"
_LOST = ("Read-only file system", "Input/output error")
"""What ext4 says from its first error on, and to whom it caught in the midst of a change."""


def device_of(disk: Path) -> str:
    asked = ["findmnt", "-no", "SOURCE", str(disk)]
    answer = subprocess.run(asked, check=True, capture_output=True, text=True)
    return Path(answer.stdout.strip()).resolve().name


needs_mount = pytest.mark.skipif(
    not may_mount(), reason="mounting a disk needs the right to administer the system"
)
needs_loop = pytest.mark.skipif(
    not (shutil.which("mkfs.ext4") and Path("/dev/loop-control").exists()),
    reason="a disk that becomes read-only needs mkfs.ext4 and loop devices",
)


@contextlib.contextmanager
def mounted(folder: Path, *what: str | Path) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", *map(str, what), str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def subject(forks: Forks, place: Path) -> Subject:
    return subject_of(forks, place, "disks", SMALL, *OWN_NETWORK, *SETS, "training.epochs=4")


@pytest.fixture(scope="module")
def unharmed(subject: Subject, place: Path) -> tuple[dict[str, Any], float]:
    runs = place / "whole"
    began = time.monotonic()
    status, said = run_in(subject, runs)
    assert status in {0, 1}, said
    path = only_run(runs)
    assert path is not None
    return facts(path), time.monotonic() - began


def run_in(subject: Subject, runs: Path) -> tuple[int, str]:
    words = [word for one in subject.sets for word in ("--set", one)]
    return subject.forks.host("run", subject.spec, "--runs-dir", runs, "--executor", "forked", *words)


def fill(path: Path) -> None:
    """Write until nothing more fits."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(_FREE_BYTES))


def harmed_at(moment: float, harm: Any) -> threading.Timer:
    timer = threading.Timer(moment, harm)
    timer.start()
    return timer


def states_are_sound(path: Path) -> list[str]:
    """Say it where a state that has its name is not whole."""
    if not list((path / "checkpoints").glob("resume-*.ckpt")):
        return []
    found = find_continuation(path)
    return list(found.passed_over) if found else ["no state is sound"]


def judged(subject: Subject, runs: Path, status: int, said: str, *reasons: str) -> list[str]:
    found = [said] if "Traceback" in said else []
    if status == 0 or not any(reason in said for reason in reasons):
        found.append(f"it ended with {status} and said {said!r}")
    path = only_run(runs)
    if path is not None:
        with contextlib.suppress(FileNotFoundError):
            found += states_are_sound(path)
        found += listed(subject.forks, runs)
    return found


@needs_mount
def test_a_disk_that_fills_up_at_any_moment(
    subject: Subject, unharmed: tuple[dict[str, Any], float], tmp_path: Path, tally: Tally
) -> None:
    """A disk really full at random moments."""
    wanted, life = unharmed
    drawn = random.Random(1)
    points = 0
    while points < POINTS:
        moment = drawn.random() * life
        with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs") as disk:
            runs, filler = disk / "runs", disk / "filler"
            runs.mkdir()
            timer = harmed_at(moment, lambda file=filler: fill(file))
            status, said = run_in(subject, runs)
            timer.cancel()
            timer.join()
            path = only_run(runs)
            if path is not None and (path / "manifest.json").is_file() and _FULL not in said:
                life = min(life, moment)  # it was done before
                continue
            points += 1
            found = judged(subject, runs, status, said, _FULL)
            filler.unlink(missing_ok=True)
            if path is not None:
                found += [*problems_of(path), *end_of(subject, path, wanted)]
            tally.point(f"full after {moment:.2f} s", found)
    tally.close()


@needs_mount
@needs_loop
def test_a_disk_that_becomes_read_only_at_any_moment(
    subject: Subject, unharmed: tuple[dict[str, Any], float], tmp_path: Path, tally: Tally
) -> None:
    """A disk really read-only at random moments."""
    wanted, life = unharmed
    drawn = random.Random(2)
    points = 0
    image = tmp_path / "image"
    while points < POINTS:
        moment = drawn.random() * life
        with image.open("wb") as file:
            file.truncate(128 * 2**20)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
        how = ("-o", "loop,errors=remount-ro", image)
        with mounted(tmp_path / "disk", *how) as disk:
            runs = disk / "runs"
            runs.mkdir()
            device = device_of(disk)
            trigger = Path(f"/sys/fs/ext4/{device}/trigger_fs_error")
            timer = harmed_at(moment, lambda file=trigger: file.write_text("a proof"))
            status, said = run_in(subject, runs)
            timer.cancel()
            timer.join()
            is_lost = any(reason in said for reason in _LOST)
            path = only_run(runs)
            if not is_lost and path is not None and (path / "manifest.json").is_file():
                life = min(life, moment)
                continue
            points += 1
            found = judged(subject, runs, status, said, *_LOST)
        with mounted(tmp_path / "disk", *how) as disk:
            path = only_run(disk / "runs")
            if path is not None:
                try:
                    found += [*problems_of(path), *end_of(subject, path, wanted)]
                except DamagedError as error:
                    found.append(str(error))
        tally.point(f"read-only after {moment:.2f} s", found)
    tally.close()
