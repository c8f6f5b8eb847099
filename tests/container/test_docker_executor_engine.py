"""An engine that goes away in mid-run: one of the test's own, never the one that others use."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker.client import DockerClient
from docker.errors import NotFound

from harness.images import connect
from harness.site import repository
from harness.store import is_held
from tests.container.compose_kit import ROOT
from tests.container.docker_kit import (
    ENDLESS,
    as_user,
    containers_of,
    folder_of,
    harness,
    host,
    interpreter_for,
    manifest,
    surroundings,
    until_it_trains,
)
from tests.processes import is_running, worker_of
from tests.waiting import PATIENCE_S, last_of, until

pytestmark = pytest.mark.container


STARTS = 5
"""How often an engine may end before it answers; one that lacks what it needs ends every time."""


class Engine:
    """A Docker engine in a folder of its own, without a network."""

    def __init__(self, folder: Path) -> None:
        self.address = f"unix://{folder}/docker.sock"
        self._folder = folder
        self.log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> DockerClient:
        """Start it unless it runs, and again when it ends before it answers, as an init system does."""
        for _ in range(STARTS):
            if self._begins():
                return DockerClient(base_url=self.address, timeout=600)
        raise AssertionError(f"the engine ended {STARTS} times before it answered:\n{last_of(self.log)}")

    def _begins(self) -> bool:
        process = self._process = self._process or self._launch()
        until(lambda: process.poll() is not None or self._answers(), "the engine's answer", self.log)
        if process.poll() is not None:
            self._process = None
        return self._process is not None

    def _launch(self) -> subprocess.Popen[bytes]:
        self._forget_the_last()
        places = {"--data-root": "data", "--exec-root": "exec", "--pidfile": "pid"}
        # In a network of its own: an engine with no bridge removes docker0, and with it the other engine's.
        command = ["unshare", "--net", "dockerd", "--host", self.address, "--bridge=none", "--iptables=false"]
        command += [word for option, name in places.items() for word in (option, str(self._folder / name))]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def _forget_the_last(self) -> None:
        """Remove what an engine that was killed wrote of itself and of its containerd, which dies with it.

        Docker 20.10 takes a process that has died and that init has not yet waited for, or another one that
        has got its number, for a containerd that still runs: it waits 15 s for it, and ends.
        """
        (self._folder / "pid").unlink(missing_ok=True)
        file = self._folder / "exec" / "containerd" / "containerd.pid"
        if file.exists():
            last = int(file.read_text())
            until(lambda: not is_running(last, "containerd"), "the end of the last containerd", self.log)
            file.unlink()

    def _answers(self) -> bool:
        # That it listens says nothing: it does so before it looks whether it can start.
        with socket.socket(socket.AF_UNIX) as door, contextlib.suppress(OSError):
            door.settimeout(5)
            door.connect(self.address.removeprefix("unix://"))
            door.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 OK" in door.recv(64)
        return False

    def stop(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(PATIENCE_S)
            self._process = None

    def clear(self) -> None:
        """Stop, and let go of what an engine that was killed keeps mounted."""
        self.stop(signal.SIGTERM)
        subprocess.run(["umount", "--lazy", str(self._folder / "data")], capture_output=True, check=False)


@pytest.fixture(scope="module")
def own_engine(cpu_image: str) -> Iterator[Engine]:
    if shutil.which("dockerd") is None:
        pytest.skip("there is no dockerd to start a second engine with")
    with tempfile.TemporaryDirectory(prefix="engine-", ignore_cleanup_errors=True) as name:
        engine = Engine(Path(name))
        try:
            client = engine.start()
            # The content of an image is its identity, so it has the same id there.
            (loaded,) = client.images.load(connect(timeout_s=600).images.get(cpu_image).save())
            assert loaded.id == cpu_image
            loaded.tag(repository(ROOT), "cpu")
            yield engine
        finally:
            engine.clear()


def is_any_left(client: DockerClient, run: Path) -> bool:
    """Tell whether there is a container of the run.

    Docker 20.10 may go on listing one that it has removed while it started; asked for it, it knows of none.
    """
    for listed in containers_of(client, run):
        with contextlib.suppress(NotFound):
            client.api.inspect_container(listed["Id"])
            return True
    return False


@pytest.mark.parametrize("time", range(2))
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_whose_engine_goes_away_ends_in_a_checkpoint(
    own_engine: Engine, number: signal.Signals, time: int
) -> None:
    own_engine.start()  # whatever the test before has come to
    with folder_of(0) as folder:
        with host(folder, ENDLESS, DOCKER_HOST=own_engine.address) as (process, run):
            until_it_trains(process, run)
            own_engine.stop(number)
            assert process.wait(PATIENCE_S) == 143
        record = manifest(run)
        assert record["status"] == "interrupted"
        assert record["error"].startswith("stopped on request")
        if number == signal.SIGKILL:
            assert record["error"].endswith("the container engine went away while the run was going on")
        assert (run / "checkpoints" / "last.ckpt").is_file()
        assert worker_of(run) is None
        assert not is_held(run)
        assert harness(folder, "show", run.name).returncode == 0
        client = own_engine.start()
        until(lambda: not is_any_left(client, run), "the container's removal", own_engine.log)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody without rights")
def test_a_user_without_the_right_to_use_the_engine_is_told_how_to_get_it() -> None:
    with folder_of(1000) as folder:
        refused = subprocess.run(
            [interpreter_for(1000)[0], "-m", "harness", "run", "spec.yaml", "--executor", "docker"],
            env=surroundings(folder),
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            **as_user(1000, may_use_the_engine=False),
        )
        assert refused.returncode == 2
        assert "this user may not use the Docker engine" in refused.stderr
        assert "usermod -aG docker" in refused.stderr
        assert refused.stderr.count("\n") == 1
        assert not (folder / "runs").exists()


def test_an_engine_that_is_absent_stopped_or_elsewhere_is_named_with_the_cure() -> None:
    with folder_of(0) as folder:
        socket_file = folder / "docker.sock"
        engine = f"unix://{socket_file}"
        for sentence, cure in (
            ("does not exist", "apt-get install docker.io"),
            ("no Docker engine listens", "systemctl start"),
        ):
            refused = harness(folder, "run", "spec.yaml", "--executor", "docker", DOCKER_HOST=engine)
            assert refused.returncode == 2
            assert sentence in refused.stderr
            assert cure in refused.stderr
            assert refused.stderr.count("\n") == 1
            if not socket_file.exists():
                with socket.socket(socket.AF_UNIX) as nobody_listens:
                    nobody_listens.bind(str(socket_file))
        denied = harness(
            folder, "run", "spec.yaml", "--executor", "docker", uid=0, DOCKER_HOST="tcp://192.0.2.1:2375"
        )
        assert denied.returncode == 2
        assert "another machine" in denied.stderr
        assert not (folder / "runs").exists()
