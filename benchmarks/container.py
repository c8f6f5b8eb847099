"""What a container costs: the same spec natively and with the Docker executor, in turns.

``python benchmarks/container.py [--rounds 3] [--spec runs/ci.yaml]`` prints one table. Each run is a fresh
process; a warm-up of each lane is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LANES = ("local", "docker")


def measure(spec: str, lane: str, runs: Path) -> tuple[float, float, str]:
    """Run a spec once: seconds of the whole command, of the worker's attempt, and the tensor digest."""
    command = [sys.executable, "-m", "harness", "run", spec, "--executor", lane, "--runs-dir", str(runs)]
    before = {*runs.iterdir()}
    started = time.perf_counter()
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    whole = time.perf_counter() - started
    if done.returncode not in {0, 1}:
        sys.exit(done.stderr)
    (run,) = {*runs.iterdir()} - before
    manifest = json.loads((run / "manifest.json").read_text())
    return whole, manifest["attempts"][0]["seconds"], manifest["compared"]["final_tensor_digest"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spec", default=str(ROOT / "runs" / "ci.yaml"))
    chosen = parser.parse_args()
    found: dict[str, list[tuple[float, float, str]]] = {lane: [] for lane in LANES}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(chosen.rounds + 1):
            for lane in LANES:
                one = measure(chosen.spec, lane, Path(folder))
                if number:
                    found[lane].append(one)
    print(f"{'lane':<8}{'whole command, s':>18}{'worker, s':>12}   tensor digest")
    for lane, rows in found.items():
        whole, worker = (statistics.median(row[column] for row in rows) for column in (0, 1))
        digests = {row[2][:16] for row in rows}
        print(f"{lane:<8}{whole:>18.2f}{worker:>12.2f}   {' '.join(sorted(digests))}")
    pairs = list(zip(found["local"], found["docker"], strict=True))
    more = statistics.median(container[0] - native[0] for native, container in pairs)
    ratio = statistics.median(container[0] / native[0] for native, container in pairs)
    print(f"the container takes {more:+.2f} s more than native, {ratio:.3f} times as long")


if __name__ == "__main__":
    main()
