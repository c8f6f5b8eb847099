"""What is told to the engine about containers that are stopped or left over, to a stand-in for the engine."""

from __future__ import annotations

import queue
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from docker.errors import APIError

from harness.executors.base import Ending
from harness.executors.engine_watch import Watch
from harness.executors.sweep import sweep
from harness.image_files import image_entries
from harness.labels import HOST_LABEL, Host

NOBODY = 4194305  # above the largest process id that Linux can have
OLD_S = 3600.0


class Engine:
    """Client, API and containers in one: remembers what it is told; what it kills is gone at once."""

    def __init__(self, *containers: dict[str, Any], pid: int = 0) -> None:
        self.api = self.containers = self
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


class OneStop:
    """A supervision that is asked to stop once."""

    lock_fd = -1

    def stops_asked(self) -> int:
        return 1

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
            ending = watch.follow(OneStop())
        process.kill()
    assert engine.killed == [signal.SIGTERM]
    assert ending == Ending(128 + signal.SIGTERM)
