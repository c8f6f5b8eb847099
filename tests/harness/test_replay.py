"""A run is carried out once more under its own conditions, or it is said why not."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.executors.local import LocalExecutor
from harness.recorded import Recorded, load, locate_data
from harness.replay import Stage, replay, set_stage
from ptycho_torch.trace import TraceLine
from tests.harness.conftest import Bench, commit

LINES = [TraceLine(step + 1, 0, step, "d", "0x1p+0") for step in range(8)]


def stage_of(bench: Bench, recorded: Recorded, cache: Path) -> Stage:
    executor = LocalExecutor(sys.executable, bench.root)
    found = locate_data(recorded, ())
    return set_stage(recorded, executor, found, root=bench.root, cache=cache, restores=False)


def test_a_run_is_replayed_with_its_own_code_when_the_checkout_has_moved_on(
    own_tree: Path, make_bench: Callable[[Path], Bench], tmp_path: Path
) -> None:
    bench = make_bench(own_tree)
    recorded = load(bench.run().path)
    with (own_tree / "ptycho_torch" / "module.py").open("a") as file:
        file.write("# later\n")
    commit(own_tree)
    stage = stage_of(bench, recorded, tmp_path / "cache")
    assert dict(stage.executor.source_files()) == dict(recorded.manifest.code.files)
    assert stage.conditions == ()


def test_code_that_cannot_look_into_a_batch_is_named(bench: Bench, tmp_path: Path) -> None:
    recorded = load(bench.run().path)
    files = {
        path: digest for path, digest in recorded.manifest.code.files.items() if path != "harness/examined.py"
    }
    code = dataclasses.replace(recorded.manifest.code, files=files)
    older = dataclasses.replace(recorded, manifest=dataclasses.replace(recorded.manifest, code=code))
    with pytest.raises(HarnessError, match="cannot look into a batch yet"):
        stage_of(bench, older, tmp_path)


def test_a_run_whose_data_are_not_here_is_not_replayed_on_others(bench: Bench, tmp_path: Path) -> None:
    recorded = load(bench.run().path)
    bench.data.unlink()
    with pytest.raises(HarnessError, match="no file with sha256"):
        stage_of(bench, recorded, tmp_path)


@pytest.mark.parametrize(
    ("batch", "start"), [(0, "the beginning"), (3, "the state after step 2"), (7, "the state after step 5")]
)
def test_a_replay_starts_at_the_newest_state_before_its_batch(bench: Bench, batch: int, start: str) -> None:
    path = bench.run().path
    for step in (2, 5):
        (path / "checkpoints" / f"resume-{step:09d}.ckpt").write_bytes(b"a state")
    recorded = load(path)
    stage = Stage(recorded, bench.executor(), locate_data(recorded, ()), bench.root)
    assert replay(stage, LINES, batch).start == start


def test_a_worker_that_dies_before_the_batch_leaves_a_problem_and_no_finding(bench: Bench) -> None:
    recorded = load(bench.run().path)
    stage = Stage(recorded, bench.executor("crash"), locate_data(recorded, ()), bench.root)
    shown = replay(stage, LINES, 3)
    assert shown.problem == "its worker did not come so far: it left no word"
    assert not shown.repeats
