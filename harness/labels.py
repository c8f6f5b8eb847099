"""Labels that every container of this project carries, by which what a dead host has left is found."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["HOST_LABEL", "RUN_LABEL", "Host", "labels"]

RUN_LABEL = "ptychopinn.run"
"""Label that holds the run folder; empty for a container that only describes its image."""

HOST_LABEL = "ptychopinn.host"
"""Label that names the process that made the container and looks after it."""

_ENDED = ("Z", "X")
_STATE, _START = 0, 19
"""Places in ``/proc/PID/stat``, counted from behind the program's name."""


@dataclass(frozen=True)
class Host:
    """A process that looks after containers, named so that others can tell whether it still lives.

    Parameters
    ----------
    boot
        The kernel's id of its present boot; empty where there is none to be read.
    namespace
        The namespace in which its process id counts.
    pid
        Its process id there.
    start
        When it started, in the kernel's ticks: a process id is given again.
    """

    boot: str
    namespace: str
    pid: int
    start: str

    @classmethod
    def myself(cls) -> Self:
        """Return this process."""
        pid = os.getpid()
        with contextlib.suppress(OSError):
            return cls(*_here(), pid, _stat(pid)[_START])
        return cls("", "", pid, "")

    @classmethod
    def parse(cls, label: str) -> Self:
        """Read a label that another host has written; one in other words names a host that nobody sees."""
        match label.split(" "):
            case [boot, namespace, pid, start] if pid.isdecimal():
                return cls(boot, namespace, int(pid), start)
        return cls("", "", 0, "")

    def __str__(self) -> str:
        return f"{self.boot} {self.namespace} {self.pid} {self.start}"

    def has_died(self) -> bool | None:
        """Tell whether it has died; None where that cannot be seen from here."""
        try:
            if not self.boot or (self.boot, self.namespace) != _here():
                return None
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # it is somebody else's, so it is there
            pass
        except OSError:
            return None
        with contextlib.suppress(OSError):
            found = _stat(self.pid)
            return found[_STATE] in _ENDED or found[_START] != self.start
        return False  # it is hidden (hidepid), or it ends at this very moment


def labels(run_dir: str = "") -> dict[str, str]:
    """Return the labels of a container that this process makes and looks after.

    Parameters
    ----------
    run_dir
        The run folder that the container is for, or empty.
    """
    return {RUN_LABEL: run_dir, HOST_LABEL: str(Host.myself())}


def _here() -> tuple[str, str]:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return boot, str(Path("/proc/self/ns/pid").readlink())


def _stat(pid: int) -> list[str]:
    # The program's name, in brackets, may itself hold brackets and spaces.
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
