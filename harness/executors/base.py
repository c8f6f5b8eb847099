"""What every executor is: something that says what it has, and carries out a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from harness.inventory import Inventory

if TYPE_CHECKING:
    from harness.plan import Plan

__all__ = ["Executor", "Inventory"]


@runtime_checkable
class Executor(Protocol):
    """A place where a run executes: a local process, a container, a queue."""

    name: str

    def inventory(self) -> Inventory:
        """Say what is there: accelerators, processor features, cores, optional packages."""
        ...

    def execute(self, plan: Plan) -> int:
        """Carry out a plan and return the worker's exit status."""
        ...
