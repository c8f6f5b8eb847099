"""A run that was broken off goes on in its own folder: what is refused, recorded, and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.compare import Found
from harness.contents import saved_states
from harness.errors import ExitCode, UserError
from harness.listing import show_lines, summary
from harness.manifest import read_manifest
from harness.progress import read_progress
from harness.recorded import RefusedError, load, locate_data
from harness.resume import load_broken_off, resume
from harness.run import Finished, run
from harness.soundness import contradictions
from harness.store import MANIFEST, hold_run, is_held, read_events
from tests.harness.conftest import Bench, commit
from tests.harness.test_road import ROOT, SPEC, harness, listed, long_spec, manifest, only_run, start
from tests.harness.test_run import HOST
from tests.processes import living_worker_of, worker_of
from tests.waiting import until


def go_on(bench: Bench, path: Path, behaviour: str = "complete", *, regardless: bool = False) -> Finished:
    recorded = load_broken_off(path)
    return resume(
        recorded,
        bench.executor(behaviour),
        root=bench.root,
        found=locate_data(recorded, [bench.spec.parent]),
        regardless=regardless,
        look=lambda path: None,
        warn=lambda sentence: None,
        max_restarts=0,
    )


def test_a_killed_run_goes_on_in_its_folder_and_lists_both_attempts(bench: Bench) -> None:
    whole, broken = bench.run(), bench.run("killed")
    assert broken.manifest.status == "failed"
    finished = go_on(bench, broken.path)
    assert finished.path == broken.path
    assert finished.manifest.compared == whole.manifest.compared
    assert [attempt.exit_status for attempt in finished.manifest.attempts] == [-signal.SIGKILL, 0]
    assert finished.manifest.created == broken.manifest.created
    assert read_manifest(broken.path) == finished.manifest


def test_a_run_whose_host_died_goes_on_too(bench: Bench) -> None:
    broken = bench.run("killed")
    (broken.path / MANIFEST).unlink()
    assert go_on(bench, broken.path).manifest.status == "completed"


def test_a_run_whose_host_died_when_all_was_done_is_committed_without_training_and_without_its_states(
    bench: Bench,
) -> None:
    command = [sys.executable, "-c", HOST, str(bench.root), str(bench.spec), str(bench.runs), "host dies"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    path = only_run(bench.runs)
    until(lambda: not is_held(path))
    assert list((path / "checkpoints").glob("resume-*"))
    assert summary(path)["status"] == "interrupted"
    assert any("harness resume " in line for line in show_lines(path))
    with pytest.raises(
        UserError, match=r"has no manifest, it is interrupted: continue it by `harness resume "
    ):
        load(path)
    finished = go_on(bench, path)
    assert finished.manifest.status == summary(path)["status"] == "completed"
    assert [event["event"] for event in read_events(path)].count("started") == 1
    assert [one.name for one in (path / "checkpoints").iterdir()] == ["last.ckpt"]
    assert contradictions(load(path)) == ()
    with pytest.raises(UserError, match="is completed: there is nothing left to do"):
        load_broken_off(path)


def test_states_that_a_worker_could_not_remove_are_removed_by_its_host(bench: Bench) -> None:
    finished = bench.run("states stay")
    assert finished.manifest.status == "completed"
    assert [one.name for one in (finished.path / "checkpoints").iterdir()] == ["last.ckpt"]
    assert contradictions(load(finished.path)) == ()


def test_a_run_that_has_ended_is_not_continued(bench: Bench) -> None:
    path = bench.run().path
    with pytest.raises(UserError) as refused:
        load_broken_off(path)
    assert str(refused.value) == (
        f"{path.name} is completed: there is nothing left to do; run it again by `harness rerun {path}`"
    )


def test_a_running_run_is_not_continued(bench: Bench) -> None:
    path = bench.run("killed").path
    with hold_run(path):
        with pytest.raises(UserError, match="is running: wait for it"):
            load_broken_off(path)
        with pytest.raises(UserError, match="is running: wait for it"):
            hold_run(path)


def test_a_run_of_which_nothing_is_known_is_not_continued(bench: Bench) -> None:
    path = bench.run("killed").path
    (path / MANIFEST).unlink()
    (path / "begun.json").unlink()
    with pytest.raises(UserError, match="before its code and environment were known: run its spec again"):
        load_broken_off(path)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda lines: [], id="all of it is gone"),
        pytest.param(lambda lines: lines[1:], id="its first line is gone"),
        pytest.param(lambda lines: [*lines, b'{"event": "phase"}\n'], id="a line has no time"),
        pytest.param(lambda lines: [lines[0], *lines[1:2], b'{"event":"x","time":5}\n'], id="a time is none"),
    ],
)
def test_a_damaged_journal_is_refused_and_nothing_is_lost(
    bench: Bench, damage: Callable[[list[bytes]], list[bytes]]
) -> None:
    path = bench.run("killed").path
    journal = path / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert json.loads(lines[1])["event"] == "started"
    journal.write_bytes(b"".join(damage(lines)))
    before = {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}
    with pytest.raises(UserError, match="journal.jsonl is damaged: .* run the spec again"):
        go_on(bench, path)
    journal.unlink()
    with pytest.raises(UserError, match="journal.jsonl is damaged"):
        go_on(bench, path)
    del before["journal.jsonl"]
    assert {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()} == before
    journal.write_bytes(b"".join(lines))
    assert go_on(bench, path).manifest.status == "completed"


def test_other_code_is_refused_and_nothing_touched_unless_it_is_wanted(own_bench: Bench) -> None:
    path = own_bench.run("killed").path
    before = {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}
    with (own_bench.root / "harness" / "plan.py").open("a") as file:
        file.write("# another line\n")
    with pytest.raises(RefusedError, match=r"cannot be continued as it was:\n.*harness/plan\.py \(changed\)"):
        go_on(own_bench, path)
    old = read_manifest(path).code.commit
    commit(own_bench.root)
    with pytest.raises(RefusedError, match=f"git checkout {old} brings the run's commit back"):
        go_on(own_bench, path)
    assert {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()} == before
    go_on(own_bench, path, regardless=True)


@pytest.mark.parametrize("regardless", [False, True])
def test_other_data_are_refused_in_any_case(bench: Bench, regardless: bool) -> None:
    path = bench.run("killed").path
    recorded = load_broken_off(path)
    with pytest.raises(
        RefusedError, match=r"cannot be continued (as it was:\n  data: train|with other data)"
    ):
        resume(
            recorded,
            bench.executor(),
            root=bench.root,
            found={"train": Found(bench.data, "0" * 64)},
            regardless=regardless,
            look=lambda path: None,
            warn=lambda sentence: None,
            max_restarts=0,
        )
    assert (path / MANIFEST).is_file()


def test_what_differs_and_is_wanted_all_the_same_stands_in_the_manifest(own_bench: Bench) -> None:
    path = own_bench.run("killed").path
    with (own_bench.root / "harness" / "plan.py").open("a") as file:
        file.write("# another line\n")
    first, second = go_on(own_bench, path, regardless=True).manifest.attempts
    assert first.differences == ()
    assert any("harness/plan.py (changed)" in sentence for sentence in second.differences)


def test_a_run_whose_worker_was_done_when_the_host_died_is_not_trained_again(bench: Bench) -> None:
    done = bench.run()
    (done.path / MANIFEST).unlink()
    finished = go_on(bench, done.path, "killed")
    assert finished.manifest.status == "completed"
    assert finished.manifest.compared == done.manifest.compared
    assert len(finished.manifest.attempts) == 1


def test_a_worker_that_dies_without_a_word_is_started_again_as_often_as_allowed(bench: Bench) -> None:
    finished = run(bench.job(), bench.executor("killed"), bench.runs, root=bench.root, max_restarts=2)
    assert finished.manifest.status == "failed"
    assert [attempt.exit_status for attempt in finished.manifest.attempts] == [-signal.SIGKILL] * 3
    assert sum(event["event"] == "restarting" for event in read_events(finished.path)) == 2


def test_a_worker_that_says_why_it_failed_is_not_started_again(bench: Bench) -> None:
    finished = run(bench.job(), bench.executor("fail"), bench.runs, root=bench.root, max_restarts=2)
    assert len(finished.manifest.attempts) == 1


def step_of(runs: Path) -> int:
    return max(
        (json.loads(path.read_text()).get("step", 0) for path in runs.glob("*/progress.json")), default=0
    )


def saving_spec(tmp_path: Path, training: str) -> Path:
    path = tmp_path / "road.yaml"
    saving = "checkpoints: {every_steps: 1, every_seconds: null}\n"
    path.write_text(SPEC.replace("epochs: 1, batch_size: 8", training) + saving)
    return path


def killed_in_mid_epoch(spec: Path, runs: Path, *words: str) -> Path:
    """Start a run, kill host and worker at once after some steps, and return its folder."""
    host = start(spec, runs, *words)
    until(lambda: step_of(runs) >= 6)
    path = only_run(runs)
    worker = living_worker_of(path.resolve())
    for process in (host.pid, worker):
        os.kill(process, signal.SIGKILL)
    host.wait()
    until(lambda: listed(runs)[0]["status"] == "interrupted")
    return path


def test_the_real_worker_killed_in_mid_epoch_goes_on_to_the_bits_of_an_unbroken_run(tmp_path: Path) -> None:
    spec = saving_spec(tmp_path, "epochs: 8, batch_size: 8")
    harness("run", spec, runs=tmp_path / "whole")
    path = killed_in_mid_epoch(spec, tmp_path / "broken")
    told = read_progress(path)["cpu_seconds"]
    answer = harness("resume", path, runs=tmp_path / "broken")
    assert answer.returncode in {0, 1}, answer.stderr
    whole, resumed = manifest(only_run(tmp_path / "whole")), manifest(path)
    assert resumed["compared"] == whole["compared"]
    assert resumed["attempts"][0]["exit_status"] is None
    assert resumed["attempts"][1]["from_step"] >= 5
    spent, last = read_manifest(path).cpu_seconds, resumed["timings"]["cpu_seconds"]
    assert [attempt["cpu_seconds"] for attempt in resumed["attempts"]] == [told, last]
    assert spent == told + last > last + 1  # no worker comes to its sixth step within a second
    assert f"({spent:.0f} CPU-seconds)" in answer.stdout
    assert list((path / "checkpoints").glob("resume-*")) == []


@pytest.mark.slow
def test_a_killed_run_that_began_with_the_weights_of_another_goes_on_from_its_own(tmp_path: Path) -> None:
    spec = saving_spec(tmp_path, "epochs: 8, batch_size: 8")
    harness("run", spec, "--set", "training.epochs=1", "--set", "seed=3", runs=tmp_path / "before")
    words = ("--set", f"init_from={only_run(tmp_path / 'before')}")
    harness("run", spec, *words, runs=tmp_path / "whole")
    harness("run", spec, runs=tmp_path / "other")
    path = killed_in_mid_epoch(spec, tmp_path / "broken", *words)
    answer = harness("resume", path, runs=tmp_path / "broken")
    assert answer.returncode in {0, 1}, answer.stderr
    whole, resumed = manifest(only_run(tmp_path / "whole")), manifest(path)
    assert resumed["compared"] == whole["compared"]
    assert resumed["attempts"][1]["from_step"] >= 5
    other = manifest(only_run(tmp_path / "other"))
    assert other["compared"]["final_tensor_digest"] != whole["compared"]["final_tensor_digest"]


def count(runs: Path, event: str) -> int:
    return sum(told["event"] == event for path in runs.glob("*") for told in read_events(path))


def kill_worker(runs: Path, times: int) -> Path:
    """Kill the worker from outside, each time some steps further than before; return the run's folder."""
    reached = 0
    for kill in range(1, times + 1):
        until(lambda number=kill: count(runs, "started") == number)  # and its progress is its own
        until(lambda further=reached + 2: step_of(runs) > further)
        path = only_run(runs)
        worker = living_worker_of(path.resolve())
        os.kill(worker, signal.SIGKILL)
        until(lambda number=kill: count(runs, "worker ended") == number)
        reached = max(saved_states(path), default=0)
    return path


