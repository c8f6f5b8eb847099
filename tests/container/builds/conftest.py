"""What holds for tests that build images: they are one process's, which also tidies up what builds leave.

A build that another process has not finished has images without a name too, and loses them to the tidying.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator

import pytest

from tests.container.compose_kit import Checkout, without_new_leftovers


@pytest.fixture(scope="session", autouse=True)
def only_builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail where another process builds at the same time: see `tests.conftest.ONE_PROCESS`."""
    with (tmp_path_factory.getbasetemp().parent / "builds.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


@pytest.fixture(scope="module")
def checkout(cpu_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Return a copy of the working tree; `cpu_image` is first, so the engine's cache outlives the copy."""
    with without_new_leftovers():
        made = Checkout.copy(tmp_path_factory.mktemp("checkout"))
        yield made
        made.remove_images()
