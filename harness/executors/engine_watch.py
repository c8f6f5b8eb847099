"""A container that runs: how it ends, and how it is reached when its engine no longer answers."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.executors.base import Ending, Supervision
from harness.images import engine_errors

if TYPE_CHECKING:
    from docker.client import DockerClient

__all__ = ["Watch"]

_LOOK_SECONDS = 0.1
_REMOVAL_SECONDS = 30.0
_SILENCE_SECONDS = 30.0
_GONE = "the container engine went away while the run was going on"


class Watch:
    """Follows one container from before its start to after its removal.

    Parameters
    ----------
    client
        The engine.
    container
        Id of the container, which has not started yet.
    """

    def __init__(self, client: DockerClient, container: str) -> None:
        self._client = client
        self._container = container
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._process: int | None = None
        self._exit_status: int | None = None
        self._is_out_of_memory = False
        threading.Thread(target=self._listen, args=(int(time.time()) - 1,), daemon=True).start()

    def _listen(self, since: int) -> None:
        wanted = {"container": self._container, "event": ["die", "oom", "destroy"]}
        try:
            # Asked from a moment that has passed, so that no event falls between request and answer.
            for event in self._client.events(since=since, filters=wanted, decode=True):
                self._events.put(event)
                if event["Action"] == "destroy":
                    break
        except engine_errors():
            pass  # The None says so.
        finally:
            self._events.put(None)

    @contextlib.contextmanager
    def started(self) -> Iterator[None]:
        """Start the container; whatever happens then, nothing of it is left."""
        try:
            self._client.api.start(self._container)
            self._process = self._open_process()
            yield
        finally:
            self._remove()
            if self._process is not None:
                os.close(self._process)

    def _open_process(self) -> int | None:
        # A handle on the container's first process reaches it without the engine, and never another process.
        with contextlib.suppress(*engine_errors()):
            pid = self._client.api.inspect_container(self._container)["State"]["Pid"]
            if pid and self._container in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8"):
                return os.pidfd_open(pid)
        return None

    def _remove(self) -> None:
        # The engine removes it by itself, and may be gone. What cannot be told to it now, it does then.
        with contextlib.suppress(*engine_errors()):
            self._client.api.remove_container(self._container, force=True)

    def follow(self, supervision: Supervision) -> Ending:
        """Wait for the end, and pass requests to stop on: the first asks, the second kills.

        An engine that says nothing of an end that is seen here is waited for only so long.
        """
        asked, ended = 0, None
        while True:
            with contextlib.suppress(queue.Empty):
                event = self._events.get(timeout=_LOOK_SECONDS)
                if event is None:
                    return self._without_engine(supervision)
                self._note(event)
                if self._exit_status is not None:
                    return self._ended(asked)
            if ended is None and self._has_ended(0):
                ended = time.monotonic()
            if ended is not None and time.monotonic() - ended > _SILENCE_SECONDS:
                return self._without_engine(supervision)
            supervision.tick()
            now = supervision.stops_asked()
            if now > asked:
                self._signal(signal.SIGKILL if now > 1 else signal.SIGTERM)
                asked = now

    def _note(self, event: dict[str, Any]) -> None:
        if event["Action"] == "oom":
            self._is_out_of_memory = True
        elif event["Action"] == "die":
            self._exit_status = int(event["Actor"]["Attributes"]["exitCode"])

    def _ended(self, asked: int) -> Ending:
        end = time.monotonic() + _REMOVAL_SECONDS
        # Until the engine has let go of the run folder; that memory was short may be said late, too.
        while (left := end - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                event = self._events.get(timeout=left)
                if event is None:
                    break
                self._note(event)
        status = self._exit_status or 0
        if self._is_out_of_memory and status != 0:
            return Ending(status, "it wanted more memory than container.memory allows: raise it")
        if status == 128 + signal.SIGKILL and asked < 2:
            return Ending(status, "its container was killed from outside")
        return Ending(status)

    def _has_ended(self, seconds: float) -> bool:
        return self._process is not None and bool(select.select([self._process], [], [], seconds)[0])

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            try:
                signal.pidfd_send_signal(self._process, number)
            except ProcessLookupError:
                return
            except PermissionError:
                pass  # It belongs to a user whom only the engine may signal.
            else:
                return
        with contextlib.suppress(*engine_errors()):
            self._client.api.kill(self._container, int(number))

    def _without_engine(self, supervision: Supervision) -> Ending:
        """Have the worker stop, and wait for it, although the engine says nothing any more."""
        if self._exit_status is not None:
            return Ending(self._exit_status, _GONE)
        if self._process is None:
            raise HarnessError(f"{_GONE} and cannot be followed: its worker stops by itself")
        self._signal(signal.SIGTERM)
        asked, last = supervision.stops_asked(), signal.SIGTERM
        while not self._has_ended(_LOOK_SECONDS):
            supervision.tick()
            if supervision.stops_asked() > asked:
                last = signal.SIGKILL
                self._signal(last)
        return Ending(-last, _GONE)
