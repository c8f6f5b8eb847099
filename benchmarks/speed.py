"""How fast training and inference are, beside what the processor could do: one table.

    python -m benchmarks.speed [--rounds N] [--steps N]

Every figure is of fresh processes. Lanes that are compared take turns, so that what else the machine does
meets all of them; the median of the rounds is shown, and the spread between the smallest and the largest.
Rates are per second of *processor time*, so that waiting does not count. See ``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.plan import worker_environment

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Lane:
    """What is run: a lane of ``benchmarks.lanes`` under a profile (None: none) with some threads."""

    name: str
    profile: str | None = "strict"
    threads: int = 1


SGEMM = Lane("sgemm", None)
FLOPS = Lane("flops")
HASHING = Lane("hashing")
TRAIN = {g: Lane(f"train {g}") for g in (1, 2)}
BARE = {g: Lane(f"bare {g}") for g in (1, 2)}
INFER = {g: Lane(f"infer {g}") for g in (1, 2)}
PORTABLE = {g: Lane(f"train {g}", "portable") for g in (1, 2)}
TRACE = Lane("trace")
TWO_THREADS = Lane("train 1", "strict", 2)
SGEMM_TWO_THREADS = Lane("sgemm", None, 2)
ROUND = (
    *(SGEMM, TRAIN[1], PORTABLE[1], BARE[1], TRACE),
    *(SGEMM, TRAIN[2], PORTABLE[2], BARE[2], TWO_THREADS, SGEMM_TWO_THREADS, INFER[1], INFER[2]),
)

TRACED = {
    "state summed up": "state_ms",
    "gradient's norm": "gradient_ms",
    "batch digested, line written": "line_ms",
    "weights digested, every tenth step": "weights_ms",
    "every tensor digested, once an epoch of 64 steps": "tensors_ms",
}
"""What the trace does, to the lane's figure."""

Found = dict[Lane, list[dict[str, float]]]


