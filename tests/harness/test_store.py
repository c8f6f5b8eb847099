"""Run folders: made once, held by a lock, written durably, readable after any death."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.contents import recorded_files, sync_files
from harness.errors import UserError
from harness.lookup import find_run, run_folders
from harness.store import (
    JOURNAL,
    LOCK,
    append_event,
    create_run,
    is_held,
    read_events,
    read_json,
    state_without_manifest,
    write_durably,
    write_json,
)
from tests.disk_calls import file_sync, folder_sync, note_disk_calls, rename_to
from tests.waiting import until

HOLD = """
import subprocess, sys
from pathlib import Path
from harness.store import create_run
run = create_run(Path(sys.argv[1]), "held")
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=[run.lock_fd])
print(run.path, child.pid, flush=True)
child.wait()
"""


def test_runs_created_at_the_same_moment_get_folders_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: create_run(tmp_path, "same"), range(8)))
    assert len({run.path for run in runs}) == 8
    assert list(run_folders(tmp_path)) == sorted(run.path for run in runs)
    for run in runs:
        with run:
            assert run.path.name.startswith("same-20")


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b", "x" * 101])
def test_a_name_that_cannot_be_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot name a run folder"):
        create_run(tmp_path / "runs", name)


def test_a_folder_that_cannot_be_written_is_refused_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--runs-dir"):
        create_run(tmp_path / "file", "name")


def test_the_lock_is_held_until_the_run_is_left(tmp_path: Path) -> None:
    with create_run(tmp_path, "name") as run:
        assert is_held(run.path)
        assert state_without_manifest(run.path) == "running"
    assert not is_held(run.path)
    assert state_without_manifest(run.path) == "interrupted"


def test_a_killed_host_leaves_the_run_running_until_its_worker_is_dead_too(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as host:
        assert host.stdout is not None
        path, worker = host.stdout.readline().split()
        host.kill()
        host.wait()
    assert state_without_manifest(Path(path)) == "running"
    os.kill(int(worker), signal.SIGKILL)
    until(lambda: not is_held(Path(path)))
    assert state_without_manifest(Path(path)) == "interrupted"


def test_a_lock_file_that_was_copied_elsewhere_is_not_held(tmp_path: Path) -> None:
    with create_run(tmp_path, "name") as run:
        copy = tmp_path / "copy"
        copy.mkdir()
        (copy / LOCK).write_bytes((run.path / LOCK).read_bytes())
        assert not is_held(copy)


def test_a_file_is_replaced_whole_and_leaves_nothing_else_behind(tmp_path: Path) -> None:
    write_durably(tmp_path / "file", b"first")
    write_durably(tmp_path / "file", b"second")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"second"}


def test_a_file_gets_its_name_after_its_bytes_are_on_the_disk_and_before_its_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = note_disk_calls(monkeypatch)
    path = tmp_path / "file"
    write_durably(path, b"some bytes")
    assert calls == [file_sync(path), rename_to(path), folder_sync(tmp_path)]
    assert path.stat().st_size == len(b"some bytes")


def test_every_event_is_on_the_disk_at_once_and_a_new_journal_in_its_folder_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = note_disk_calls(monkeypatch)
    path = tmp_path / JOURNAL
    append_event(tmp_path, "first")
    assert calls == [file_sync(path), folder_sync(tmp_path)]
    calls.clear()
    append_event(tmp_path, "second")
    assert calls == [file_sync(path)]


def test_a_new_run_folder_is_on_the_disk_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = note_disk_calls(monkeypatch)
    with create_run(tmp_path, "name") as run:
        assert {folder_sync(tmp_path), folder_sync(run.path), file_sync(run.path / JOURNAL)} <= set(calls)


def test_files_are_synced_with_every_folder_that_holds_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    names = ("one", "a/b/two")
    for name in names:
        (tmp_path / name).write_text(name)
    calls = note_disk_calls(monkeypatch)
    sync_files(tmp_path, names)
    files = [file_sync(tmp_path / name) for name in names]
    folders = {folder_sync(tmp_path / name) for name in ("", "a", "a/b")}
    assert calls[:2] == files
    assert set(calls[2:]) == folders


def test_a_write_that_fails_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(OSError, match="target"):
        write_durably(tmp_path / "target", b"data")
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_json_is_written_the_same_whatever_the_order_of_its_keys(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": 0.1})
    write_json(tmp_path / "b.json", {"a": 0.1, "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert read_json(tmp_path / "a.json") == {"a": 0.1, "b": 1}


def test_what_is_no_number_in_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})


def test_json_that_is_damaged_or_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match=r"a\.json is damaged"):
        read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match=r"b\.json is missing"):
        read_json(tmp_path / "b.json")


def test_a_torn_last_line_of_the_journal_is_left_out_and_does_not_spoil_the_next(tmp_path: Path) -> None:
    append_event(tmp_path, "first")
    with (tmp_path / JOURNAL).open("ab") as journal:
        journal.write(b'{"event": "to')
    assert [event["event"] for event in read_events(tmp_path)] == ["first"]
    append_event(tmp_path, "second", step=3)
    events = read_events(tmp_path)
    assert [event["event"] for event in events] == ["first", "second"]
    assert events[1]["step"] == 3


def test_an_event_of_which_the_disk_takes_a_part_is_no_event_without_a_word(tmp_path: Path) -> None:
    append_event(tmp_path, "first")
    limit = (tmp_path / JOURNAL).stat().st_size + 10
    code = (
        "import resource, sys; from pathlib import Path; from harness.store import append_event as append; "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); append(Path(sys.argv[1]), 'second')"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 1
    assert "File too large" in answer.stderr
    assert [event["event"] for event in read_events(tmp_path)] == ["first"]


def test_events_appended_by_many_at_once_are_all_there(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: append_event(tmp_path, "event", number=number), range(40)))
    lines = (tmp_path / JOURNAL).read_text(encoding="utf-8").splitlines()
    assert sorted(json.loads(line)["number"] for line in lines) == list(range(40))


def test_a_run_is_found_by_path_and_by_name(tmp_path: Path) -> None:
    with create_run(tmp_path, "name") as run:
        assert find_run(str(run.path), Path("elsewhere")) == run.path.resolve()
        assert find_run(run.path.name, tmp_path) == run.path.resolve()
    with pytest.raises(UserError, match="there is no run 'other'"):
        find_run("other", tmp_path)


def test_a_run_that_is_not_there_is_answered_with_the_one_that_was_probably_meant(tmp_path: Path) -> None:
    names = ["star-20260101T000000Z-aaaaaa", "star-20260102T000000Z-bbbbbb", "other-20260103T000000Z-cccccc"]
    for name in names:
        (tmp_path / name).mkdir()
        append_event(tmp_path / name, "created", name=name)
    for asked, meant in [("star", names[1]), (names[0][:-1] + "b", names[0]), ("other-2026", names[2])]:
        with pytest.raises(UserError, match=f"did you mean '{meant}'"):
            find_run(asked, tmp_path)
    with pytest.raises(UserError, match="see `harness list`"):
        find_run("quite another", tmp_path)


def test_a_folder_that_is_no_run_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    assert list(run_folders(tmp_path)) == []
    assert list(run_folders(tmp_path / "absent")) == []


def test_the_record_leaves_out_what_is_written_later_or_for_this_machine_only(tmp_path: Path) -> None:
    for name in ("spec.yaml", "journal.jsonl", "lock", "inputs.json", "progress.json", ".spec.yaml.12.tmp"):
        (tmp_path / name).write_text("text")
    (tmp_path / "products").mkdir()
    (tmp_path / "products" / "phase.png").write_bytes(b"\x89PNG")
    files = recorded_files(tmp_path)
    assert sorted(files) == ["products/phase.png", "spec.yaml"]
    assert files["spec.yaml"]["size"] == 4
