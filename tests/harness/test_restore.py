"""What a run ran on, rebuilt."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from harness.code_capture import git, source_digest
from harness.errors import HarnessError
from harness.manifest import read_manifest
from harness.recorded import RefusedError
from harness.restore import Restored, hand_over, restore_environment, restore_tree
from harness.store import file_digest
from tests.harness.conftest import Bench, commit
from tests.harness.test_manifest import flip

INSTALLER = """\
#!/bin/sh
set -eu
echo "$PYTHON" >> "$(dirname "$0")/../installed-with.txt"
mkdir -p "$1/bin"
ln -sf "$(command -v "$PYTHON")" "$1/bin/python"
cp "$2" "$1/installed.lock"
"""


@pytest.fixture
def edited(own_tree: Path, make_bench: Callable[[Path], Bench]) -> Bench:
    """A tree with an installer, and an uncommitted edit and a new file on top."""
    (own_tree / "tools").mkdir()
    (own_tree / "tools" / "install.sh").write_text(INSTALLER)
    commit(own_tree)
    source = own_tree / "harness" / "verdict.py"
    source.write_text(source.read_text() + "# an uncommitted edit\n")
    (own_tree / "harness" / "extra.py").write_text('"""New."""\n')
    return make_bench(own_tree)


def move_on(root: Path) -> None:
    for number in range(3):
        (root / "harness" / "verdict.py").write_text(f"number = {number}\n")
        commit(root)


def test_the_recorded_tree_comes_back_after_the_clone_has_moved_on(edited: Bench, tmp_path: Path) -> None:
    path = edited.run().path
    code = read_manifest(path).code
    move_on(edited.root)
    tree = restore_tree(path, code, edited.root, tmp_path / "cache")
    assert source_digest(tree) == code.source_digest
    assert (tree / "harness" / "extra.py").exists()
    assert "an uncommitted edit" in (tree / "harness" / "verdict.py").read_text()
    assert git(tree, "rev-parse", "HEAD").decode().strip() == code.commit


def test_a_rebuilt_tree_is_used_again_and_mended_when_it_was_altered(edited: Bench, tmp_path: Path) -> None:
    path = edited.run().path
    code = read_manifest(path).code
    tree = restore_tree(path, code, edited.root, tmp_path / "cache")
    (tree / "mark").write_text("kept")
    assert restore_tree(path, code, edited.root, tmp_path / "cache") == tree
    assert (tree / "mark").exists()
    (tree / "harness" / "run.py").write_text("altered\n")
    restore_tree(path, code, edited.root, tmp_path / "cache")
    assert source_digest(tree) == code.source_digest
    shutil.rmtree(tree)
    restore_tree(path, code, edited.root, tmp_path / "cache")
    assert source_digest(tree) == code.source_digest


def test_a_tracked_file_beside_the_packages_counts_as_well(edited: Bench, tmp_path: Path) -> None:
    path = edited.run().path
    code = read_manifest(path).code
    tree = restore_tree(path, code, edited.root, tmp_path / "cache")
    (tree / "tools" / "install.sh").write_text("exit 1\n")
    assert restore_tree(path, code, edited.root, tmp_path / "cache") == tree
    assert (tree / "tools" / "install.sh").read_text() == INSTALLER


def test_a_tree_with_another_id_than_the_recorded_is_refused(edited: Bench, tmp_path: Path) -> None:
    path = edited.run().path
    code = replace(read_manifest(path).code, tree="0" * 40)
    with pytest.raises(RefusedError, match="recorded is 000000000000"):
        restore_tree(path, code, edited.root, tmp_path / "cache")


def test_a_commit_that_is_not_in_the_clone_is_refused(edited: Bench, planted: Path, tmp_path: Path) -> None:
    path = edited.run().path
    with pytest.raises(RefusedError, match="is not in .*: fetch it"):
        restore_tree(path, read_manifest(path).code, planted, tmp_path / "cache")


def test_a_patch_with_a_bit_flipped_is_refused(edited: Bench, tmp_path: Path) -> None:
    path = edited.run().path
    flip(path / "code" / "patch.diff", 99)
    with pytest.raises(RefusedError, match=r"patch\.diff is damaged"):
        restore_tree(path, read_manifest(path).code, edited.root, tmp_path / "cache")


def test_without_git_the_tree_comes_back_from_the_archive(edited: Bench, tmp_path: Path) -> None:
    shutil.rmtree(edited.root / ".git")
    path = edited.run().path
    code = read_manifest(path).code
    assert code.archive is not None
    (edited.root / "harness" / "verdict.py").write_text("later = True\n")
    tree = restore_tree(path, code, edited.root, tmp_path / "cache")
    assert source_digest(tree) == code.source_digest
    assert (tree / "tools" / "install.sh").is_file()


@pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="this Python's tarfile has no filters")
def test_an_archive_gives_no_file_a_mode_that_data_have_not(edited: Bench, tmp_path: Path) -> None:
    shutil.rmtree(edited.root / ".git")
    path = edited.run().path
    code = read_manifest(path).code
    assert code.archive is not None
    buffer = io.BytesIO()
    with tarfile.open(path / code.archive.path) as given, tarfile.open(fileobj=buffer, mode="w") as made:
        for member in given:
            member.mode = 0o4777
            made.addfile(member, given.extractfile(member))
    (path / code.archive.path).write_bytes(gzip.compress(buffer.getvalue()))
    stored = replace(code.archive, sha256=file_digest(path / code.archive.path))
    tree = restore_tree(path, replace(code, archive=stored), edited.root, tmp_path / "cache")
    assert stat.S_IMODE((tree / "harness" / "verdict.py").stat().st_mode) == 0o755


def test_the_environment_is_made_once_from_the_lock_in_the_run_folder(edited: Bench, tmp_path: Path) -> None:
    path = edited.run().path
    manifest = read_manifest(path)
    (edited.root / "docker" / "requirements-cpu.lock").write_text("another==2.0\n")
    tree = restore_tree(path, manifest.code, edited.root, tmp_path / "cache")
    for _ in range(2):
        python = restore_environment(path, manifest, tree, tmp_path / "cache", os.environ)
    assert (python.parent.parent / "installed.lock").read_bytes() == (path / "environment.lock").read_bytes()
    assert len((tree / "installed-with.txt").read_text().splitlines()) == 1


def test_an_environment_that_cannot_be_made_is_an_error(edited: Bench, tmp_path: Path) -> None:
    (edited.root / "tools" / "install.sh").write_text("exit 1\n")
    path = edited.run().path
    manifest = read_manifest(path)
    tree = restore_tree(path, manifest.code, edited.root, tmp_path / "cache")
    with pytest.raises(HarnessError, match="could not make"):
        restore_environment(path, manifest, tree, tmp_path / "cache", os.environ)
    (tree / "tools" / "install.sh").unlink()
    with pytest.raises(RefusedError, match="has no tools/install.sh"):
        restore_environment(path, manifest, tree, tmp_path / "cache", os.environ)
    flip(path / "environment.lock", 3)
    with pytest.raises(RefusedError, match=r"environment\.lock is damaged"):
        restore_environment(path, manifest, tree, tmp_path / "cache", os.environ)


def test_the_rebuilt_harness_takes_over_with_the_rebuilt_tree_first(tmp_path: Path) -> None:
    class TakenOverError(Exception):
        pass

    def execute(program: str, arguments: list[str], settings: dict[str, str]) -> NoReturn:
        assert program == sys.executable
        assert arguments[1:] == ["-m", "harness", "rerun", "RUN"]
        assert settings["PYTHONPATH"] == str(tmp_path)
        assert "VIRTUAL_ENV" not in settings
        assert settings["HARNESS_DATA"] == "data"
        raise TakenOverError

    caller = {"VIRTUAL_ENV": "/old", "PYTHONHOME": "/old", "PYTHONPATH": "/old", "HARNESS_DATA": "data"}
    with pytest.raises(TakenOverError):
        hand_over(Restored(tmp_path, Path(sys.executable)), ["rerun", "RUN"], caller, execute)
