"""What is told to the engine about containers that are stopped or left over, to a stand-in for the engine."""

from __future__ import annotations

import queue
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from docker.errors import APIError, ImageNotFound

from harness.executors.base import Ending
from harness.executors.engine_watch import Watch
from harness.executors.sweep import sweep
from harness.image_files import image_entries
from harness.images import MissingImageError, identify
from harness.labels import HOST_LABEL, Host
from harness.site import repository

ROOT = Path(__file__).parents[2]
NOBODY = 4194305  # above the largest process id that Linux can have
OLD_S = 3600.0


class Engine:
    """Client, API and containers in one: remembers what it is told; what it kills is gone at once."""

    def __init__(self, *containers: dict[str, Any], pid: int = 0) -> None:
        self.api = self.containers = self.images = self
        self.held, self.pid = containers, pid
        self.removed: list[str] = []
        self.killed: list[int] = []
        self.labels: dict[str, str] = {}
        self.told: queue.Queue[dict[str, Any]] = queue.Queue()

    def __call__(self, **_: Any) -> list[dict[str, Any]]:
        return list(self.held)

    def remove_container(self, container: str, **_: Any) -> None:
        self.removed.append(container)

    def events(self, **_: Any) -> Iterator[dict[str, Any]]:
        while True:
            yield self.told.get(timeout=30)

    def start(self, container: str) -> None:
        pass

    def inspect_container(self, container: str) -> dict[str, Any]:
        return {"State": {"Pid": self.pid}}

    def kill(self, container: str, number: int) -> None:
        self.killed.append(number)
        self.told.put({"Action": "die", "Actor": {"Attributes": {"exitCode": str(128 + number)}}})
        self.told.put({"Action": "destroy"})

    def create(self, image: str, labels: dict[str, str], **_: Any) -> Engine:
        self.labels = labels
        return self

    def export(self) -> list[bytes]:
        return [bytes(10240)]

    def remove(self, **_: Any) -> None:
        self.removed.append("unstarted")


class Stops:
    """A supervision that is asked to stop so often."""

    lock_fd = -1

    def __init__(self, often: int) -> None:
        self.often = often

    def stops_asked(self) -> int:
        return self.often

    def tick(self) -> None:
        pass


def container(name: str, host: str, age_s: float) -> dict[str, Any]:
    return {"Id": name, "Labels": {HOST_LABEL: host}, "Created": int(time.time() - age_s)}


def test_what_a_dead_host_left_is_swept_away_at_once_and_where_none_is_seen_what_is_old() -> None:
    me = Host.myself()
    dead, unseen = replace(me, pid=NOBODY), replace(me, namespace="pid:[1]")
    engine = Engine(
        container("left behind", str(dead), 0.0),
        container("of another namespace, young", str(unseen), 60.0),
        container("of another namespace, old", str(unseen), OLD_S),
        container("of another boot, old", str(replace(me, boot="another")), OLD_S),
        container("of a host without /proc, young", str(Host("", "", me.pid, "")), 60.0),
        container("of another version, old", "12", OLD_S),
        container("mine, young", str(me), 0.0),
        container("mine, old", str(me), OLD_S),
    )
    sweep(engine)
    assert engine.removed == [
        "left behind",
        *("of another namespace, old", "of another boot, old", "of another version, old"),
    ]


def test_one_that_cannot_be_swept_away_keeps_none_from_it() -> None:
    class Busy(Engine):
        def remove_container(self, container: str, **_: Any) -> None:
            if container == "first":
                raise APIError("removal of container first is already in progress")
            super().remove_container(container)

    dead = str(replace(Host.myself(), pid=NOBODY))
    engine = Busy(container("first", dead, 0.0), container("second", dead, 0.0))
    sweep(engine)
    assert engine.removed == ["second"]


def test_a_container_that_is_only_read_carries_the_label_that_is_swept_by() -> None:
    engine = Engine()
    assert image_entries(engine, "sha256:1") == {}
    assert Host.parse(engine.labels[HOST_LABEL]) == Host.myself()
    assert engine.removed == ["unstarted"]


def test_a_stop_that_this_user_may_not_send_goes_through_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(signal, "pidfd_send_signal", refused)
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        # Every line of /proc/PID/cgroup has a colon, so that this one names the container's process.
        engine = Engine(pid=process.pid)
        watch = Watch(engine, ":")
        with watch.started():
            ending = watch.follow(Stops(1))
        process.kill()
    assert engine.killed == [signal.SIGTERM]
    assert ending == Ending(128 + signal.SIGTERM)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_events_that_cannot_be_read_are_those_of_an_engine_that_is_gone() -> None:
    class Babbling(Engine):
        def events(self, **_: Any) -> Iterator[dict[str, Any]]:
            raise KeyError("of a version that nobody has seen")

    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        watch = Watch(Babbling(pid=process.pid), ":")
        with watch.started():
            ending = watch.follow(Stops(0))
    for thread in threading.enumerate():
        if "_listen" in thread.name:
            thread.join()  # its complaint is this test's, and no other's
    assert ending == Ending(-signal.SIGTERM, "the container engine went away while the run was going on")


def test_an_engine_that_never_tells_of_an_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.executors.engine_watch._SILENCE_SECONDS", 0.2)
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        engine = Engine(pid=process.pid)
        watch = Watch(engine, ":")
        with watch.started():
            process.kill()
            ending = watch.follow(Stops(0))
    engine.told.put({"Action": "destroy"})
    assert ending == Ending(-signal.SIGTERM, "the container engine went away while the run was going on")


def test_a_name_that_is_none_is_answered_like_one_of_no_image_and_a_tag_is_no_target() -> None:
    class Picky(Engine):
        def get(self, reference: str) -> Any:
            answer = requests.Response()
            answer.status_code = 400 if " " in reference else 404
            kind = APIError if " " in reference else ImageNotFound
            raise kind("refused", answer, "invalid reference format")

    engine = Picky()
    for reference, sentence in (
        ("a b", r"^'a b' names no image \(invalid reference format\): write a tag, an id"),
        ("ptychopinn-harness:latest", "build one and name that: harness image build$"),
        (f"{repository(ROOT)}:test", "build it: harness image build --target test$"),
    ):
        with pytest.raises(MissingImageError, match=sentence):
            identify(engine, reference)
