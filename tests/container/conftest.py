"""What holds for tests with an engine: the checkout's own image, in CI no skips.

Several processes share these tests: those of the folder `builds` are one process's, and every other test
minds its own containers and folders.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Generator, Iterator

import pytest

from harness.errors import UserError
from harness.executors.docker import DockerExecutor
from tests.container.bait import Bait, lay_bait
from tests.container.compose_kit import NEEDS_GPU, NEEDS_NO_GPU, ROOT, need_engine


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failed one in CI, which has all that these tests need but for GPUs."""
    report = yield
    if os.environ.get("HARNESS_CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = str(call.excinfo.value) if call.excinfo else ""
        if NEEDS_GPU not in reason and NEEDS_NO_GPU not in reason:
            report.outcome = "failed"
            report.longrepr = f"skipped, and CI skips only what {NEEDS_GPU} or {NEEDS_NO_GPU}: {reason}"
    return report


@pytest.fixture(scope="session")
def cpu_image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the id of this checkout's image `cpu`, which is built when it is missing or of other sources."""
    need_engine()
    # One of the processes that share the tests builds it, and the others wait.
    with (tmp_path_factory.getbasetemp().parent / "cpu-image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return DockerExecutor().image_id()
        except UserError:
            command = [sys.executable, "-m", "harness", "image", "build"]
            built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            assert built.returncode == 0, built.stderr
        return DockerExecutor().image_id()


@pytest.fixture
def bait() -> Iterator[Bait]:
    """Return a file and a server of this machine that only a hermetic container cannot reach."""
    with lay_bait() as laid:
        yield laid
