"""A source tree in a real repository, a spec with its data, and an executor with a quick worker."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from harness.code_capture import PACKAGES, git, revision, source_root
from harness.environment import Environment
from harness.executors.base import Supervision
from harness.executors.local import LocalExecutor
from harness.plan import Plan
from harness.resolve import resolve
from harness.run import Finished, Job, run
from harness.spec import read_spec

STAND_IN = Path(__file__).with_name("stand_in_worker.py")
IDENTITY = ("-c", "user.name=A", "-c", "user.email=a@example.org")

SPEC = """\
name: small
data:
  train: {file: scan.npz}
training: {n_groups: 10, epochs: 2}
"""


_ENVIRONMENTS: dict[Path, tuple[Environment, bytes | None]] = {}


class StandInExecutor(LocalExecutor):
    """Starts a real process as the local executor does, with a worker that takes no time to train.

    The environment is described once for all tests of a source tree, unless the test changes it.
    """

    def __init__(
        self, root: Path, behaviour: str = "complete", *, is_environment_shared: bool = True
    ) -> None:
        super().__init__(sys.executable, root)
        self.behaviour = behaviour
        self.is_environment_shared = is_environment_shared

    def environment(self) -> tuple[Environment, bytes | None]:
        if self.is_environment_shared and self.root not in _ENVIRONMENTS:
            _ENVIRONMENTS[self.root] = super().environment()
        return _ENVIRONMENTS[self.root] if self.is_environment_shared else super().environment()

    def execute(self, plan: Plan, supervision: Supervision) -> int:
        argv = (self.python, str(STAND_IN), plan.run_dir, self.behaviour)
        return super().execute(replace(plan, argv=argv), supervision)


def broken_interpreter(folder: Path) -> Path:
    """Make a program that stands where an interpreter should, and does not work."""
    path = folder / "python"
    path.write_text("#!/bin/sh\necho out of order >&2\nexit 1\n")
    path.chmod(0o755)
    return path


@dataclass(frozen=True)
class Bench:
    """A place to run in: source tree, spec, data and run folders."""

    root: Path
    spec: Path
    runs: Path

    @property
    def data(self) -> Path:
        return self.spec.with_name("scan.npz")

    def job(self, *sets: str) -> Job:
        spec = read_spec(self.spec, sets)
        resolution = resolve(spec, self.executor().inventory())
        return Job(resolution.run, spec.text, resolution.inputs)

    def executor(self, behaviour: str = "complete") -> StandInExecutor:
        return StandInExecutor(self.root, behaviour)

    def run(self, behaviour: str = "complete", *sets: str) -> Finished:
        return run(self.job(*sets), self.executor(behaviour), self.runs, root=self.root)


def commit(root: Path, message: str = "change") -> str:
    git(root, "add", "--all")
    git(root, *IDENTITY, "commit", "--quiet", "--allow-empty", "-m", message)
    return git(root, "rev-parse", "HEAD").decode().strip()


def plant_tree(root: Path) -> Path:
    """Copy this project's packages into a repository of their own."""
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(source_root() / package, root / package, ignore=ignored)
    (root / "pyproject.toml").write_text("[project]\nname = 'copy'\n")
    (root / ".gitignore").write_text("__pycache__/\n")
    (root / "docker").mkdir()
    (root / "docker" / "requirements-cpu.lock").write_text("dummy==1.0 --hash=sha256:00\n")
    git(root, "init", "--quiet")
    commit(root)
    return root


def write_scan(path: Path, n_frames: int = 20, side: int = 64) -> Path:
    rng = np.random.default_rng(1)
    np.savez(
        path,
        diffraction=np.sqrt(rng.poisson(50.0, (n_frames, side, side))).astype(np.float32),
        xcoords=rng.uniform(40, 80, n_frames),
        ycoords=rng.uniform(40, 80, n_frames),
        probeGuess=rng.normal(size=(side, side)).astype(np.complex64),
    )
    return path


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The source tree that tests only read."""
    root = plant_tree(tmp_path_factory.mktemp("tree") / "clone")
    before = revision(root)
    yield root
    assert revision(root) == before, "a test changed the tree that others read: it needs one of its own"


@pytest.fixture
def own_tree(tmp_path: Path, planted: Path) -> Path:
    """A source tree that the test may change."""
    return Path(shutil.copytree(planted, tmp_path / "clone"))


def make_bench_in(folder: Path, root: Path) -> Bench:
    spec = folder / "spec.yaml"
    spec.write_text(SPEC)
    write_scan(folder / "scan.npz")
    return Bench(root, spec, folder / "runs")


@pytest.fixture
def make_bench(tmp_path: Path) -> Callable[[Path], Bench]:
    return partial(make_bench_in, tmp_path)


@pytest.fixture
def bench(make_bench: Callable[[Path], Bench], planted: Path) -> Bench:
    return make_bench(planted)


@pytest.fixture
def own_bench(make_bench: Callable[[Path], Bench], own_tree: Path) -> Bench:
    """A place to run in whose source tree the test may change."""
    return make_bench(own_tree)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address under which its files are served."""
    folder = tmp_path / "public"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
