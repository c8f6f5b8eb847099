"""What every executor is: something that says what it has, and carries out a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

from harness.inventory import Inventory

if TYPE_CHECKING:
    from harness.environment import Environment
    from harness.images import ImageIdentity
    from harness.plan import Plan

__all__ = ["Ending", "Executor", "ImageExecutor", "Inventory", "Supervision"]


@dataclass(frozen=True)
class Ending:
    """How a worker ended.

    Parameters
    ----------
    exit_status
        Its exit status; a signal's is its number, negative.
    reason
        What its executor knows about an end that was not the worker's own doing.
    """

    exit_status: int
    reason: str | None = None


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
    project's packages there (None when the interpreter finds them by itself), ``caller`` the variables from
    which the worker's environment is drawn.
    """

    name: str
    python: str
    packages: str | None
    caller: Mapping[str, str]

    def inventory(self) -> Inventory:
        """Say what is there: accelerators, processor features, cores, optional packages."""
        ...

    def environment(self) -> tuple[Environment, bytes | None]:
        """Describe what a run would run on there, as the worker will find it, and give its lock's text."""
        ...

    def source_files(self) -> Mapping[str, str]:
        """Map every source file that a run there executes to its sha256."""
        ...

    def execute(self, plan: Plan, supervision: Supervision) -> Ending:
        """Carry out a plan and say how the worker ended."""
        ...


@runtime_checkable
class ImageExecutor(Executor, Protocol):
    """An executor that starts the work in a container image."""

    def in_image(self, image: str, recorded: ImageIdentity | None = None) -> Self:
        """Return this executor for an image.

        Parameters
        ----------
        image
            As in a spec's ``container.image``.
        recorded
            The identity of the image that a run to be repeated was made in: exactly this one is used then,
            whatever the checkout is now.

        Raises
        ------
        UserError
            There is no engine that can be used, or it does not hold the image.
        """
        ...

    def image_id(self) -> str:
        """Return the digest that identifies the image."""
        ...
