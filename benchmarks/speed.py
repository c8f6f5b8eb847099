"""How fast training and inference are, beside what the processor could do: one table.

    python -m benchmarks.speed [--rounds N] [--steps N]

In every round fresh processes, one a lane, work in lockstep (``benchmarks.lockstep``): whatever is compared
is compared turn by turn, and shown is the median over all turns of all rounds with its quartiles. Rates are
per second of *processor time*, so that waiting does not count. See ``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence

from benchmarks.lockstep import Figures, Lane, Round, Turn, lockstep, measure

SGEMM = Lane("sgemm", None)
PORTABLE_SGEMM = Lane("numpy's sgemm", "portable")  # torch's, MKL, is slow where it computes alike everywhere
FLOPS = Lane("flops")
HASHING = Lane("hashing")
TRACE = Lane("trace")
TRAIN = {g: Lane(f"train {g}") for g in (1, 2)}
BARE = {g: Lane(f"bare {g}") for g in (1, 2)}
INFER = {g: Lane(f"infer {g}") for g in (1, 2)}
INFER_SHARED = Lane("infer 2, shared patches")
PORTABLE = {g: Lane(f"train {g}", "portable") for g in (1, 2)}
TWO_THREADS = Lane("train 1", "strict", 2)
SGEMM_TWO_THREADS = Lane("sgemm", None, 2)
TOGETHER = {
    1: (PORTABLE_SGEMM, PORTABLE[1], BARE[1], TRAIN[1], SGEMM, SGEMM_TWO_THREADS, TWO_THREADS, INFER[1]),
    2: (PORTABLE_SGEMM, PORTABLE[2], BARE[2], TRAIN[2], SGEMM, INFER[2], INFER_SHARED),
}
"""The lanes that work in lockstep, by gridsize; those that are compared are neighbours as far as can be."""
ALONE = (FLOPS, HASHING, TRACE)

MOST_STEPS = 31
"""So many portions the scan of inference has after its first."""

TRACED = {
    "state summed up": "state_ms",
    "gradient's norm": "gradient_ms",
    "batch digested, line written": "line_ms",
    "weights digested, every tenth step": "weights_ms",
    "every tensor digested, once an epoch of 64 steps": "tensors_ms",
}
"""What the trace does, to the lane's figure."""

Rounds = Mapping[int, Sequence[Round]]
"""What was found in lockstep, by gridsize."""
Row = tuple[str, str, str]
Value = Callable[[int, Turn], float]
"""What is found in a turn of a gridsize."""


def median_and_quartiles(values: Sequence[float], unit: str = "") -> str:
    """Show many values as their median and, in parentheses, their quartiles."""
    at_least_two = values if len(values) > 1 else [*values, *values]
    low, middle, high = statistics.quantiles(at_least_two, n=4, method="inclusive")
    return f"{middle:.3g}{unit} ({low:.3g} to {high:.3g})"


def median_and_range(found: Sequence[Figures], figure: str) -> str:
    """Show what processes told as the median and, in parentheses, the smallest and the largest."""
    values = [one[figure] for one in found]
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def _best_sgemm(rounds: Rounds) -> float:
    return max(turn[SGEMM].per_cpu_second for found in rounds.values() for one in found for turn in one.turns)


def _compared(rounds: Rounds, work: Figures) -> list[Row]:
    """Return the lines that are found turn by turn."""
    best = _best_sgemm(rounds)

    def cell(g: int, value: Value, unit: str = "") -> str:
        return median_and_quartiles([value(g, turn) for one in rounds[g] for turn in one.turns], unit)

    def row(label: str, value: Value, unit: str = "") -> Row:
        return label, cell(1, value, unit), cell(2, value, unit)

    def rate(lanes: Mapping[int, Lane]) -> Value:
        return lambda g, turn: turn[lanes[g]].per_cpu_second

    def percent(lanes: Mapping[int, Lane], over: Mapping[int, Lane]) -> Value:
        return lambda g, turn: 100 * turn[lanes[g]].per_cpu_second / turn[over[g]].per_cpu_second

    def roofline(sgemm: Callable[[Turn], float], lanes: Mapping[int, Lane] = TRAIN) -> Value:
        flops = work["train"]
        return lambda g, turn: 100 * turn[lanes[g]].per_cpu_second * g**2 * flops / sgemm(turn)

    def strict(turn: Turn) -> float:
        return turn[SGEMM].per_cpu_second

    def limit(turn: Turn) -> float:
        return turn[PORTABLE_SGEMM].per_cpu_second

    def faster(lane: Lane, than: Lane) -> Value:
        return lambda _, turn: turn[lane].per_second / turn[than].per_second

    return [
        ("sgemm 2048, best of the run, GFLOP / CPU-s", f"{best:.1f}", ""),
        row("sgemm 2048, GFLOP / CPU-s", lambda _, turn: strict(turn)),
        ("GFLOP a pattern, training", f"{work['train']:.2f}", ""),
        row("groups / CPU-s, train_with_lightning", rate(TRAIN)),
        row("groups / CPU-s, bare loop", rate(BARE)),
        row("harness over bare loop", percent(TRAIN, BARE), " %"),
        row("fraction of the roofline, best sgemm of the run", roofline(lambda _: best), " %"),
        row("fraction of the roofline, sgemm of the same turn", roofline(strict), " %"),
        row("groups / CPU-s, portable", rate(PORTABLE)),
        row("portable over strict", percent(PORTABLE, TRAIN), " %"),
        row(
            "  numpy's sgemm under portable over sgemm",
            lambda _, turn: 100 * limit(turn) / strict(turn),
            " %",
        ),
        row("portable's fraction of that sgemm, of the same turn", roofline(limit, PORTABLE), " %"),
        ("two threads over one, wall time", cell(1, faster(TWO_THREADS, TRAIN[1])), ""),
        ("  limit: sgemm with two threads over one", cell(1, faster(SGEMM_TWO_THREADS, SGEMM)), ""),
    ]


