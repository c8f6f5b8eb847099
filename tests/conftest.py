"""What holds for every test: the same examples each time, and which tests are one process's."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling, Scheduling

# The examples are the same each time, so that slowness tells of the machine only.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")

ONE_PROCESS = PurePosixPath("tests/container/builds")
"""The folder whose tests must not run at one time."""

PROOFS = PurePosixPath("tests/proof")
WHOLE_PROOFS = {str(PROOFS / name) for name in ("test_planted_differences.py", "test_portable.py")}
"""Proofs whose tests share what takes long to prepare; of the others every test is spread alone."""


class _ByFileOrFolder(LoadFileScheduling):  # type: ignore[misc]
    """Gives the tests of a file to one process, those of `ONE_PROCESS` too, and proofs to whoever is free."""

    def _split_scope(self, nodeid: str) -> str:
        scope: str = super()._split_scope(nodeid)
        if PurePosixPath(scope).is_relative_to(ONE_PROCESS):
            return str(ONE_PROCESS)
        if PurePosixPath(scope).is_relative_to(PROOFS) and scope not in WHOLE_PROOFS:
            return nodeid
        return scope


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    """Spread files as `--dist loadfile` does, one folder as if it were a file.

    The groups of `--dist loadgroup` would say it, but xdist 3.8 writes them where pytest 9.2 does not look.
    """
    return _ByFileOrFolder(config, log) if config.getvalue("dist") == "loadfile" else None
