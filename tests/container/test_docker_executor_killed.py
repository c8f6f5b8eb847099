"""A host that is killed between two words with the engine: what the next one finds, and that it tidies up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.images import BUILD_ID_LABEL, connect
from harness.labels import HOST_LABEL, Host
from harness.store import is_held
from tests.container.docker_kit import (
    ENDLESS,
    folder_of,
    harness,
    relabelled,
    run_folder,
    starting_host,
    status_of,
)
from tests.container.engine_gate import Moment, closing_gate
from tests.processes import worker_of
from tests.waiting import until

pytestmark = [pytest.mark.container, pytest.mark.usefixtures("cpu_image")]

CREATION, START = r"POST \S+/containers/create", r"POST \S+/containers/\w+/start "
MOMENTS = {
    "before its container is made": Moment(CREATION, is_carried_out=False),
    "before it is told which was made": Moment(CREATION, is_carried_out=True),
    "before its container is started": Moment(START, is_carried_out=False),
    "before it is told of the start": Moment(START, is_carried_out=True),
}
STATES = dict(zip(MOMENTS, ([], ["created"], ["created"], ["running"]), strict=True))
"""What there is of a run's container at that moment."""


@pytest.fixture
def folder() -> Iterator[Path]:
    with folder_of(0) as made:
        yield made


def left_by(process: int) -> list[str]:
    """Return the state of every container that a process has made and that is still there."""
    held = connect().api.containers(all=True, filters={"label": HOST_LABEL})
    return [one["State"] for one in held if Host.parse(one["Labels"][HOST_LABEL]).pid == process]


def kill_a_host(
    folder: Path, moment: Moment, image: str = "cpu", **environment: str
) -> tuple[int, list[str]]:
    """Start a host, kill it at a moment, and return its process id and the states of its containers then."""
    sets = (ENDLESS, f"container.image='{image}'")
    with (
        closing_gate(folder, moment) as gate,
        starting_host(folder, *sets, DOCKER_HOST=gate.address, **environment) as process,
    ):
        until(lambda: gate.has_closed.is_set() or process.poll() is not None, "the moment")
        assert process.poll() is None, (folder / "host.log").read_text()
        states = left_by(process.pid)
        process.kill()
        process.wait()
    return process.pid, states


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_host_killed_while_it_starts_a_run_leaves_nothing_to_the_next(folder: Path, moment: str) -> None:
    # Compose writes no build id into a label: after a plan the record of such an image is known, too.
    with relabelled(f"{BUILD_ID_LABEL}=") as image:
        plan = ("plan", "spec.yaml", "--executor", "docker", "--set", f"container.image='{image}'")
        assert harness(folder, *plan).returncode == 0
        killed, states = kill_a_host(folder, MOMENTS[moment], image)
        run = run_folder(folder)
        assert states == STATES[moment]
        until(lambda: worker_of(run) is None, "the worker's end")
        assert harness(folder, *plan).returncode == 0
        until(lambda: left_by(killed) == [], "the container's removal")
    assert not is_held(run)
    assert status_of(folder, run) == "interrupted"


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_host_killed_while_it_asks_an_image_leaves_nothing_to_the_next(folder: Path, moment: str) -> None:
    killed, states = kill_a_host(folder, MOMENTS[moment], HARNESS_CACHE=str(folder / "cache"))
    assert len(states) == len(STATES[moment])
    assert not (folder / "runs").exists()
    until(lambda: "running" not in left_by(killed), "the end of what was asked")
    assert harness(folder, "plan", "spec.yaml", "--executor", "docker").returncode == 0
    until(lambda: left_by(killed) == [], "the container's removal")
