"""Runs whose workers are forked and die as ordered: from a spec to the facts that must be equal."""

from __future__ import annotations

import array
import contextlib
import dataclasses
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.code_capture import source_root
from harness.environment import Environment
from harness.executors.base import Ending, Supervision
from harness.executors.local import LocalExecutor
from harness.manifest import Manifest, damaged_files, read_manifest
from harness.plan import Plan, worker_environment
from harness.recorded import locate_data
from harness.resolve import resolve
from harness.resume import load_broken_off, resume
from harness.run import Finished, Job, run
from harness.spec import read_spec
from harness.store import LOG, MANIFEST, is_held, read_events
from tests.waiting import PATIENCE_S, until

ROOT = source_root()
_LOOK_SECONDS = 0.02
_PLACE = "PROOF_SOCKET"


@dataclass(frozen=True)
class Death:
    """How a worker is to die, or what is to fail it.

    Parameters
    ----------
    step
        Inside which optimizer step of its own it is killed; 0: in none.
    seconds
        After how many seconds of its life it is killed from outside.
    fault
        What the disk does: see ``disk_faults.c``; the folder's place is the run's folder.
    """

    step: int = 0
    seconds: float | None = None
    fault: str | None = None


UNHARMED = Death()


class Forks:
    """A server that forks hosts and workers."""

    def __init__(self, folder: Path) -> None:
        self.place = folder / "socket"
        self.shim = build_shim(folder)
        self._folder = folder
        flags = LocalExecutor().inventory().cpu_flags
        profile = "portable" if {"avx2", "fma"} <= flags else "strict"
        environment = worker_environment(profile, 1, os.environ, str(ROOT))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.proof.fork_server", str(self.place)],
            env={**environment, "LD_PRELOAD": str(self.shim)},
            stdin=subprocess.PIPE,
        )
        until(lambda: self.place.exists() or self._process.poll() is not None, "the fork server")
        assert self._process.poll() is None, "the fork server did not start"

    def host(self, *arguments: str | Path, fault: str | None = None) -> tuple[int, str]:
        """Run a command of the command line in a process of its own; give its exit status and its output."""
        said = self._folder / "said"
        request = {
            "is_host": True,
            "arguments": [*map(str, arguments)],
            "folder": str(self._folder),
            "environment": {**os.environ, _PLACE: str(self.place)},
            "step": 0,
            "fault": fault,
        }
        with said.open("wb") as output:
            status = fork(self.place, request, output.fileno(), output.fileno(), lambda child: None)
        return status, said.read_text()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)


