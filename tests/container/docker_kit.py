"""Hosts that run specs with the Docker executor, as processes of their own, and what they leave."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker.client import DockerClient

from harness.executors.docker import DockerExecutor
from harness.images import connect
from harness.labels import RUN_LABEL
from tests.container.compose_kit import PASSING_LABEL
from tests.waiting import last_of, until

ROOT = Path(__file__).parents[2]

SPEC = """\
name: small
seed: 3
data:
  train:
    simulate:
      object: {size_px: 96}
      scan: {rows: 6, columns: 6}
  validation_fraction: 0.1
model: {gridsize: 1, n_filters_scale: 1, attention: false, probe_big: false}
training: {n_groups: 30, epochs: 1, batch_size: 8}
"""
ENDLESS = "training.epochs=100000"
DURABLE = ("checkpoints.every_steps=3", "checkpoints.budget_mb=50")
"""States from which a run continues, often enough to have one in a few seconds."""


@contextlib.contextmanager
def folder_of(uid: int) -> Iterator[Path]:
    """Make a folder that belongs to a user and lies where every user may go."""
    # Not in /tmp, which a container has for itself: there its own tmpfs would be written, and not the host.
    with tempfile.TemporaryDirectory(prefix="runs-of-", dir="/var/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "spec.yaml").write_text(SPEC)
        (folder / "home").mkdir()
        for path in (folder, folder / "home", folder / "spec.yaml"):
            os.chown(path, uid, uid)
        yield folder


def as_user(uid: int, *, may_use_the_engine: bool = True) -> dict[str, Any]:
    """Return what makes a child process another user, who may use the engine through its group."""
    if uid == os.getuid():
        return {}
    groups = [Path("/var/run/docker.sock").stat().st_gid] if may_use_the_engine else []
    return {"user": uid, "group": uid, "extra_groups": groups}


@functools.cache
def interpreter_for(uid: int) -> tuple[str, str]:
    """Find an interpreter that a user can start, and the import path that gives it our packages."""
    found = sysconfig.get_path("purelib")
    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    for python, path in ((sys.executable, str(ROOT)), (system, f"{ROOT}:{found}")):
        probe = [python, "-c", "import docker, pydantic"]
        with contextlib.suppress(PermissionError, FileNotFoundError):
            answer = subprocess.run(probe, env={"PYTHONPATH": path}, check=False, **as_user(uid))
            if answer.returncode == 0:
                return python, path
    pytest.skip(f"neither {sys.executable} nor {system} can be started by the user {uid}")


@functools.cache
def cache_of(uid: int) -> str:
    """Make a folder for what a user's runs keep from test to test; it ends with this process."""
    folder = tempfile.TemporaryDirectory(prefix="cache-of-", dir="/var/tmp", ignore_cleanup_errors=True)
    atexit.register(folder.cleanup)
    os.chown(folder.name, uid, uid)
    return folder.name


def surroundings(folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of a host: this one's, with home and cache of the folder's owner."""
    uid = folder.stat().st_uid
    return {
        **os.environ,
        "PYTHONPATH": interpreter_for(uid)[1],
        "HOME": str(folder / "home"),
        "HARNESS_CACHE": cache_of(uid),
        **more,
    }


def harness(
    folder: Path, *arguments: str, uid: int = 0, python: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    runs = () if arguments[0] == "plan" else ("--runs-dir", str(folder / "runs"))
    return subprocess.run(
        [python or interpreter_for(uid)[0], "-m", "harness", *arguments, *runs],
        env=surroundings(folder, **environment),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        **as_user(uid),
    )


def run_folder(folder: Path) -> Path:
    """Return the newest run."""
    return max((folder / "runs").iterdir(), key=lambda path: path.stat().st_ctime_ns)


def manifest(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "manifest.json").read_text())
    return content


def status_of(folder: Path, run: Path) -> str:
    listed = json.loads(harness(folder, "list", "--json").stdout)
    return str(next(one["status"] for one in listed if Path(one["path"]).name == run.name))


def containers_of(client: DockerClient, run: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.api.containers(all=True, filters={"label": f"{RUN_LABEL}={run}"})
    return found


@contextlib.contextmanager
def starting_host(
    folder: Path, *sets: str, executor: str = "docker", **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a host, which is killed at the end if it still runs."""
    words = [word for one in sets for word in ("--set", one)]
    command = [sys.executable, "-m", "harness", "run", "spec.yaml", "--executor", executor, *words]
    with (
        (folder / "host.log").open("wb") as log,
        subprocess.Popen(
            [*command, "--runs-dir", str(folder / "runs")],
            env=surroundings(folder, **environment),
            cwd=folder,
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def host(
    folder: Path, *sets: str, executor: str = "docker", **environment: str
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Start a host, and wait until its run has a folder."""
    before, log = set((folder / "runs").glob("*")), folder / "host.log"

    def is_there() -> bool:
        return bool(set((folder / "runs").glob("*")) - before)

    with starting_host(folder, *sets, executor=executor, **environment) as process:
        until(lambda: process.poll() is not None or is_there(), "a run folder", log)
        assert is_there(), f"the host ended with {process.poll()} and without a run: {last_of(log)}"
        yield process, run_folder(folder)


def until_it_trains(process: subprocess.Popen[bytes], run: Path, kept: str = "*.ckpt") -> None:
    """Wait until a training has kept a file of that name."""

    log = run.parents[1] / "host.log"

    def trains() -> bool:
        assert process.poll() is None, last_of(log)
        return any((run / "checkpoints").glob(kept))

    until(trains, "a checkpoint", log)


@contextlib.contextmanager
def relabelled(*labels: str) -> Iterator[str]:
    """Make an image that is this checkout's but for its labels, and remove it in the end."""
    client = connect()
    made = client.api.create_container_from_config({"Image": DockerExecutor().image_id()})
    image: str = client.api.commit(made["Id"], changes=f"LABEL {PASSING_LABEL}=1 {' '.join(labels)}")["Id"]
    client.api.remove_container(made["Id"])
    try:
        yield image
    finally:
        client.api.remove_image(image, force=True)
