"""Whether a host still lives is told from its label, of real processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.labels import Host
from tests.waiting import until

SAYS_WHO_IT_IS = "from harness.labels import Host; print(Host.myself(), flush=True); input()"


@pytest.fixture
def other() -> Iterator[tuple[subprocess.Popen[str], Host]]:
    with subprocess.Popen(
        [sys.executable, "-c", SAYS_WHO_IT_IS],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process, Host.parse(process.stdout.readline().strip())
        process.kill()


def test_a_host_lives_until_it_is_killed(other: tuple[subprocess.Popen[str], Host]) -> None:
    process, host = other
    assert host.pid == process.pid
    assert host.has_died() is False
    process.kill()
    process.wait()
    assert host.has_died() is True


def test_a_killed_host_whose_parent_takes_no_notice_has_died(
    other: tuple[subprocess.Popen[str], Host],
) -> None:
    process, host = other
    process.kill()
    until(host.has_died)
    assert Path(f"/proc/{host.pid}/stat").exists()


def test_another_process_of_the_same_id_is_not_the_host() -> None:
    assert replace(Host.myself(), start="1").has_died() is True


def test_a_process_of_the_system_lives_whoever_asks() -> None:
    stat = Path("/proc/1/stat").read_text(encoding="utf-8")
    start = stat.rpartition(")")[2].split()[19]
    assert replace(Host.myself(), pid=1, start=start).has_died() is False


@pytest.mark.parametrize("changes", [{"boot": ""}, {"boot": "another"}, {"namespace": "pid:[1]"}])
def test_of_a_host_that_cannot_be_seen_nothing_is_said(changes: dict[str, str]) -> None:
    assert replace(Host.myself(), **changes).has_died() is None


@pytest.mark.parametrize("label", ["", "1234", "a b c d", "a b c d e"])
def test_a_label_in_other_words_names_a_host_that_nobody_sees(label: str) -> None:
    assert Host.parse(label).has_died() is None


def test_a_label_is_read_as_it_was_written() -> None:
    assert Host.parse(str(Host.myself())) == Host.myself()
