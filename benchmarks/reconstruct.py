"""What a reconstruction costs as its scan grows, in memory and time, and whether it repeats bit by bit.

    python -m benchmarks.reconstruct [--frames 2500 10000] [--folder FOLDER]

Trains the default network (N = 64, n_filters_scale 2, gridsize 1) for two steps, since what is computed does
not depend on what it has learnt, simulates a square scan of so many frames, and turns the network on it with
``harness reconstruct``; each is a process of its own. The last is verified. One table, whose rate counts all
that reconstructing takes: predicting, synchronising, stitching twice, judging frames and image.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lockstep import measure
from benchmarks.speed import INFER

ROOT = Path(__file__).resolve().parents[1]
STEP_PX, MARGIN_PX = 4, 70
"""Of the raster; and what an object must be wider than its positions."""

SPEC = """\
name: two-steps
data: {train: {file: train.npz}, validation_fraction: 0}
model: {N: 64, gridsize: 1, n_filters_scale: 2}
training: {n_groups: 32, epochs: 1, batch_size: 16}
products: {reconstruction: false}
execution: {checkpoint_monitor_metric: train_loss}
"""


@dataclass(frozen=True)
class Row:
    """One reconstruction.

    Parameters
    ----------
    frames, file_mb
        Frames of the scan, and the size of its file.
    canvas
        Rows and columns of the image.
    peak_mb
        Largest resident set of any process of the command.
    cpu_seconds, own_cpu_seconds
        Processor time of the worker, and without its imports and what it reads and checks beforehand.
    """

    frames: int
    file_mb: float
    canvas: tuple[int, int]
    peak_mb: float
    cpu_seconds: float
    own_cpu_seconds: float

    def __str__(self) -> str:
        rows, columns = self.canvas
        return (
            f"| {self.frames:,} | {self.file_mb:.0f} | {rows} x {columns} | {self.peak_mb:.0f} | "
            f"{self.cpu_seconds:.0f} | {self.frames / self.own_cpu_seconds:.1f} |"
        )


def harness(folder: Path, *words: str) -> tuple[int, float]:
    """Call the harness in a folder; return its exit status and the peak of its processes, MB."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "harness", *words]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss / 1024


def done(folder: Path, *words: str) -> float:
    """Call the harness, which must do it; return the peak."""
    status, peak = harness(folder, *words)
    if status:
        sys.exit(f"harness {' '.join(words)}: exit {status}\n{(folder / 'log').read_text()}")
    return peak


def simulate(folder: Path, side: int, file: str) -> None:
    """Simulate a raster of so many rows and columns."""
    size = (side - 1) * STEP_PX + MARGIN_PX
    sets = (f"object.size_px={size}", f"scan.rows={side}", f"scan.columns={side}", f"scan.step_px={STEP_PX}")
    done(folder, "simulate", "dead_leaves", "-o", file, *(word for one in sets for word in ("--set", one)))


def reconstruct(folder: Path, network: str, frames: int) -> tuple[Row, Path]:
    """Simulate a scan of so many frames and turn the network on it; return the run's folder, too."""
    import numpy as np

    scan, runs = folder / f"{frames}.npz", folder / "runs"
    simulate(folder, math.isqrt(frames), scan.name)
    before = {*runs.iterdir()}
    options = ("--runs-dir", "runs", "--set", "products.pictures=false")
    peak = done(folder, "reconstruct", network, scan.name, *options)
    (run,) = {*runs.iterdir()} - before
    timings = json.loads((run / "manifest.json").read_text())["timings"]
    with np.load(run / "products" / "reconstruction.npz") as image:
        canvas = image["coverage"].shape
    own = timings["reconstructing_cpu_seconds"]
    return Row(frames, scan.stat().st_size / 1e6, canvas, peak, timings["cpu_seconds"], own), run


def measured(folder: Path, counts: Sequence[int]) -> None:
    """Print the table, the verdict of the longest, and the rate of inference alone."""
    (folder / "spec.yaml").write_text(SPEC)
    simulate(folder, 8, "train.npz")
    done(folder, "run", "spec.yaml", "--runs-dir", "runs")
    (network,) = (folder / "runs").iterdir()
    print("| frames | file, MB | canvas, px | peak memory, MB | CPU-s, all | frames / CPU-s |", flush=True)
    print("|---|---|---|---|---|---|", flush=True)
    for frames in counts:
        row, run = reconstruct(folder, network.name, frames)
        print(row, flush=True)
    status, _ = harness(folder, "verify", run.name, "--runs-dir", "runs")
    print(f"verify of the last: exit {status}", flush=True)
    alone = measure(INFER[1], 1)["per_cpu_second"]
    print(f"inference alone (predicted and stitched), patches / CPU-s: {alone:.1f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, nargs="+", default=[2500, 10_000], help="square numbers")
    parser.add_argument("--folder", type=Path, help="where it is kept; by default a folder that is removed")
    asked = parser.parse_args()
    if odd := [count for count in asked.frames if math.isqrt(count) ** 2 != count]:
        parser.error(f"{odd[0]} is no square number: the scan is as high as it is wide")
    if asked.folder is not None:
        asked.folder.mkdir(parents=True)
        measured(asked.folder.resolve(), asked.frames)
        return
    with tempfile.TemporaryDirectory() as folder:
        measured(Path(folder), asked.frames)


if __name__ == "__main__":
    main()