@pytest.mark.slow
def test_a_worker_killed_twice_is_started_again_by_itself_and_ends_in_the_bits_of_an_unbroken_run(
    tmp_path: Path,
) -> None:
    spec = saving_spec(tmp_path, "epochs: 2, batch_size: 1")  # 54 short steps: a kill may come late
    unbroken = harness("run", spec, runs=tmp_path / "whole")
    host = start(spec, tmp_path / "killed", "--max-restarts", "2")
    path = kill_worker(tmp_path / "killed", times=2)
    assert host.wait() == unbroken.returncode
    whole, killed = manifest(only_run(tmp_path / "whole")), manifest(path)
    assert killed["status"] == whole["status"]
    assert killed["compared"] == whole["compared"]
    assert [attempt["exit_status"] for attempt in killed["attempts"]] == [
        -signal.SIGKILL,
        -signal.SIGKILL,
        whole["attempts"][0]["exit_status"],
    ]
    origins = [attempt["from_step"] for attempt in killed["attempts"]]
    assert origins[0] == 0 < origins[1] < origins[2]
    assert list((path / "checkpoints").glob("resume-*")) == []


@pytest.mark.slow
def test_a_worker_killed_more_often_than_is_allowed_leaves_a_failed_run_that_can_be_continued(
    tmp_path: Path,
) -> None:
    runs = tmp_path / "runs"
    host = start(long_spec(tmp_path), runs, "--max-restarts", "1")
    path = kill_worker(runs, times=2)
    assert host.wait() == ExitCode.RUN_FAILED
    found = manifest(path)
    assert (found["status"], found["error"].partition(",")[0]) == (
        "failed",
        "the worker was killed (SIGKILL)",
    )
    assert [attempt["exit_status"] for attempt in found["attempts"]] == [-signal.SIGKILL] * 2
    assert sum(event["event"] == "restarting" for event in read_events(path)) == 1
    assert worker_of(path.resolve()) is None
    assert [run["status"] for run in listed(runs)] == ["failed"]
    assert load_broken_off(path).path.name == path.name
