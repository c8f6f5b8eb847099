"""The installer behind `make`: what it says when it cannot begin, and that it begins nothing then."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
INSTALLER = ROOT / "tools" / "install.sh"
LOCK = ROOT / "docker" / "requirements-cpu.lock"
NEEDED_TO_START = ("awk", "basename", "cat", "cmp", "dirname", "grep", "mkdir", "mktemp", "rm", "sed", "sh")


def install(venv: Path, lock: Path = LOCK, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(INSTALLER), str(venv), str(lock)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def bare_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a PATH with what the installer itself is made of, and neither git nor make."""
    programs = tmp_path_factory.mktemp("bin")
    for name in NEEDED_TO_START:
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    return str(programs)


def test_missing_programs_are_named_in_one_line_with_the_command_that_installs_them(
    tmp_path: Path, bare_path: str
) -> None:
    done = install(tmp_path / "venv", PATH=bare_path, PYTHON="no-such-python")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    for name in ("git", "make", "python3-venv", "apt-get install"):
        assert name in done.stderr
    assert not (tmp_path / "venv").exists()


def test_a_folder_that_is_no_environment_is_left_alone_whatever_is_missing(
    tmp_path: Path, bare_path: str
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    done = install(tmp_path, PATH=bare_path)
    assert done.returncode == 2
    assert "is no Python environment" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_absent_lock_is_named(tmp_path: Path) -> None:
    done = install(tmp_path / "venv", tmp_path / "absent.lock")
    assert done.returncode == 2
    assert "absent.lock" in done.stderr


class SlowIndex(BaseHTTPRequestHandler):
    """An index without packages whose first page takes longer than a short time-out."""

    has_answered = threading.Event()

    def do_GET(self) -> None:
        if not self.has_answered.is_set():
            time.sleep(6)
        self.has_answered.set()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<html></html>")


@pytest.fixture
def slow_index() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), SlowIndex) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
def test_an_index_that_answers_slowly_is_the_one_that_torch_is_taken_from(
    tmp_path: Path, slow_index: str
) -> None:
    (tmp_path / "wheels").mkdir()
    done = install(
        tmp_path / "venv",
        TORCH_CPU_INDEX=slow_index,
        WHEELS=str(tmp_path / "wheels"),
        PIP_CONFIG_FILE=os.devnull,
        PIP_FIND_LINKS="",
        PIP_INDEX_URL=slow_index,
        no_proxy="127.0.0.1",
    )
    assert "2/4 torch: the CPU build from PyTorch's index" in done.stderr
    assert "No matching distribution found for torch" in done.stderr


@pytest.mark.parametrize("lock", ["cpu", "dev"])
def test_every_lock_has_torch_for_linux_on_both_architectures_and_for_macos(lock: str) -> None:
    text = (ROOT / "docker" / f"requirements-{lock}.lock").read_text(encoding="utf-8")
    block = "".join(
        line
        for line in (ROOT / "docker" / "torch-cpu.txt").read_text(encoding="utf-8").splitlines(keepends=True)
        if not line.startswith("#")
    )
    assert block in text
    assert block.count("--hash=") == 11
