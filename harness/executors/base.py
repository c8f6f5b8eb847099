"""What every executor is: something that says what it has, and carries out a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from harness.inventory import Inventory

if TYPE_CHECKING:
    from harness.environment import Environment
    from harness.plan import Plan

__all__ = ["Executor", "Inventory", "Supervision"]


class Supervision(Protocol):
    """What an executor needs from its host while a plan is carried out."""

    @property
    def lock_fd(self) -> int:
        """Descriptor of the run's lock; what runs on this machine inherits it."""
        ...

    def stops_asked(self) -> int:
        """Tell how often somebody has asked to stop: once means after a checkpoint, twice means now."""
        ...

    def tick(self) -> None:
        """Let the host look at the run's progress; called a few times a second."""
        ...


@runtime_checkable
class Executor(Protocol):
    """A place where a run executes: a local process, a container, a queue.

    ``python`` is the interpreter that starts the worker there, ``packages`` the folder that holds this
    project's packages there (None when the interpreter finds them by itself).
    """

    name: str
    python: str
    packages: str | None

    def inventory(self) -> Inventory:
        """Say what is there: accelerators, processor features, cores, optional packages."""
        ...

    def environment(self) -> tuple[Environment, bytes | None]:
        """Describe what a run would run on there, as the worker will find it, and give its lock's text."""
        ...

    def execute(self, plan: Plan, supervision: Supervision) -> int:
        """Carry out a plan and return the worker's exit status; a signal's is its number, negative."""
        ...
