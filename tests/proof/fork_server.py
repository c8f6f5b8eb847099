"""Forks hosts and workers from a process that has torch loaded: ``python -m tests.proof.fork_server SOCKET``.

The whole of their own code runs in the child; only the seconds of importing are saved. Nothing is computed
before the fork and there is one thread, so a child is in the state of a fresh process.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import gc
import json
import os
import selectors
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import tests.proof.tiny_line  # noqa: F401  before all that reads the table

# isort: split
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

import harness.cli
import harness.resume
import harness.worker
import ptycho_torch.plotting  # noqa: F401  its imports, too, are paid once
from harness.executors import EXECUTORS
from harness.store import HOST_PID
from tests.proof.forked import ForkExecutor, described

__all__ = ["main"]


def _die_at(step: int) -> None:
    left = [step]

    def count(*_: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    register_optimizer_step_post_hook(count)


def _live(request: dict[str, Any], log: int) -> int:
    os.setsid()
    os.chdir(request["folder"])
    for place in (1, 2):
        os.dup2(log, place)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.environ.pop("LD_PRELOAD", None)
    if request["step"]:
        _die_at(request["step"])
    if request["fault"]:
        ctypes.CDLL(None).proof_arm(request["fault"].encode())
    if request["is_host"]:
        EXECUTORS._entries["forked"] = f"{ForkExecutor.__module__}:{ForkExecutor.__name__}"
        return harness.cli.main([*request["arguments"]])
    os.environ[HOST_PID] = str(os.getppid())  # this server has forked it, and stands for its host
    return harness.worker.main(request["arguments"])


def _child(request: dict[str, Any], log: int) -> None:
    status = 1
    try:
        status = _live(request, log)
    except BaseException:  # noqa: BLE001  the top of a process
        sys.excepthook(*sys.exc_info())  # as the interpreter would end
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(status)


def _fork(client: socket.socket, others: list[socket.socket]) -> tuple[int, int]:
    text, descriptors, _, _ = socket.recv_fds(client, 1 << 20, 2)
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        raise RuntimeError("the server has more than one thread: its children would not be as fresh ones")
    child = os.fork()
    if child == 0:
        for one in (client, *others):
            one.close()
        _child(json.loads(text), descriptors[0])
    for descriptor in descriptors:
        os.close(descriptor)
    client.sendall(array.array("i", [child]).tobytes())
    return child, os.pidfd_open(child)


def _bury(child: int, client: socket.socket) -> None:
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(OSError):
        client.sendall(array.array("i", [status]).tobytes())


def main(place: Path) -> None:
    """Serve until standard input, which the starter holds, is closed."""
    torch.set_num_threads(1)
    described()
    gc.freeze()
    server = socket.socket(socket.AF_UNIX)
    not_yet = place.with_suffix(".new")
    server.bind(str(not_yet))
    server.listen()
    not_yet.rename(place)  # who sees it finds somebody who listens
    events = selectors.DefaultSelector()
    events.register(server, selectors.EVENT_READ, "server")
    events.register(sys.stdin, selectors.EVENT_READ, "starter")
    while True:
        for key, _ in events.select():
            if events.get_map().get(key.fd) is not key:
                continue  # the end of a child has taken its host's place away in this very round
            if key.data == "starter":
                return
            if key.data == "server":
                client, _ = server.accept()
                others = [one.fileobj for one in events.get_map().values() if one.fileobj is not sys.stdin]
                sockets = [one for one in others if isinstance(one, socket.socket)]
                child, handle = _fork(client, sockets)
                events.register(handle, selectors.EVENT_READ, (child, client))
                events.register(client, selectors.EVENT_READ, handle)
            elif isinstance(key.data, tuple):
                child, client = key.data
                _bury(child, client)
                os.close(events.unregister(key.fileobj).fd)
                with contextlib.suppress(KeyError):
                    events.unregister(client)
                client.close()
            else:  # the host is gone: the kernel would tell a worker of its own
                events.unregister(key.fileobj)
                child = events.get_key(key.data).data[0]
                os.kill(child, signal.SIGTERM)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
