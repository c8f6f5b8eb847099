"""What `docker/base.sh` says where it cannot begin: each time one sentence, with what to install."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.container.compose_kit import ROOT
from tests.processes import may_mount

pytestmark = pytest.mark.container
BASE = str(ROOT / "docker" / "base.sh")


def sentence_of(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    (sentence,) = done.stderr.splitlines()
    assert sentence.endswith("apt-get install docker.io mmdebstrap debian-archive-keyring")
    return sentence


@pytest.mark.skipif(not may_mount(), reason="hiding a folder needs the right to administer the system")
def test_without_the_keys_of_debian_it_names_their_package(tmp_path: Path) -> None:
    for name in ("docker", "mmdebstrap"):  # it looks for them, and comes no further
        (tmp_path / name).symlink_to(shutil.which("false") or "")
    hidden = f"mount -t tmpfs none /usr/share/keyrings && exec '{BASE}'"
    path = f"{tmp_path}:{os.environ['PATH']}"
    said = sentence_of("unshare", "--mount", "sh", "-c", hidden, PATH=path)
    assert "missing: debian-archive-keyring." in said


def test_without_its_tools_it_names_them(tmp_path: Path) -> None:
    for name in ("sh", "dirname", "sha256sum", "cut", "ls"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    assert "missing: docker mmdebstrap" in sentence_of(BASE, PATH=str(tmp_path))
