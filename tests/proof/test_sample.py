"""A sample of the proofs, for every change: a few kills, and a few faults of the disk on both sides."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.proof.conftest import Tally
from tests.proof.forked import UNHARMED, Death, Forks, Subject, differing, facts
from tests.proof.specs import SMALL, SMALL_STEPS
from tests.proof.test_disk_faults import SETS, host_faults, worker_faults
from tests.proof.test_kills import OPTIONS, subject_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def faulty(forks: Forks, place: Path) -> Subject:
    return subject_of(forks, place, "sample", SMALL, *SETS)


def test_a_kill_inside_steps_before_in_and_after_an_uneven_window(
    forks: Forks, tmp_path: Path, tally: Tally
) -> None:
    """SIGKILL inside a step: a sample."""
    subject = subject_of(forks, tmp_path, "kills", SMALL)
    unharmed = subject.run(UNHARMED, "checkpoints.every_steps=null")
    assert unharmed.manifest.metrics["steps"] == SMALL_STEPS
    wanted = facts(unharmed.path)
    for deaths in ((3,), (4,), (5,), (SMALL_STEPS,), (6, 2)):
        finished = subject.die_and_end([Death(step=step) for step in deaths])
        assert len(finished.manifest.attempts) == 1 + len(deaths)
        tally.point(f"steps {deaths}", differing(facts(finished.path), wanted))
        shutil.rmtree(finished.path)
    tally.close()


def test_a_kill_in_an_epoch_at_whose_end_the_plateau_scheduler_lowers_the_rate(
    forks: Forks, tmp_path: Path, tally: Tally
) -> None:
    """SIGKILL before a rate is lowered: a sample."""
    subject, sets = subject_of(forks, tmp_path, "plateau", SMALL), OPTIONS["ReduceLROnPlateau"]
    unharmed = subject.run(UNHARMED, *sets)
    losses = [float(line.split(",")[-1]) for line in (unharmed.path / "metrics.csv").read_text().split()[1:]]
    assert losses[2] > losses[1], "the last epoch is worse than the one before, so the rate is lowered"
    finished = subject.die_and_end([Death(step=SMALL_STEPS - 3)], *sets)
    tally.point("the last epoch's first step", differing(facts(finished.path), facts(unharmed.path)))
    tally.close()


@pytest.mark.parametrize("action", ["enospc", "kill"])
def test_a_fault_of_the_disk_under_worker_and_host(
    faulty: Subject, tmp_path: Path, tally: Tally, action: str
) -> None:
    """Fault of the disk: a sample."""
    wanted = facts(faulty.run().path)
    worker_faults(faulty, wanted, tmp_path, tally, action, lambda calls: range(3, calls, 31))
    host_faults(faulty, wanted, tmp_path, tally, action, lambda calls: range(7, calls, 19))
    tally.close()
