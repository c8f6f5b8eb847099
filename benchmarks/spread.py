"""How far the figures of a run move when nothing but rounding differs, and how far from seed to seed.

    python -m benchmarks.spread runs/ci.yaml --runs-dir FOLDER [--first-seed 7] [--seeds 5]

Runs the spec with seed after seed under every way to round (profile and threads), takes what FOLDER holds
already, and writes ``harness/spreads.json``, from which verdicts take their thresholds.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from scipy.stats import t as student_t

from harness.lookup import run_folders
from harness.manifest import Manifest, read_manifest
from harness.spreads import SPREADS, Spread, Task, figures_of, read_spreads, task_of, write_spreads
from harness.store import MANIFEST

WAYS = (("portable", 1), ("portable", 2), ("portable", 4))
"""Profiles and threads that round in different ways; not on every processor does `strict` add another."""
FALSE_ALARMS = 0.01
"""How often a pair of runs that differ in rounding alone may be blamed, for all figures together."""

Runs = Mapping[tuple[str, int, int], Manifest]


def collect(spec: Path, first_seed: int, num_seeds: int, runs_dir: Path) -> tuple[Runs, list[int]]:
    """Run seed after seed until enough have come to their end under every way to round.

    Returns
    -------
    tuple
        The runs of these seeds, and the seeds that are left out, because a run of theirs collapsed: a
        tolerance is only spoken of between runs that have not.
    """
    taken: dict[tuple[str, int, int], Manifest] = {}
    left_out: list[int] = []
    for seed in itertools.count(first_seed):
        if len(taken) == num_seeds * len(WAYS):
            return taken, left_out
        if len(left_out) > num_seeds:
            raise SystemExit(f"seeds {left_out} collapsed: this spec trains too briefly to measure by")
        of_seed = {(*way, seed): _run(spec, *way, seed, runs_dir) for way in WAYS}
        if all(manifest.status == "completed" for manifest in of_seed.values()):
            taken |= of_seed
        else:
            left_out.append(seed)
    raise AssertionError("seeds do not end")


def _run(spec: Path, profile: str, threads: int, seed: int, runs_dir: Path) -> Manifest:
    wanted = (profile, threads, seed)
    found = _found(runs_dir)
    if wanted not in found:
        values = (f"exactness.profile={profile}", f"exactness.threads={threads}", f"seed={seed}")
        sets = [word for value in (*values, "products.pictures=false") for word in ("--set", value)]
        command = [sys.executable, "-m", "harness", "run", str(spec), "--runs-dir", str(runs_dir), *sets]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        found = _found(runs_dir)
    if wanted not in found:
        raise SystemExit(f"the run with seed {seed} did not come to its end")
    return found[wanted]


def _found(runs_dir: Path) -> Runs:
    manifests = [read_manifest(path) for path in run_folders(runs_dir) if (path / MANIFEST).is_file()]
    return {
        (one.exactness.profile, one.exactness.threads, one.seeds["seed"]): one
        for one in manifests
        if one.status in {"completed", "collapsed"}
    }


def tabulate(runs: Runs, left_out: Sequence[int]) -> Task:
    """Work out, for every figure, how far rounding and seeds move it.

    The variance within a seed, over the ways to round, is pooled over the seeds. The threshold is the
    half-width of the interval in which the difference of two new runs lies, by Student's t, at
    `FALSE_ALARMS` shared by all figures.

    Parameters
    ----------
    runs
        Profile, threads and seed to the run's manifest.
    left_out
        Seeds that collapsed; told, not used.
    """
    seeds = sorted({seed for _, _, seed in runs})
    digests = {manifest.compared["final_tensor_digest"] for manifest in runs.values()}
    if len(digests) != len(runs):
        raise SystemExit("two ways to round gave the same bits: they are no two measurements")
    names = sorted(set.intersection(*(set(figures_of(one)) for one in runs.values())))
    freedom = len(seeds) * (len(WAYS) - 1)
    factor = float(student_t.ppf(1 - FALSE_ALARMS / 2 / len(names), freedom)) * math.sqrt(2)
    return Task(
        spec=next(iter(runs.values())).name,
        seeds=tuple(seeds),
        left_out=tuple(left_out),
        ways=tuple(f"{profile}, {threads} thread(s)" for profile, threads in WAYS),
        freedom=freedom,
        torch=str(next(iter(runs.values())).exactness.observed["torch"]),
        cpu=next(iter(runs.values())).environment.cpu.model,
        figures={name: _spread(_by_seed(runs, seeds, name), factor) for name in names},
    )


def _by_seed(runs: Runs, seeds: Sequence[int], name: str) -> list[list[float]]:
    return [[figures_of(runs[profile, threads, seed])[name] for profile, threads in WAYS] for seed in seeds]


def _spread(by_seed: Sequence[Sequence[float]], factor: float) -> Spread:
    pooled = math.sqrt(statistics.fmean(statistics.variance(values) for values in by_seed))
    return Spread(
        threshold=_rounded(factor * pooled),
        largest_by_rounding=_rounded(max(max(values) - min(values) for values in by_seed)),
        deviation_by_rounding=_rounded(pooled),
        deviation_by_seed=_rounded(statistics.stdev(values[0] for values in by_seed)),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def lines(task: Task) -> Iterator[str]:
    """Show the table."""
    yield f"{'figure':<30}{'rounding, sd':>14}{'largest':>12}{'threshold':>12}{'seeds, sd':>12}"
    for name, one in task.figures.items():
        yield (
            f"{name:<30}{one.deviation_by_rounding:>14g}{one.largest_by_rounding:>12g}"
            f"{one.threshold:>12g}{one.deviation_by_seed:>12g}"
        )


def main() -> None:
    """Measure, write the table, and show it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("spec", type=Path)
    parser.add_argument("--runs-dir", type=Path, required=True)
    parser.add_argument("--first-seed", type=int, default=7)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--table", type=Path, default=SPREADS)
    asked = parser.parse_args()
    runs, left_out = collect(asked.spec, asked.first_seed, asked.seeds, asked.runs_dir)
    (task,) = {task_of(manifest) for manifest in runs.values()}
    measured = tabulate(runs, left_out)
    write_spreads(asked.table, {**read_spreads(asked.table), task: measured})
    sys.stdout.writelines(f"{line}\n" for line in lines(measured))


if __name__ == "__main__":
    main()
