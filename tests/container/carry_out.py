"""Carry out any command exactly as a run's worker, and print its planned environment: RUNS INPUT ARGV..."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

from harness.executors.docker import DockerExecutor
from harness.plan import make_plan
from harness.resolve import resolve
from harness.spec import read_spec
from harness.store import create_run


class Supervision:
    lock_fd = -1

    def stops_asked(self) -> int:
        return 0

    def tick(self) -> None:
        pass


def main(runs: str, declared: str, *argv: str) -> int:
    executor = DockerExecutor()
    resolved = resolve(read_spec("spec.yaml"), executor.inventory()).run
    with create_run(Path(runs), "canary") as held:
        plan = make_plan(
            resolved,
            str(held.path.resolve()),
            python=executor.python,
            packages=executor.packages,
            caller=executor.caller,
            inputs=[declared],
        )
        plan = dataclasses.replace(plan, argv=(executor.python, *argv))
        sys.stdout.write(json.dumps(dict(plan.environment)))
        return executor.execute(plan, Supervision()).exit_status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
