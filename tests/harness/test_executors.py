"""Every executor keeps the Protocol; the local one describes this machine."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.executors import EXECUTORS
from harness.executors.base import Executor
from harness.executors.local import LocalExecutor
from ptycho_torch.errors import ConfigError
from tests.harness.conftest import broken_interpreter


@pytest.mark.parametrize("name", sorted(EXECUTORS))
def test_every_executor_keeps_the_protocol_under_its_own_name(name: str) -> None:
    executor = EXECUTORS[name]()
    assert isinstance(executor, Executor)
    assert executor.name == name


def test_the_inventory_names_its_executor() -> None:
    assert LocalExecutor().inventory().executor == "local"


def test_an_unknown_executor_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'local'"):
        EXECUTORS["locale"]


def test_the_inventory_is_this_machines() -> None:
    inventory = LocalExecutor().inventory()
    assert inventory.machine == platform.machine()
    assert inventory.cores >= 1
    assert inventory.memory_bytes > 2**28
    assert "cpu" in inventory.accelerators
    assert ("cuda" in inventory.accelerators) == bool(inventory.gpu_names)


def test_the_environment_is_described_as_the_worker_finds_it(planted: Path) -> None:
    described, lock = LocalExecutor(root=planted).environment()
    assert described.python == platform.python_version()
    assert described.packages["pydantic"].version == importlib.metadata.version("pydantic")
    assert described.lock is not None
    assert lock is not None


def test_the_environments_own_lock_comes_before_the_source_trees(tmp_path: Path, planted: Path) -> None:
    from harness.environment import find_lock

    found = find_lock(tmp_path, planted)
    assert found is not None
    assert not found[0].is_installed
    (tmp_path / "installed.lock").write_text("other==1\n")
    installed = find_lock(tmp_path, planted)
    assert installed is not None
    assert installed[0].is_installed
    assert installed[1] == b"other==1\n"
    assert find_lock(tmp_path / "no", tmp_path / "no") is None


def test_an_interpreter_that_fails_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    broken = broken_interpreter(tmp_path)
    with pytest.raises(HarnessError, match="cannot describe itself: out of order"):
        LocalExecutor(str(broken), tmp_path).environment()