def _inference(rounds: Rounds, work: Figures) -> list[Row]:
    """Return the lines about patches, which are predicted turn by turn, and stitched at a process' end."""

    def stitched(lane: Lane, found: Round, turn: Turn) -> float:
        return 1 / (1 / turn[lane].per_cpu_second + found.figures[lane]["stitch_ms"] / 1e3)

    def patches(g: int, found: Round, turn: Turn) -> float:
        return stitched(INFER[g], found, turn)

    def limit(turn: Turn) -> float:
        return turn[SGEMM].per_cpu_second / work["predict"]

    def row(label: str, value: Callable[[float, float], float], unit: str = "") -> Row:
        one, two = (
            [value(patches(g, found, turn), limit(turn)) for found in rounds[g] for turn in found.turns]
            for g in (1, 2)
        )
        return label, median_and_quartiles(one, unit), median_and_quartiles(two, unit)

    shared = median_and_quartiles(
        [4 * stitched(INFER_SHARED, found, turn) for found in rounds[2] for turn in found.turns]
    )
    return [
        row("patches / CPU-s, predicted and stitched", lambda rate, _: rate),
        row("  limit: sgemm over the network's operations", lambda _, limit: limit),
        row("  of their limit", lambda rate, limit: 100 * rate / limit, " %"),
        ("patterns / CPU-s, object_big off: four give the patch they share", "", shared),
    ]


def table(rounds: Rounds, alone: Mapping[Lane, Sequence[Figures]]) -> list[Row]:
    """Return the lines of the table: what, gridsize 1, gridsize 2."""
    work = alone[FLOPS][0]

    def told(label: str, lanes: Mapping[int, Lane], figure: str) -> Row:
        one, two = (
            median_and_range([found.figures[lanes[g]] for found in rounds[g]], figure) for g in (1, 2)
        )
        return label, one, two

    def trace(label: str, figure: str) -> Row:
        return label, median_and_range(alone[TRACE], figure), ""

    return [
        *_compared(rounds, work),
        *_inference(rounds, work),
        told("  stitching, ms a patch", INFER, "stitch_ms"),
        told("  synchronising, ms a patch", INFER, "synchronise_ms"),
        trace("trace, % of training", "percent"),
        *(trace(f"  {kind}, ms a step", figure) for kind, figure in TRACED.items()),
        trace("  step with it, ms", "with_ms"),
        trace("  step without it, ms", "without_ms"),
        told("peak memory of training, MB", TRAIN, "peak_mb"),
        told("peak memory of inference, MB", INFER, "peak_mb"),
        told("start-up, imports, CPU-s", TRAIN, "imports_cpu_s"),
        told("start-up, ours, CPU-s", TRAIN, "ours_cpu_s"),
        ("digests of weights, ms", median_and_range(alone[HASHING], "weights_ms"), ""),
        ("digests of 34 MB of files, ms", median_and_range(alone[HASHING], "files_ms"), ""),
    ]


def _show_only(beginning: str, rounds: int, steps: int) -> None:
    for lanes in TOGETHER.values():
        some = [lane for lane in lanes if lane.name.startswith(beginning)]
        found = [lockstep(some, steps) for _ in range(rounds)]
        for lane in some:
            units = [turn[lane] for one in found for turn in one.turns]
            sys.stdout.write(f"{lane}\n")
            sys.stdout.write(f"  CPU-s {median_and_quartiles([unit.cpu_s for unit in units])}\n")
            for rate in ("per_cpu_second", "per_second"):
                sys.stdout.write(
                    f"  {rate} {median_and_quartiles([getattr(unit, rate) for unit in units])}\n"
                )
            _show_figures([one.figures[lane] for one in found])
    for lane in ALONE:
        if lane.name.startswith(beginning):
            sys.stdout.write(f"{lane}\n")
            _show_figures([measure(lane, steps) for _ in range(rounds)])


def _show_figures(found: Sequence[Figures]) -> None:
    for figure in found[0]:
        sys.stdout.write(f"  {figure} of the process {median_and_range(found, figure)}\n")


def main(arguments: Sequence[str]) -> None:
    """Measure all lanes in rounds, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", help="only lanes whose name begins so; prints their figures")
    parser.add_argument("--rounds", type=int, default=2, help="fresh processes of every lane (2)")
    parser.add_argument("--steps", type=int, default=6, help="turns of every lane in a round (6)")
    chosen = parser.parse_args(arguments)
    if chosen.rounds < 1 or not 1 <= chosen.steps <= MOST_STEPS:
        parser.error(f"there is at least one round, and 1 to {MOST_STEPS} steps")
    if chosen.only is not None:
        _show_only(chosen.only, chosen.rounds, chosen.steps)
        return
    alone = {lane: [measure(lane, chosen.steps)] for lane in (FLOPS, HASHING)}
    alone[TRACE] = []
    rounds: dict[int, list[Round]] = {g: [] for g in TOGETHER}
    for number in range(chosen.rounds):
        sys.stderr.write(f"round {number + 1} of {chosen.rounds}\n")
        for g, lanes in TOGETHER.items():
            rounds[g].append(lockstep(lanes, chosen.steps))
        alone[TRACE].append(measure(TRACE, chosen.steps))
    rows = [("", "gridsize 1", "gridsize 2"), ("---", "---", "---"), *table(rounds, alone)]
    for row in rows:
        sys.stdout.write("| " + " | ".join(row) + " |\n")


if __name__ == "__main__":
    main(sys.argv[1:])
