"""What a host does while its worker works: count requests to stop, and look at the progress."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import FrameType
from typing import Any

__all__ = ["Supervised", "noticing_signals"]

_HEARD = "stopping after this step, keeping what is done; once more (Ctrl-C) ends it now"


class Supervised:
    """Counts requests to stop, lets the screen look at the progress, and ends what cannot be recorded.

    Parameters
    ----------
    lock_fd
        Descriptor of the run's lock.
    look
        Called a few times a second.
    """

    def __init__(self, lock_fd: int, look: Callable[[], None]) -> None:
        self.lock_fd = lock_fd
        self.signals: list[signal.Signals] = []
        self.surroundings: Future[Any] | None = None
        self._look = look
        self._is_answered = False

    def stops_asked(self) -> int:
        """Tell how often somebody has asked to stop."""
        return len(self.signals)

    def tick(self) -> None:
        """Answer a request to stop, look at the progress, raise what describing the surroundings met."""
        if self.signals and not self._is_answered:
            self._is_answered = True
            sys.stderr.write(f"{_HEARD}\n")  # not from the handler: the stream may be in use there
            sys.stderr.flush()
        if self.surroundings is not None and self.surroundings.done():
            self.surroundings.result()
        self._look()

    def note(self, number: int, frame: FrameType | None) -> None:
        """Take a signal as a request to stop."""
        self.signals.append(signal.Signals(number))


@contextlib.contextmanager
def noticing_signals(supervision: Supervised) -> Iterator[None]:
    """Have requests to stop counted for as long as a worker works."""
    heard = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, supervision.note) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
