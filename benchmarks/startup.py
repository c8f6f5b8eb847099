"""How long a command takes to answer, and a run from its spec to the first optimizer step.

    python benchmarks/startup.py [SPEC ...] [--rounds N]

Every figure is of fresh processes with compiled byte code, the smallest of several rounds, the lanes taken in
turn. *Imports* are what the process loads before it does anything; *ours* is the rest, data hashing included.
Files are looked for in HARNESS_DATA. Run it where nothing else computes.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
INVALID = ROOT / "tests" / "specs" / "invalid"
COMMANDS: Mapping[str, Sequence[str]] = {
    "python alone": ("-c", "pass"),
    "harness --help": ("-m", "harness", "--help"),
    "bad YAML": ("-m", "harness", "plan", str(INVALID / "two_documents.yaml")),
    "bad spec": ("-m", "harness", "plan", str(INVALID / "many_problems_at_once.yaml")),
    "plan of ci.yaml": ("-m", "harness", "plan", str(ROOT / "runs" / "ci.yaml")),
}
HOST_IMPORTS = (
    "import harness.cli, harness.placing, harness.resolve, harness.gate, harness.run, harness.screen"
)
WORKER_IMPORTS = "import harness.worker, harness.outcome"


def measured(arguments: Sequence[str], **settings: Any) -> tuple[float, float]:
    """Run a fresh process and return its wall and its CPU seconds, those of its children included."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    subprocess.run(
        [sys.executable, *arguments], env=environment(), capture_output=True, check=False, **settings
    )
    wall, after = time.time() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def environment() -> dict[str, str]:
    """Return the environment in which everything is measured."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def begin(spec: str, runs_dir: str) -> None:
    """Run a spec up to the first optimizer step, in this process as the host; print where the time went."""
    from harness.code_capture import source_root
    from harness.executors.base import Ending
    from harness.executors.local import LocalExecutor
    from harness.resolve import resolve
    from harness.run import Job, run
    from harness.sources import data_folders
    from harness.spec import load_spec

    class Watched(LocalExecutor):
        def execute(self, plan: Any, supervision: Any) -> Ending:
            import dataclasses

            used = {"host": time.process_time()}
            (Path(plan.run_dir) / "host.json").write_text(json.dumps(used), encoding="utf-8")
            argv = (self.python, __file__, "--worker", plan.run_dir)
            return super().execute(dataclasses.replace(plan, argv=argv), supervision)

    executor, read = Watched(), load_spec(spec)
    resolution = resolve(read, executor.inventory(), data_dirs=data_folders())
    run(Job(resolution.run, read.text, resolution.inputs), executor, Path(runs_dir), root=source_root())


def work(run_dir: str) -> None:
    """Do the worker's work until the first optimizer step begins, and write down when that was."""
    import harness.worker

    imported, used = time.time(), time.process_time()
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    def stop(*_: object) -> None:
        stamps = {
            "imported": imported,
            "first step": time.time(),
            "worker": time.process_time() - used,
        }
        (Path(run_dir) / "stamps.json").write_text(json.dumps(stamps), encoding="utf-8")
        os._exit(0)

    register_optimizer_step_pre_hook(stop)  # type: ignore[arg-type]
    harness.worker.main([run_dir])


def first_step(spec: Path) -> dict[str, float]:
    """Measure the way of a spec to its first optimizer step, phase by phase, wall seconds."""
    with tempfile.TemporaryDirectory() as runs:
        started = time.time()
        subprocess.run(
            [sys.executable, __file__, "--host", str(spec), runs],
            env=environment(),
            capture_output=True,
            check=False,
        )
        (run_dir,) = Path(runs).iterdir()
        journal = [json.loads(line) for line in (run_dir / "journal.jsonl").read_text().splitlines()]
        stamps = json.loads((run_dir / "stamps.json").read_text(encoding="utf-8"))
        stamps |= json.loads((run_dir / "host.json").read_text(encoding="utf-8"))
    at = {
        event.get("name") or event["event"]: datetime.fromisoformat(event["time"]).timestamp()
        for event in journal
    }
    created = next(datetime.fromisoformat(e["time"]).timestamp() for e in journal if e["event"] == "created")
    marks = [
        started,
        created,
        at["started"],
        stamps["imported"],
        at["training"],
        stamps["first step"],
    ]
    names = ("start and plan", "lay out", "start of the worker", "prepare", "build")
    spent = {name: end - begin for name, begin, end in zip(names, marks, marks[1:], strict=False)}
    cpu = {"CPU of the host": stamps["host"], "CPU of the worker": stamps["worker"]}
    return {**spent, "whole": marks[-1] - marks[0], **cpu}


def smallest(rows: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """Return the row whose whole is smallest."""
    return min(rows, key=lambda row: row["whole"])


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("specs", nargs="*", type=Path, default=[ROOT / "runs" / "ci.yaml"])
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    for package in ("harness", "ptycho_torch"):
        compileall.compile_dir(ROOT / package, quiet=2)
    commands: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(given.rounds):
        for name, arguments in COMMANDS.items():
            commands[name].append(measured(arguments))
    print(f"{'command':<22}{'CPU ms':>8}{'wall ms':>9}")
    for name, taken in commands.items():
        print(f"{name:<22}{min(c for _, c in taken) * 1e3:>8.0f}{min(w for w, _ in taken) * 1e3:>9.0f}")
    for spec in given.specs:
        rows, host, worker = [], [], []
        for _ in range(given.rounds):
            host.append(measured(("-c", HOST_IMPORTS)))
            worker.append(measured(("-c", WORKER_IMPORTS)))
            rows.append(first_step(spec))
        best = smallest(rows)
        (host_wall, _), (worker_wall, _), host_cpu = min(host), min(worker), min(cpu for _, cpu in host)
        ours = min(row["CPU of the host"] + row["CPU of the worker"] for row in rows) - host_cpu
        print(f"\n{spec.name}: wall seconds from the spec to the first optimizer step")
        for name, seconds in best.items():
            print(f"{name:<22}{seconds:>8.2f}")
        print(f"{'imports, host':<22}{host_wall:>8.2f}\n{'imports, worker':<22}{worker_wall:>8.2f}")
        print(f"{'ours':<22}{best['whole'] - host_wall - worker_wall:>8.2f}")
        print(f"{'ours, CPU seconds':<22}{ours:>8.2f}  (the worker's imports are not in its CPU above)")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2])
    elif sys.argv[1:2] == ["--host"]:
        begin(*sys.argv[2:4])
    else:
        main()
