"""One run, from what was resolved to its manifest, with a real worker process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.errors import ExitCode, HarnessError
from harness.executors.local import LocalExecutor
from harness.listing import summary
from harness.lookup import run_folders
from harness.manifest import read_manifest
from harness.progress import read_progress
from harness.run import exit_code, run
from harness.store import MANIFEST, file_digest, is_held, read_events
from tests.disk_calls import file_sync, folder_sync, note_disk_calls, rename_to
from tests.harness.conftest import Bench, broken_interpreter
from tests.waiting import PATIENCE_S, until

ROOT = Path(__file__).parents[2]
HOST = """
import sys
from pathlib import Path
from harness.run import exit_code
from tests.harness.conftest import Bench
root, spec, runs, behaviour = sys.argv[1:]
finished = Bench(Path(root), Path(spec), Path(runs)).run(behaviour)
sys.exit(exit_code(finished))
"""


@contextmanager
def host(bench: Bench, behaviour: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A host process whose worker waits for a signal."""
    command = [sys.executable, "-c", HOST, str(bench.root), str(bench.spec), str(bench.runs), behaviour]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as process:

        def waiting() -> list[Path]:
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            return [one for one in run_folders(bench.runs) if read_progress(one).get("phase") == "waiting"]

        until(waiting, "a worker that waits")
        try:
            yield process, waiting()[0]
        finally:
            process.kill()


