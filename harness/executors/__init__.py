"""Where a run executes: one file and one table line each."""

from __future__ import annotations

from ptycho_torch.registry import Registry

__all__ = ["EXECUTORS"]

EXECUTORS = Registry(
    "executor",
    {"local": "harness.executors.local:LocalExecutor", "docker": "harness.executors.docker:DockerExecutor"},
)
