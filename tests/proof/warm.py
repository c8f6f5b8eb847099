"""Carries out workers in forks of a process that has torch loaded, and nothing of this project.

``python warm.py`` reads a line for each worker: its folder, its log and the source tree that it runs. So
every worker has the code of its own tree, and the libraries are loaded once for all of them.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from harness.executors.base import Ending, Supervision
from harness.executors.local import LocalExecutor
from harness.plan import Plan
from harness.store import HOST_PID, LOG

_SERVERS: dict[tuple[object, ...], subprocess.Popen[str]] = {}


class WarmExecutor(LocalExecutor):
    """Starts a worker as the local executor does, but for the loading of the libraries."""

    def execute(self, plan: Plan, supervision: Supervision) -> Ending:
        """Have a fork do the worker's work."""
        settings = {name: value for name, value in plan.environment.items() if name != "PYTHONPATH"}
        server = self._server(settings)
        assert server.stdin is not None
        assert server.stdout is not None
        log = Path(plan.run_dir) / LOG
        log.parent.mkdir(exist_ok=True)
        wish = {"run_dir": plan.run_dir, "packages": self.packages, "log": str(log)}
        server.stdin.write(json.dumps(wish) + "\n")
        server.stdin.flush()
        return Ending(int(server.stdout.readline()))

    def _server(self, settings: Mapping[str, str]) -> subprocess.Popen[str]:
        key = (self.python, *sorted(settings.items()))
        if key not in _SERVERS:
            _SERVERS[key] = subprocess.Popen(
                [self.python, __file__],
                env={**settings, "PYTHONPATH": str(Path(__file__).parents[2])},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        return _SERVERS[key]


def end_servers() -> None:
    """End every process that waits for workers."""
    for server in _SERVERS.values():
        server.communicate()
    _SERVERS.clear()


def _work(asked: Mapping[str, str]) -> int:
    for place, target in ((os.devnull, (0,)), (asked["log"], (1, 2))):
        descriptor = os.open(place, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        for number in target:
            os.dup2(descriptor, number)
    os.environ[HOST_PID] = str(os.getppid())
    os.chdir(asked["run_dir"])
    for name in [name for name in sys.modules if name.split(".")[0] in {"harness", "ptycho_torch"}]:
        del sys.modules[name]
    sys.path.insert(0, asked["packages"])
    sys.argv = ["worker", asked["run_dir"]]
    try:
        runpy.run_module("harness.worker", run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def main() -> None:
    """Wait for workers to carry out."""
    import jaxtyping  # noqa: F401
    import lightning.pytorch  # noqa: F401
    import safetensors.torch  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = _work(json.loads(line))
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
