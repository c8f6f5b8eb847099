"""SIGKILL at random instants, checkpoint writes included: the clock decides, or a change of a file does."""

from __future__ import annotations

import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.proof.conftest import Tally
from tests.proof.forked import ENDED, UNHARMED, Death, Forks, Subject, differing, facts
from tests.proof.specs import OWN_NETWORK, SMALL
from tests.proof.test_kills import subject_of

pytestmark = pytest.mark.proof
CHUNK = 20
BY_THE_CLOCK, BY_THE_DISK = 7, 3
"""Chunks: 140 and 60 points."""

DISK_CALLS = "wsrtu"


@pytest.fixture(scope="module")
def small(forks: Forks, place: Path) -> tuple[Subject, dict[str, Any], float]:
    sets = ("products.reconstruction=true", "products.pictures=false", "checkpoints.every_steps=2")
    subject = subject_of(forks, place, "random", SMALL, *OWN_NETWORK, *sets)
    unharmed = subject.run()
    return subject, facts(unharmed.path), unharmed.manifest.attempts[0].seconds


@pytest.mark.parametrize("chunk", range(BY_THE_CLOCK))
def test_a_kill_at_a_random_moment(
    small: tuple[Subject, dict[str, Any], float], tally: Tally, chunk: int
) -> None:
    """SIGKILL at random moments, every fourth time twice."""
    subject, wanted, life = small
    drawn = random.Random(chunk)
    points = 0
    while points < CHUNK:
        moments = [drawn.random() * life for _ in range(2 if points % 4 == 0 else 1)]
        finished = subject.die_and_end([Death(seconds=moment) for moment in moments])
        if len(finished.manifest.attempts) == 1:  # it was done before the moment came
            life = min(life, finished.manifest.attempts[0].seconds)
        else:
            points += 1
            named = ", ".join(f"{moment:.3f} s" for moment in moments)
            tally.point(named, differing(facts(finished.path), wanted))
        shutil.rmtree(finished.path)
    tally.close()


@pytest.mark.parametrize("chunk", range(BY_THE_DISK))
def test_a_kill_at_a_random_change_of_a_checkpoint(
    small: tuple[Subject, dict[str, Any], float], tmp_path: Path, tally: Tally, chunk: int
) -> None:
    """SIGKILL at random writes, syncs, renames of checkpoints."""
    subject, wanted, _ = small
    report = tmp_path / "calls"
    noted = subject.run(Death(fault=f"{{run}}/checkpoints|{DISK_CALLS}|0|kill|{report}"))
    assert noted.manifest.status in ENDED
    calls = len(report.read_text().splitlines())
    shutil.rmtree(noted.path)
    for number in random.Random(100 + chunk).sample(range(1, calls + 1), CHUNK):
        death = Death(fault=f"{{run}}/checkpoints|{DISK_CALLS}|{number}|kill|{report}")
        finished = subject.die_and_end([death])
        lives = finished.manifest.attempts
        # Who dies over the tidying has ended: its outcome is there.
        assert len(lives) == 2 or [life.exit_status for life in lives] == [-signal.SIGKILL]
        tally.point(f"call {number} of {calls}", differing(facts(finished.path), wanted))
        shutil.rmtree(finished.path)
    tally.close()


def test_nothing_is_killed_when_nothing_is_ordered(small: tuple[Subject, dict[str, Any], float]) -> None:
    subject, wanted, _ = small
    finished = subject.run(UNHARMED, "checkpoints.every_seconds=0")
    assert len(finished.manifest.attempts) == 1
    assert differing(facts(finished.path), wanted) == []
