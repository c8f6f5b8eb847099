"""A checkout of its own, and `docker-compose` in it, as a user types it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ENTRYPOINT = "/opt/ptychopinn/src/docker/entrypoint.sh"
NEEDS_GPU, NEEDS_NO_GPU = "needs a GPU", "needs a machine without a GPU"
"""Words in the only reasons for which a test may be skipped in CI, whatever machine that is."""


PASSING_LABEL = "ptychopinn-test.passing"
"""Label of an image without a name that a test elsewhere has made and removes by itself."""

_NAMELESS = ("--filter", "dangling=true")


def compose_command() -> list[str]:
    """Return the command of compose that this machine has, the plugin first."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return ["docker", "compose"] if plugin.returncode == 0 else ["docker-compose"]


def need_engine() -> None:
    """Skip where no engine answers."""
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "version"], capture_output=True, check=False).returncode != 0
    ):
        pytest.skip("no Docker engine answers here")


def _images(*options: str) -> set[str]:
    command = ["docker", "images", "--quiet", "--no-trunc", *options]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


@contextlib.contextmanager
def without_new_leftovers() -> Iterator[None]:
    """Remove the images without a name that were not there before, and no other."""
    before = _images("--all")
    try:
        yield
    finally:
        while new := _images(*_NAMELESS) - _images(*_NAMELESS, "--filter", f"label={PASSING_LABEL}") - before:
            removed = subprocess.run(["docker", "rmi", *new], capture_output=True, check=False)
            if removed.returncode != 0:  # somebody else builds on this engine, and uses one
                break


@dataclass(frozen=True)
class Checkout:
    """A copy of the working tree, with what the site set up."""

    path: Path
    image: str

    @classmethod
    def copy(cls, path: Path) -> Checkout:
        """Copy every file that git knows or would add, and ``.env``."""
        listed = subprocess.run(
            ["git", "-c", "safe.directory=*", "ls-files", "-zco", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name in {*filter(None, listed.split("\0")), ".env"}:
            if (ROOT / name).is_file():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, path / name)
        for folder in (path, *path.parents):  # a container's user looks for files below
            if folder.stat().st_uid == os.getuid() and folder != Path("/"):
                folder.chmod(folder.stat().st_mode | 0o055)
        return cls(path, f"ptychopinn-harness-test-{uuid.uuid4().hex[:8]}")

    @property
    def runs(self) -> Path:
        """The folder of its runs."""
        return self.path / "runs" / "_out"

    def compose(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run compose, without a terminal."""
        return subprocess.run(
            [*compose_command(), *arguments],
            cwd=self.path,
            env={**os.environ, "IMAGE": self.image, "COMPOSE": "", **settings},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def inside(self, program: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a shell program in a container of the service `train`."""
        return self.compose(
            "run", "--rm", "-T", "--entrypoint", ENTRYPOINT, "train", "sh", "-c", program, **settings
        )

    def remove_images(self) -> None:
        """Take the names that this checkout gave off its images; what has no other name goes."""
        listed = subprocess.run(
            ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}", self.image],
            capture_output=True,
            text=True,
            check=True,
        )
        subprocess.run(["docker", "rmi", *listed.stdout.split()], capture_output=True, check=False)

    def harness(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run this checkout's command line on the host."""
        return subprocess.run(
            [sys.executable, "-m", "harness", *arguments],
            cwd=self.path,
            env={**os.environ, "PYTHONPATH": str(self.path), **settings},
            capture_output=True,
            text=True,
            check=False,
        )


def golden_digests() -> set[str]:
    """Return what is committed for the tensors of runs/ci.yaml: one digest, whatever the lock."""
    kept = json.loads((ROOT / "runs" / "golden" / "ci.json").read_text(encoding="utf-8"))["goldens"]
    return {
        golden["facts"]["final_tensor_digest"]
        for key, golden in kept.items()
        if ", portable, 1 thread," in key
    }


def manifest_of(runs: Path, name: str = "ci-*") -> dict[str, Any]:
    """Read the manifest of the only run of that name."""
    (path,) = runs.glob(f"{name}/manifest.json")
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return manifest
