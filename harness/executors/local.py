"""A run as a process of its own on this machine."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from harness import environment
from harness.build_id import read_build_record
from harness.code_capture import source_files, source_root
from harness.describe import OPTIONAL_PACKAGES
from harness.environment import Environment, Package
from harness.errors import HarnessError
from harness.executors.base import Ending, Inventory, Supervision
from harness.plan import Plan, worker_environment
from harness.store import HOST_PID, LOG

__all__ = ["LocalExecutor"]

_LOOK_SECONDS = 0.1


class LocalExecutor:
    """Starts the worker with this interpreter.

    Parameters
    ----------
    python
        The interpreter; by default the one that runs the harness.
    root
        Folder that holds the packages; by default the one they were imported from.
    caller
        The caller's environment.
    """

    name = "local"

    def __init__(
        self, python: str = sys.executable, root: Path | None = None, caller: Mapping[str, str] | None = None
    ) -> None:
        self.python = python
        self.root = source_root() if root is None else root
        is_installed = self.root.name in {"site-packages", "dist-packages"}
        self.packages = None if is_installed else str(self.root)
        self.caller: Mapping[str, str] = dict(os.environ if caller is None else caller)

    def moved(self, python: str, root: Path) -> Self:
        """Give the same executor with another interpreter and other packages."""
        return type(self)(python, root, self.caller)

    def inventory(self) -> Inventory:
        """Say what this machine and this interpreter have."""
        processor, cards = environment.cpu(), environment.gpus()
        usable = cards if cards and self._torch_can_drive_a_gpu() else ()
        return Inventory(
            executor=self.name,
            machine=platform.machine(),
            cpu_model=processor.model,
            cpu_flags=frozenset(processor.flags),
            cores=processor.cores,
            accelerators=("cpu", "cuda") if usable else ("cpu",),
            gpu_names=tuple(card.name for card in usable),
            memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            packages=frozenset(name for name in OPTIONAL_PACKAGES if importlib.util.find_spec(name)),
            is_in_image=read_build_record() is not None,
        )

    def _torch_can_drive_a_gpu(self) -> bool:
        # Asked in a process of its own: the host side never imports torch.
        import importlib.metadata

        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            if importlib.metadata.version("torch").endswith("+cpu"):
                return False
        answer = self._python("import torch; print(torch.cuda.is_available())", "-c")
        return answer.returncode == 0 and answer.stdout.split()[-1:] == ["True"]

    def _python(self, what: str, how: str) -> subprocess.CompletedProcess[str]:
        settings = worker_environment("strict", 1, self.caller, self.packages)
        return subprocess.run(
            [self.python, how, what], env=settings, capture_output=True, text=True, check=False, cwd="/"
        )

    def environment(self) -> tuple[Environment, bytes | None]:
        """Describe interpreter, packages and machine as the worker will find them, and give the lock's text.

        Raises
        ------
        HarnessError
            The interpreter does not start.
        """
        answer = self._python("harness.environment", "-m")
        if answer.returncode != 0:
            last = (answer.stderr.strip().splitlines() or ["it gave no reason"])[-1]
            raise HarnessError(f"the interpreter {self.python} cannot describe itself: {last}")
        found = json.loads(answer.stdout)
        lock = environment.find_lock(Path(found.pop("prefix")), self.root)
        packages = {name: Package(**facts) for name, facts in found.pop("packages").items()}
        described = Environment(
            **found,
            packages=packages,
            lock=lock[0] if lock else None,
            cpu=environment.cpu(),
            gpu=environment.gpus(),
        )
        return described, lock[1] if lock else None

    def source_files(self) -> Mapping[str, str]:
        """Map every source file that a run here executes to its sha256."""
        return source_files(self.root)

    def execute(self, plan: Plan, supervision: Supervision) -> Ending:
        """Run the worker, forward requests to stop, and leave no process behind.

        The worker gets a session of its own, so that Ctrl-C in a terminal reaches it through the host only.
        """
        log = Path(plan.run_dir) / LOG
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                plan.argv,
                env={**plan.environment, HOST_PID: str(os.getpid())},
                cwd=plan.run_dir,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(supervision.lock_fd,),
                start_new_session=True,
            )
        try:
            return Ending(_watch(process, supervision))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _watch(process: subprocess.Popen[bytes], supervision: Supervision) -> int:
    forwarded = 0
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(_LOOK_SECONDS)
        supervision.tick()
        asked = supervision.stops_asked()
        if asked > forwarded:
            if forwarded == 0:
                process.terminate()
            if asked > 1:
                os.killpg(process.pid, signal.SIGKILL)
            forwarded = asked
