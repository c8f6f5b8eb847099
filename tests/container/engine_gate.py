"""Between a host and the engine: lets all pass but one request, at which the host is then held for good."""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Gate", "Moment", "closing_gate"]

_ENGINE = "/var/run/docker.sock"
_AT_MOST = 65536


@dataclass(frozen=True)
class Moment:
    """A moment between two steps of a host and the engine.

    Parameters
    ----------
    request
        Pattern of the request that the host makes at that moment.
    is_carried_out
        Whether the engine gets it, and only the answer is kept from the host.
    """

    request: str
    is_carried_out: bool


@dataclass(frozen=True)
class Gate:
    """The address under which a host finds the engine, and whether the moment has come."""

    address: str
    has_closed: threading.Event


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 16
    moment: Moment
    has_closed: threading.Event


class _Relay(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        self.is_kept_back = False
        with socket.socket(socket.AF_UNIX) as engine, contextlib.suppress(OSError):
            engine.connect(_ENGINE)
            back = threading.Thread(target=self._answers, args=(engine,), daemon=True)
            back.start()
            # A client waits for the answer before it asks again, so that a request begins what is received.
            while asked := self.request.recv(_AT_MOST):
                if re.match(self.server.moment.request.encode(), asked):
                    self.is_kept_back = True
                    if not self.server.moment.is_carried_out:
                        self.server.has_closed.set()
                if not self.is_kept_back or self.server.moment.is_carried_out:
                    engine.sendall(asked)
            engine.shutdown(socket.SHUT_RDWR)
            back.join()

    def _answers(self, engine: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while answer := engine.recv(_AT_MOST):
                if self.is_kept_back:
                    self.server.has_closed.set()
                else:
                    self.request.sendall(answer)


@contextlib.contextmanager
def closing_gate(folder: Path, moment: Moment) -> Iterator[Gate]:
    """Open a way to the engine that closes at a moment.

    Parameters
    ----------
    folder
        Where its socket is made.
    moment
        When it closes.
    """
    path = folder / "gate.sock"
    with _Server(str(path), _Relay) as server:
        server.moment, server.has_closed = moment, threading.Event()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Gate(f"unix://{path}", server.has_closed)
        server.shutdown()