def fork(place: Path, request: dict[str, Any], log: int, lock: int, look: Callable[[int], None]) -> int:
    """Have a process forked, look at it a few times a second, and return its exit status."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(place))
        socket.send_fds(client, [json.dumps(request).encode()], [log, lock])
        child = _number(client)
        client.settimeout(_LOOK_SECONDS)
        while True:
            with contextlib.suppress(TimeoutError):
                status = _number(client)
                break
            look(child)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return status


def _number(client: socket.socket) -> int:
    found = array.array("i", client.recv(4))
    assert len(found) == 1, "the fork server is gone"
    return found[0]


def build_shim(folder: Path) -> Path:
    """Compile the faults of a disk."""
    compiler = shutil.which("cc")
    assert compiler is not None, "the proofs need a C compiler: apt-get install gcc libc6-dev"
    shim = folder / "disk_faults.so"
    source = Path(__file__).with_name("disk_faults.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True)
    return shim


@functools.cache
def described() -> tuple[Environment, bytes | None]:
    """Describe this environment, once."""
    return LocalExecutor().environment()


class ForkExecutor(LocalExecutor):
    """Carries out a plan as the local executor does, with a worker that is forked instead of started."""

    def __init__(self, place: Path | None = None, death: Death = UNHARMED) -> None:
        super().__init__()
        self._place = place or Path(os.environ[_PLACE])
        self._death = death
        self.lived = 0.0

    def environment(self) -> tuple[Environment, bytes | None]:
        return described()

    def execute(self, plan: Plan, supervision: Supervision) -> Ending:
        fault = self._death.fault
        request = {
            "is_host": False,
            "arguments": [plan.run_dir],
            "folder": plan.run_dir,
            "environment": dict(plan.environment),
            "step": self._death.step,
            "fault": fault.format(run=plan.run_dir) if fault else None,
        }
        began = time.monotonic()

        def look(child: int) -> None:
            supervision.tick()
            allowed = self._death.seconds
            if allowed is not None and time.monotonic() - began >= allowed:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)

        with (Path(plan.run_dir) / LOG).open("ab") as output:
            status = fork(self._place, request, output.fileno(), supervision.lock_fd, look)
        self.lived = time.monotonic() - began
        return Ending(status)


@dataclass(frozen=True)
class Subject:
    """A spec that is attacked, where its runs go, and what an unharmed run of it gave."""

    forks: Forks
    spec: Path
    runs: Path
    sets: tuple[str, ...] = ()

    def job(self, *sets: str) -> Job:
        spec = read_spec(self.spec, (*self.sets, *sets))
        resolution = resolve(spec, LocalExecutor().inventory())
        return Job(resolution.run, spec.text, resolution.inputs)

    def run(self, death: Death = UNHARMED, *sets: str, max_restarts: int = 0) -> Finished:
        executor = ForkExecutor(self.forks.place, death)
        return run(self.job(*sets), executor, self.runs, root=ROOT, max_restarts=max_restarts)

    def resume(self, path: Path, death: Death = UNHARMED) -> Finished:
        wait_until_free(path)
        recorded = load_broken_off(path)
        return resume(
            recorded,
            ForkExecutor(self.forks.place, death),
            root=ROOT,
            found=locate_data(recorded, []),
            regardless=False,
            look=lambda path: None,
            warn=lambda sentence: None,
            max_restarts=0,
        )

    def die_and_end(self, deaths: Sequence[Death], *sets: str) -> Finished:
        """Let a run die as often as is ordered, resume it each time, and let it end."""
        finished = self.run(deaths[0], *sets)
        for death in (*deaths[1:], UNHARMED):
            if finished.manifest.status in ENDED:
                return finished
            finished = self.resume(finished.path, death)
        return finished


def wait_until_free(path: Path) -> None:
    """Wait until the last helper of a killed worker is gone."""
    until(lambda: not is_held(path), f"the lock of {path.name}")


ENDED = {"completed", "collapsed"}


def facts(path: Path) -> dict[str, Any]:
    """Return everything of a run that has ended which a death may not change."""
    manifest = read_manifest(path)
    return {
        "status": manifest.status,
        "compared": dict(manifest.compared),
        "checkpoints": [dataclasses.replace(one, sha256="") for one in manifest.checkpoints],
        "epochs": (path / "metrics.csv").read_text(),
        "trace": (path / "trace.jsonl").read_text(),
        "logs": {log.name: log.read_text() for log in sorted((path / "logs").rglob("*.csv"))}
        | {"tensorboard": events_of(path / "logs" / "tensorboard")},
        "files": sorted(name for name in manifest.files if "tfevents" not in name),
    }


def events_of(folder: Path) -> list[tuple[str, int, float]]:
    """Read TensorBoard's files in the order in which they were written."""
    if not folder.is_dir():
        return []
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    found = []
    for path in sorted(folder.iterdir()):
        for event in EventFileLoader(str(path)).Load():
            found += [(value.tag, event.step, value.tensor.float_val[:]) for value in event.summary.value]
    return [(tag, step, values[0] if values else 0.0) for tag, step, values in found]


def problems_of(path: Path) -> list[str]:
    """Say what of a run folder is not as a death must leave it: torn, missing, locked."""
    wait_until_free(path)
    return list(damaged_files(path, read_manifest(path))) if (path / MANIFEST).exists() else []


def differing(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Name the facts that differ."""
    return [name for name in wanted if found[name] != wanted[name]]


def continued_from(manifest: Manifest) -> list[int]:
    return [attempt.from_step for attempt in manifest.attempts]


def events_named(path: Path, name: str) -> list[dict[str, Any]]:
    return [event for event in read_events(path) if event["event"] == name]