def measure(lane: Lane, steps: int) -> dict[str, float]:
    """Run a lane once in a process of its own."""
    caller = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    environment = worker_environment(lane.profile or "strict", lane.threads, caller, str(ROOT))
    if lane.profile is not None:
        environment["BENCHMARK_PROFILE"] = lane.profile
    command = [sys.executable, "-m", "benchmarks.lanes", lane.name, str(steps)]
    done = subprocess.run(command, env=environment, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _middle(found: Found, lane: Lane, figure: str) -> float:
    return statistics.median(one[figure] for one in found[lane])


def _best(found: Found, sgemm: Lane) -> float:
    return max(one["gflops_by_the_clock"] for one in found[sgemm])


def _spread(found: Found, lane: Lane, figure: str) -> str:
    values = [one[figure] for one in found[lane]]
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def table(found: Found) -> list[tuple[str, str, str]]:
    """Return the lines of the table: what, gridsize 1, gridsize 2."""
    best_sgemm = max(one["gflops"] for one in found[SGEMM])
    work = found[FLOPS][0]

    def both(label: str, show: Mapping[int, str]) -> tuple[str, str, str]:
        return label, show[1], show[2]

    def fraction(g: int) -> str:
        reached = _middle(found, TRAIN[g], "per_cpu_second") * g**2 * work["train"]
        return f"{100 * reached / best_sgemm:.0f} %"

    def limit(g: int) -> str:
        return f"{best_sgemm / work['predict']:.0f}"

    rate = "per_cpu_second"
    rows = [
        ("sgemm 2048, best, GFLOP/s", f"{best_sgemm:.1f}", ""),
        ("sgemm 2048, each process", _spread(found, SGEMM, "gflops"), ""),
        ("GFLOP a pattern, training", f"{work['train']:.2f}", ""),
        both("groups / CPU-s, train_with_lightning", {g: _spread(found, TRAIN[g], rate) for g in (1, 2)}),
        both("groups / CPU-s, bare loop", {g: _spread(found, BARE[g], rate) for g in (1, 2)}),
        both(
            "harness over bare loop",
            {
                g: f"{100 * _middle(found, TRAIN[g], rate) / _middle(found, BARE[g], rate):.0f} %"
                for g in (1, 2)
            },
        ),
        both("fraction of the roofline", {g: fraction(g) for g in (1, 2)}),
        both("groups / CPU-s, portable", {g: _spread(found, PORTABLE[g], rate) for g in (1, 2)}),
        both(
            "portable over strict",
            {
                g: f"{100 * _middle(found, PORTABLE[g], rate) / _middle(found, TRAIN[g], rate):.0f} %"
                for g in (1, 2)
            },
        ),
        ("trace, % of training", _spread(found, TRACE, "percent"), ""),
        *((f"  {work}, ms a step", _spread(found, TRACE, figure), "") for work, figure in TRACED.items()),
        ("  step with it; without, ms", *(_spread(found, TRACE, f"{one}_ms") for one in ("with", "without"))),
        (
            "two threads over one, wall time",
            f"{_middle(found, TWO_THREADS, 'per_second') / _middle(found, TRAIN[1], 'per_second'):.2f}",
            "",
        ),
        (
            "  limit: sgemm with two threads over one, wall time",
            f"{_best(found, SGEMM_TWO_THREADS) / _best(found, SGEMM):.2f}",
            "",
        ),
        both("patches / CPU-s, predicted and stitched", {g: _spread(found, INFER[g], rate) for g in (1, 2)}),
        both("  limit: sgemm over the network's operations", {g: limit(g) for g in (1, 2)}),
        both("  stitching, ms a patch", {g: _spread(found, INFER[g], "stitch_ms") for g in (1, 2)}),
        both("  synchronising, ms a patch", {g: _spread(found, INFER[g], "synchronise_ms") for g in (1, 2)}),
        both(
            "peak memory of training, MB", {g: f"{_middle(found, TRAIN[g], 'peak_mb'):.0f}" for g in (1, 2)}
        ),
        both(
            "peak memory of inference, MB", {g: f"{_middle(found, INFER[g], 'peak_mb'):.0f}" for g in (1, 2)}
        ),
        both("start-up, imports, CPU-s", {g: _spread(found, TRAIN[g], "imports_cpu_s") for g in (1, 2)}),
        both("start-up, ours, CPU-s", {g: _spread(found, TRAIN[g], "ours_cpu_s") for g in (1, 2)}),
        (
            "digests, ms: weights; 34 MB of files",
            _spread(found, HASHING, "weights_ms"),
            _spread(found, HASHING, "files_ms"),
        ),
    ]
    return rows


def _show_only(beginning: str, rounds: int, steps: int) -> None:
    lanes = [lane for lane in (*dict.fromkeys(ROUND), FLOPS, HASHING) if lane.name.startswith(beginning)]
    found: Found = {lane: [] for lane in lanes}
    for lane in lanes * rounds:
        found[lane].append(measure(lane, steps))
    for lane, figures in found.items():
        sys.stdout.write(f"{lane.name}, {lane.profile}, {lane.threads} threads\n")
        for figure in figures[0]:
            sys.stdout.write(f"  {figure} {_spread(found, lane, figure)}\n")


def main(arguments: Sequence[str]) -> None:
    """Measure all lanes in rounds, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", help="only lanes whose name begins so; prints their figures")
    parser.add_argument("--rounds", type=int, default=2, help="turns of every lane (2)")
    parser.add_argument("--steps", type=int, default=3, help="training steps that are measured (3)")
    chosen = parser.parse_args(arguments)
    if chosen.only is not None:
        _show_only(chosen.only, chosen.rounds, chosen.steps)
        return
    found: Found = {lane: [measure(lane, chosen.steps)] for lane in (FLOPS, HASHING)}
    for number in range(chosen.rounds):
        sys.stderr.write(f"round {number + 1} of {chosen.rounds}\n")
        for lane in ROUND:
            found.setdefault(lane, []).append(measure(lane, chosen.steps))
    rows = [("", "gridsize 1", "gridsize 2"), ("---", "---", "---"), *table(found)]
    for row in rows:
        sys.stdout.write("| " + " | ".join(row) + " |\n")


if __name__ == "__main__":
    main(sys.argv[1:])