def worker_of(path: Path) -> list[int]:
    """Processes that have the run folder on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and entry.name != str(os.getpid()):
            try:
                line = (entry / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if str(path).encode() in line.split(b"\0"):
                found.append(int(entry.name))
    return found


def test_a_run_leaves_its_folder_complete(bench: Bench) -> None:
    finished = bench.run()
    names = {
        path.relative_to(finished.path).as_posix() for path in finished.path.rglob("*") if path.is_file()
    }
    assert {
        "spec.yaml",
        "resolved.json",
        "outcome.json",
        "manifest.json",
        "journal.jsonl",
        "checkpoints/last.ckpt",
        "products/weights.safetensors",
        "logs/worker.log",
        "environment.lock",
    } <= names
    assert (finished.path / "spec.yaml").read_text() == bench.spec.read_text()
    assert (finished.path / "logs" / "worker.log").read_text() == "the stand-in has begun\n"
    assert exit_code(finished) is ExitCode.OK
    assert summary(finished.path)["status"] == "completed"
    assert not is_held(finished.path)


def contents(path: Path) -> dict[str, str]:
    """Digest of every file that is not hidden, by its relative path."""
    files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    return {name: file_digest(file) for name, file in files.items() if not name.startswith(".")}


def test_nothing_changes_once_the_manifest_stands(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, before = os.replace, {}

    def look_first(source: str, target: Path) -> None:
        if Path(target).name == MANIFEST:
            before.update(contents(Path(target).parent))
        replace(source, target)

    monkeypatch.setattr(os, "replace", look_first)
    path = bench.run().path
    assert MANIFEST not in before
    assert {"outcome.json", "journal.jsonl", "products/weights.safetensors", "logs/worker.log"} <= set(before)
    assert contents(path) == {**before, MANIFEST: file_digest(path / MANIFEST)}


def test_everything_that_the_manifest_records_is_on_the_disk_before_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = note_disk_calls(monkeypatch)
    finished = bench.run()
    path = finished.path
    until_then = calls[: calls.index(rename_to(path / MANIFEST))]
    names = set(finished.manifest.files)
    assert {"logs/worker.log", "checkpoints/last.ckpt", "products/weights.safetensors"} <= names
    assert names == {name for name in names if file_sync(path / name) in until_then}
    for folder in ("logs", "checkpoints", "products", ""):
        assert until_then.index(folder_sync(path / folder)) >= 0, folder
    last = len(until_then) - 1 - until_then[::-1].index(folder_sync(path))
    assert last > max(until_then.index(file_sync(path / name)) for name in ("spec.yaml", "logs/worker.log"))


def test_the_manifest_holds_what_was_asked_what_it_ran_on_and_what_came_out(bench: Bench) -> None:
    manifest = read_manifest(bench.run("complete", "training.epochs=3").path)
    assert manifest.resolved["training.epochs"].value == 3
    assert manifest.resolved["training.epochs"].source == "explicit override"
    assert manifest.resolved["training.epochs"].shadowed[0].value == 2
    assert manifest.resolved["training.epochs"].shadowed[0].place == "spec.yaml:4:34"
    assert manifest.overrides_applied["n_groups"] == 10
    assert manifest.exactness.threads == 1
    assert manifest.environment.packages["numpy"].version
    assert manifest.environment.lock is not None
    assert manifest.code.commit is not None
    assert not manifest.code.dirty
    assert [(record.role, record.name) for record in manifest.data] == [("train", "scan.npz")]
    assert manifest.compared["final_tensor_digest"] == manifest.checkpoints[0].tensor_digest
    assert manifest.compared["metrics.phase_correlation"] == 0.9
    assert manifest.files["spec.yaml"].size == len(bench.spec.read_bytes())


def test_no_stored_path_is_absolute(bench: Bench) -> None:
    finished = bench.run()
    for name in ("manifest.json", "resolved.json", "inputs.json", "outcome.json", "journal.jsonl"):
        text = (finished.path / name).read_text()
        assert str(bench.spec.parent) not in text.replace(str(bench.spec), "spec.yaml"), name


def test_runs_of_one_spec_agree_in_every_compared_fact_and_in_nothing_of_the_machine(bench: Bench) -> None:
    first, second = bench.run().manifest, bench.run().manifest
    assert first.compared == second.compared
    assert first.timings != second.timings
    assert not set(first.compared) & {"host", "created", "training_seconds"}


def test_two_runs_started_at_the_same_moment_are_two_complete_folders(bench: Bench) -> None:
    command = [sys.executable, "-c", HOST, str(bench.root), str(bench.spec), str(bench.runs), "complete"]
    with ThreadPoolExecutor(2) as pool:
        codes = list(pool.map(lambda _: subprocess.run(command, cwd=ROOT, check=False).returncode, range(2)))
    assert codes == [0, 0]
    assert [summary(path)["status"] for path in run_folders(bench.runs)] == ["completed", "completed"]


@pytest.mark.parametrize(
    ("behaviour", "status", "sentence"),
    [
        ("fail", "failed", "the loss is not a number"),
        ("collapse", "collapsed", None),
        ("crash", "failed", "the worker ended with status 7 and left no outcome: see logs/worker.log"),
        (
            "killed",
            "failed",
            "the worker was killed (SIGKILL), often for want of memory: see logs/worker.log",
        ),
        (
            "full disk",
            "failed",
            "the worker could not write how it ended (No space left on device): see logs/worker.log",
        ),
        (
            "states stay",
            "completed",
            "the disk failed as the states to continue from were removed (Input/output error)",
        ),
        (
            "nonsense",
            "failed",
            "the worker's outcome.json is not an outcome: status: Input should be 'completed'",
        ),
        ("torn", "failed", "products/weights.safetensors is not what the worker wrote"),
        ("stale", "failed", "the source files changed while the run was starting: run it again"),
    ],
)
def test_a_run_that_did_not_go_well_gets_a_manifest_that_says_why(
    bench: Bench, behaviour: str, status: str, sentence: str | None
) -> None:
    finished = bench.run(behaviour)
    manifest = read_manifest(finished.path)
    assert manifest.status == status
    assert exit_code(finished) is (ExitCode.OK if status == "completed" else ExitCode.RUN_FAILED)
    if sentence is not None:
        assert manifest.error is not None
        assert manifest.error.startswith(sentence)


def test_a_figure_that_is_not_a_number_is_kept_as_a_word(bench: Bench) -> None:
    assert read_manifest(bench.run("fail").path).metrics["train_loss"] == "nan"


def test_nothing_of_the_callers_locale_zone_or_python_reaches_the_worker(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bench.run("environment").manifest
    for name, value in {
        "LANG": "de_DE.UTF-8",
        "LC_ALL": "tr_TR.UTF-8",
        "TZ": "Asia/Tokyo",
        "PYTHONHASHSEED": "7",
        "PYTHONOPTIMIZE": "2",
        "OMP_NUM_THREADS": "8",
        "MKL_CBWR": "AVX2",
        "UNRELATED": "x",
    }.items():
        monkeypatch.setenv(name, value)
    second = bench.run("environment")
    assert second.manifest.compared == first.compared
    seen = json.loads((second.path / "products" / "environment.json").read_text())
    assert (seen["LANG"], seen["TZ"], seen["OMP_NUM_THREADS"]) == ("C.UTF-8", "UTC", "1")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)]
)
def test_a_request_to_stop_reaches_the_worker_and_the_run_is_interrupted(
    bench: Bench, number: signal.Signals, code: int
) -> None:
    with host(bench, "wait") as (process, path):
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == code
    manifest = read_manifest(path)
    assert (manifest.status, manifest.error) == ("interrupted", "stopped by signal 15")
    assert manifest.attempts[0].exit_status == 143


@pytest.mark.parametrize(
    ("states", "told"),
    [((), "there is no earlier state"), ((9, 120), "the last state is that of step 120")],
)
def test_a_second_request_ends_a_worker_that_does_not_listen(
    bench: Bench, states: tuple[int, ...], told: str
) -> None:
    with host(bench, "ignore") as (process, path):
        for step in states:
            (path / "checkpoints" / f"resume-{step:09d}.ckpt").write_bytes(b"a state")
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        # Of two signals that are sent before it looks, a process hears one.
        assert b"once more (Ctrl-C)" in process.stderr.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
    manifest = read_manifest(path)
    assert manifest.status == "interrupted"
    assert manifest.error == f"the worker was stopped before it could save where it stood; {told}"
    assert worker_of(path) == []


def test_a_killed_host_leaves_a_run_that_is_running_then_interrupted_and_nothing_to_unlock(
    bench: Bench,
) -> None:
    with host(bench, "ignore") as (process, path):
        process.kill()
        process.wait()
        assert summary(path)["status"] == "running"
        for worker in worker_of(path):
            os.kill(worker, signal.SIGKILL)
        until(lambda: not is_held(path))
        assert summary(path)["status"] == "interrupted"
        assert summary(path)["name"] == "small"
    assert bench.run().manifest.status == "completed"
    assert sorted(summary(folder)["status"] for folder in run_folders(bench.runs)) == [
        "completed",
        "interrupted",
    ]


def test_what_goes_wrong_on_the_host_stands_in_the_journal(bench: Bench, tmp_path: Path) -> None:
    job = bench.job()
    executor = LocalExecutor(str(broken_interpreter(tmp_path)), bench.root)
    with pytest.raises(HarnessError, match="cannot describe itself"):
        run(job, executor, bench.runs, root=bench.root)
    (path,) = run_folders(bench.runs)
    assert read_events(path)[-1]["event"] == "failed"
    assert summary(path)["status"] == "failed"
