"""Plant one real difference between two runs, among harmless ones, and let `harness bisect` look for it."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.bisection import Bisection, Side, bisect_runs
from harness.manifest import read_manifest
from harness.recorded import load, locate_data
from harness.replay import Replay, replay, set_stage
from harness.resolve import resolve
from harness.run import Job
from harness.run import run as run_job
from harness.spec import read_spec
from tests.harness.conftest import commit
from tests.harness.test_road import only_run
from tests.proof.warm import WarmExecutor

Spec = dict[str, Any]

SPEC: Spec = {
    "name": "planted",
    "seed": 3,
    "data": {"train": {"file": "scan.npz"}, "validation_fraction": 0.1},
    "model": {"gridsize": 1, "n_filters_scale": 1, "attention": False, "probe_big": False},
    "training": {
        "n_groups": 24,
        "epochs": 3,
        "batch_size": 4,
        "stage_epochs": [1, 2],
        "stage_factors": [1.0, 0.5, 0.25],
    },
    "execution": {"scheduler": "MultiStage"},
    "exactness": {"profile": "portable", "threads": 1},
    "products": {"reconstruction": False},
}
"""Six steps an epoch, eighteen in all, in two to three seconds."""


def write_frames(path: Path) -> None:
    """Write a small scan of frames that differ from each other."""
    rng = np.random.default_rng(1)
    side, frames = 64, 36
    np.savez(
        path,
        diffraction=np.sqrt(rng.poisson(50.0, (frames, side, side))).astype(np.float32),
        xcoords=rng.uniform(40, 80, frames),
        ycoords=rng.uniform(40, 80, frames),
        probeGuess=rng.normal(size=(side, side)).astype(np.complex64),
    )


def environment(tree: Path) -> dict[str, str]:
    """Return the variables by which an interpreter finds this tree, and not the one it is started in."""
    own = {"PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1", "HARNESS_CACHE": str(tree.parent / "cache")}
    return {**os.environ, **own}


def harness(
    tree: Path, *arguments: str | Path, python: str = sys.executable
) -> subprocess.CompletedProcess[str]:
    """Run the command line of a source tree."""
    return subprocess.run(
        [python, "-m", "harness", *map(str, arguments)],
        env=environment(tree),
        capture_output=True,
        text=True,
        check=False,
    )


@dataclass
class Plot:
    """A piece of ground for two runs: a source tree, a spec and data for each.

    The source is a folder in which the first run has been carried out (:func:`prepare`); it is only done anew
    where a plant changes the code or the spec of both.
    """

    folder: Path
    source: Path
    python: tuple[str, str] = (sys.executable, sys.executable)
    specs: tuple[Spec, Spec] = field(default_factory=lambda: (copy.deepcopy(SPEC), copy.deepcopy(SPEC)))

    def __post_init__(self) -> None:
        self.trees = tuple(self.folder / name / "clone" for name in ("first", "second"))
        self.data = tuple(self.folder / name / "scan.npz" for name in ("first", "second"))
        shutil.copytree(self.source, self.trees[0].parent, symlinks=True)
        self.trees[1].parent.mkdir()
        shutil.copy(self.data[0], self.data[1])

    @property
    def changed(self) -> Spec:
        """The spec of the second run."""
        return self.specs[1]

    def both(self, edit: Callable[[Path], None]) -> None:
        """Change the code of both runs, and commit it."""
        self.forget()
        edit(self.trees[0])
        commit(self.trees[0])

    def forget(self) -> None:
        """Have the first run carried out anew."""
        shutil.rmtree(self.trees[0].with_name("runs"))

    def divide(self) -> None:
        """Give the second run code of its own, and differences that are not the cause."""
        shutil.copytree(self.trees[0], self.trees[1], dirs_exist_ok=True)
        for path in ("harness/listing.py", "ptycho_torch/plotting.py"):
            with (self.trees[1] / path).open("a") as file:
                file.write("# harmless\n")
        self.changed["name"] = "other"
        self.changed["execution"]["early_stop_patience"] = 90
        self.changed["inference"] = {"sync_rounds": 9}
        self.changed["checkpoints"] = {"every_seconds": 1000.0}

    def spec(self, which: int) -> Path:
        path = self.folder / ("first", "second")[which] / "spec.yaml"
        path.write_text(json.dumps(self.specs[which], indent=1))
        return path

    def run(self, which: int) -> Path:
        """Carry out one of the two runs, unless it has been."""
        runs = self.trees[which].with_name("runs")
        if not runs.is_dir():
            train(self.trees[which], self.spec(which), runs, self.python[which])
        return only_run(runs)

    def bisect(self, first: Path, second: Path) -> Bisection:
        """Look for the difference from the first run's tree, as it was when that run was made."""
        stages = {}

        def carry_out(side: Side, batch: int) -> Replay:
            if side.path not in stages:
                run = load(side.path)
                stages[side.path] = set_stage(
                    run,
                    WarmExecutor(self.python[0], self.trees[0]),
                    locate_data(run, ()),
                    root=self.trees[0],
                    cache=self.folder / "cache",
                    restores=False,
                )
            return replay(stages[side.path], side.lines, batch)

        sides = [Side.read(path, read_manifest(path)) for path in (first, second)]
        return bisect_runs(*sides, carry_out)


def train(tree: Path, spec_path: Path, runs: Path, python: str = sys.executable) -> Path:
    """Carry out a spec with the code of a tree."""
    executor = WarmExecutor(python, tree)
    spec = read_spec(spec_path)
    resolution = resolve(spec, executor.inventory())
    job = Job(resolution.run, spec.text, resolution.inputs)
    finished = run_job(job, executor, runs, root=tree)
    assert finished.manifest.status == "completed", finished.manifest.error
    return finished.path


def prepare(folder: Path, tree: Path) -> Path:
    """Carry out the first run of most plots, in a folder of its own."""
    shutil.copytree(tree, folder / "clone")
    write_frames(folder / "scan.npz")
    (folder / "spec.yaml").write_text(json.dumps(SPEC, indent=1))
    train(folder / "clone", folder / "spec.yaml", folder / "runs")
    return folder
