"""Quality against CPU-seconds of the network alone: phase SSIM of trainings of several lengths and seeds.

    python -m benchmarks.network SCAN --runs-dir FOLDER [--epochs 3 8 16 32] [--seeds 1 2 3] [--set KEY=VALUE]
                                      [--init-from RUN]

Runs the spec that ``harness new`` writes for the scan, of which the truth must be known. Every length is a
training of its own with its own warm-up and cosine. With ``--init-from`` each begins with the weights of
that run; what ``harness reconstruct`` put into FOLDER counts as such a training of no length. Takes what
FOLDER holds already, and prints one table; ``benchmarks.quality --network FOLDER`` draws it, and
``--transfer FOLDER`` that of another scan.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.lookup import run_folders
from harness.manifest import Manifest, read_manifest
from harness.store import MANIFEST

ENDED = ("completed", "collapsed")
CHANCE, TRAINED = "chance", "trained"
"""What a training starts from: weights drawn by its seed, or those of another training (``init_from``)."""


@dataclass(frozen=True)
class Training:
    """One training: its start, length and seed, processor time of the training alone, and what came of it."""

    start: str
    epochs: int
    seed: int
    cpu_seconds: float
    status: str
    phase_ssim: float
    phase_correlation: float
    explained: float | None
    folder: Path

    @property
    def key(self) -> tuple[str, int, int]:
        """What tells it from the others of a folder."""
        return self.start, self.epochs, self.seed

    def __str__(self) -> str:
        return (
            f"| {self.start} | {self.epochs} | {self.seed} | {self.cpu_seconds:.0f} | "
            f"{self.phase_ssim:.3f} | {self.phase_correlation:.3f} | "
            f"{'' if self.explained is None else format(self.explained, '.2f')} | {self.status} |"
        )


def trainings(runs_dir: Path) -> list[Training]:
    """Return the trainings that a folder holds, by start, length and seed."""
    kept = [path for path in run_folders(runs_dir) if (path / MANIFEST).is_file()]
    ended = [_training(path, one) for path in kept if (one := read_manifest(path)).status in ENDED]
    return sorted(ended, key=lambda one: one.key)


def _training(folder: Path, manifest: Manifest) -> Training:
    figures, untouched = manifest.metrics, any(one.role == "model" for one in manifest.data)
    begun = untouched or manifest.resolved["init_from"].value is not None
    return Training(
        start=TRAINED if begun else CHANCE,
        epochs=0 if untouched else int(figures["epochs"]),
        seed=manifest.seeds["seed"],
        cpu_seconds=0.0 if untouched else manifest.timings["training_cpu_seconds"],
        status=manifest.status,
        phase_ssim=figures["phase_ssim"],
        phase_correlation=figures["phase_correlation"],
        explained=None if untouched else figures["collapse_explained"],
        folder=folder,
    )


def train(scan: Path, epochs: int, seed: int, runs_dir: Path, sets: Sequence[str]) -> None:
    """Run the spec that ``harness new`` writes, so many epochs with this seed."""
    own = (f"seed={seed}", f"training.epochs={epochs}")
    words = [word for one in (*own, "products.pictures=false", *sets) for word in ("--set", one)]
    with tempfile.TemporaryDirectory() as folder:
        spec = str(Path(folder) / "spec.yaml")
        _harness("new", str(scan), "-o", spec)
        _harness("run", spec, "--runs-dir", str(runs_dir), "--data-dir", str(scan.parent), *words)


def _harness(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness", *words], check=False, capture_output=True, text=True
    )
    if done.returncode not in {0, 1}:
        sys.exit(done.stderr)


def main() -> None:
    """Train what is not there yet, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scan", type=Path)
    parser.add_argument("--runs-dir", type=Path, required=True)
    parser.add_argument("--epochs", type=int, nargs="+", default=[3, 8, 16, 32])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--init-from", type=Path, metavar="RUN", help="start from the weights of this run")
    asked = parser.parse_args()
    start = CHANCE if asked.init_from is None else TRAINED
    own = [] if asked.init_from is None else [f"init_from={asked.init_from.resolve()}"]
    asked.runs_dir.mkdir(parents=True, exist_ok=True)
    for epochs in asked.epochs:
        for seed in asked.seeds:
            if (start, epochs, seed) not in {one.key for one in trainings(asked.runs_dir)}:
                train(asked.scan.resolve(), epochs, seed, asked.runs_dir, [*asked.sets, *own])
    print("| start | epochs | seed | CPU-s training | phase SSIM | phase correlation | explained | status |")
    print("|---|---|---|---|---|---|---|---|")
    for one in trainings(asked.runs_dir):
        print(one)


if __name__ == "__main__":
    main()
