"""How a worker notices that its host is gone, so that it never outlives it for long."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path

from harness.store import HOST_PID, LIFELINE, append_event, wait_for_lock

__all__ = ["stop_with_the_host"]

_PR_SET_PDEATHSIG = 1
_ASK_SECONDS = 1.0


def stop_with_the_host(run_dir: Path) -> None:
    """Have this process asked to stop (SIGTERM) as soon as its host has died.

    A child of the host is told by the kernel. In a container there is no parent to die with; there the run's
    lock is watched, which is the host's as long as it lives. Once let go it becomes the worker's, so that the
    run counts as running until the worker is done.

    Parameters
    ----------
    run_dir
        The run folder.
    """
    if LIFELINE in os.environ:
        threading.Thread(target=_stop_when_the_lock_is_free, args=(run_dir,), daemon=True).start()
        return
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # The host may have died while this process was still importing.
    if os.environ.get(HOST_PID, str(os.getppid())) != str(os.getppid()):
        os.kill(os.getpid(), signal.SIGTERM)


def _stop_when_the_lock_is_free(run_dir: Path) -> None:
    wait_for_lock(run_dir)
    append_event(run_dir, "host gone")
    while True:  # Lightning has handlers of its own in place for a moment, so one request could be lost.
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_ASK_SECONDS)
