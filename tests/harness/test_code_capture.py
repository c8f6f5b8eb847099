"""Which code a run ran, in real git repositories and without git."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from harness.code_capture import (
    ARCHIVE,
    LARGEST_UNTRACKED,
    PATCH,
    capture_code,
    digest_of_files,
    distance,
    git,
    revision,
    source_files,
    work_tree,
)
from harness.errors import HarnessError

IDENTITY = ("-c", "user.name=A", "-c", "user.email=a@example.org")


def plant(root: Path) -> Path:
    (root / "harness").mkdir(parents=True)
    (root / "ptycho_torch").mkdir()
    (root / "harness" / "run.py").write_text("one = 1\n")
    (root / "ptycho_torch" / "module.py").write_text("two = 2\n")
    (root / "pyproject.toml").write_text("[project]\n")
    return root


def commit(root: Path, message: str = "change") -> str:
    git(root, "add", "--all")
    git(root, *IDENTITY, "commit", "--quiet", "--allow-empty", "-m", message)
    return git(root, "rev-parse", "HEAD").decode().strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = plant(tmp_path / "clone")
    git(root, "init", "--quiet")
    (root / ".gitignore").write_text("ignored/\n")
    commit(root)
    return root


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "runs" / "run"
    path.mkdir(parents=True)
    return path


def restore(root: Path, commit_id: str, patch: Path, target: Path) -> Path:
    git(root, "worktree", "add", "--quiet", "--detach", str(target), commit_id)
    git(target, "apply", "--whitespace=nowarn", str(patch))
    return target


def test_a_clean_clone_is_its_commit_and_needs_no_patch(repository: Path, run_dir: Path) -> None:
    code = capture_code(repository, run_dir)
    assert code.commit == git(repository, "rev-parse", "HEAD").decode().strip()
    assert code.tree == git(repository, "rev-parse", "HEAD^{tree}").decode().strip()
    assert (code.dirty, code.patch, code.archive) == (False, None, None)


def test_the_patch_on_the_commit_gives_back_edits_new_binary_and_deleted_files(
    repository: Path, run_dir: Path, tmp_path: Path
) -> None:
    (repository / "harness" / "run.py").write_text("one = 11\n")
    (repository / "harness" / "table.bin").write_bytes(bytes(range(256)))
    (repository / "ptycho_torch" / "module.py").unlink()
    (repository / "ptycho_torch" / "tool.sh").write_text("#!/bin/sh\n")
    (repository / "ptycho_torch" / "tool.sh").chmod(0o755)
    code = capture_code(repository, run_dir)
    assert code.commit is not None
    assert code.dirty
    again = restore(repository, code.commit, run_dir / PATCH, tmp_path / "again")
    assert source_files(again) == dict(code.files)
    assert capture_code(again, run_dir).tree == code.tree
    assert (again / "ptycho_torch" / "tool.sh").stat().st_mode & stat.S_IXUSR


def test_capture_leaves_index_objects_and_files_of_the_clone_alone(repository: Path, run_dir: Path) -> None:
    (repository / "harness" / "new.py").write_text("three = 3\n")
    before = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}
    capture_code(repository, run_dir)
    after = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}
    assert before == after


def test_staged_and_hidden_changes_are_captured_too(repository: Path, run_dir: Path) -> None:
    (repository / "harness" / "run.py").write_text("one = 11\n")
    git(repository, "update-index", "--assume-unchanged", "harness/run.py")
    (repository / "harness" / "staged.py").write_text("four = 4\n")
    git(repository, "add", "harness/staged.py")
    code = capture_code(repository, run_dir)
    patch = (run_dir / PATCH).read_text()
    assert "+one = 11" in patch
    assert "+four = 4" in patch
    assert code.dirty


def test_the_callers_git_variables_and_the_repositorys_settings_do_not_reach_the_capture(
    repository: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "harness" / "run.py").write_text("one = 11\n")
    plain = capture_code(repository, run_dir)
    git(repository, "config", "diff.noprefix", "true")
    git(repository, "config", "diff.renames", "copies")
    git(repository, "config", "color.ui", "always")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    assert capture_code(repository, run_dir) == plain


def test_a_read_only_clone_even_of_another_owner_is_captured(repository: Path, run_dir: Path) -> None:
    (repository / "harness" / "new.py").write_text("three = 3\n")
    everything = (repository, *repository.rglob("*"))
    for path in everything:
        with contextlib.suppress(PermissionError):  # only root may, and not in every container
            os.chown(path, 12345, 12345)
        path.chmod(path.stat().st_mode & ~0o222)
    code = capture_code(repository, run_dir)
    for path in everything:
        path.chmod(path.stat().st_mode | stat.S_IWUSR)
    assert code.dirty


def test_data_and_runs_in_the_clone_are_named_but_not_captured(repository: Path) -> None:
    run_dir = repository / "results" / "run"
    run_dir.mkdir(parents=True)
    (run_dir / "spec.yaml").write_text("name: x\n")
    with (repository / "scan.npz").open("wb") as file:
        file.truncate(LARGEST_UNTRACKED + 1)
    (repository / "ignored").mkdir()
    (repository / "ignored" / "file").write_text("x")
    (repository / "other").mkdir()
    git(repository / "other", "init", "--quiet")
    code = capture_code(repository, run_dir)
    assert not code.dirty
    assert code.left_out == (
        "other: a git repository of its own",
        "results/run/spec.yaml: a run",
        "scan.npz: untracked and larger than 5 MB",
    )


def test_the_source_digest_sees_names_and_content_of_the_packages_only(repository: Path) -> None:
    def digest() -> str:
        return digest_of_files(source_files(repository))

    first = digest()
    (repository / "README.md").write_text("text\n")
    (repository / "harness" / "__pycache__").mkdir()
    (repository / "harness" / "__pycache__" / "run.cpython-311.pyc").write_bytes(b"\0")
    assert digest() == first
    (repository / "harness" / "run.py").rename(repository / "harness" / "walk.py")
    second = digest()
    (repository / "pyproject.toml").write_text("[project]\nname='x'\n")
    assert len({first, second, digest()}) == 3


def test_without_git_the_source_tree_is_archived_the_same_every_time(tmp_path: Path, run_dir: Path) -> None:
    first = capture_code(plant(tmp_path / "a"), run_dir)
    archive = (run_dir / ARCHIVE).read_bytes()
    os.utime(plant(tmp_path / "b") / "harness" / "run.py", (1, 1))
    (tmp_path / "b" / ".venv").mkdir()
    (tmp_path / "b" / ".venv" / "file").write_text("x")
    second = capture_code(tmp_path / "b", run_dir)
    assert first == second
    assert (run_dir / ARCHIVE).read_bytes() == archive
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert tar.getnames() == ["harness/run.py", "ptycho_torch/module.py", "pyproject.toml"]
    assert (first.commit, first.tree, first.patch) == (None, None, None)


def test_packages_installed_in_a_clones_environment_are_not_taken_for_the_clone(
    repository: Path, run_dir: Path
) -> None:
    installed = plant(repository / "lib" / "site-packages")
    (installed / "pyproject.toml").unlink()
    (installed / "numpy").mkdir()
    (installed / "numpy" / "core.py").write_text("")
    assert work_tree(installed) is None
    code = capture_code(installed, run_dir)
    with tarfile.open(run_dir / ARCHIVE) as tar:
        assert tar.getnames() == ["harness/run.py", "ptycho_torch/module.py"]
    assert code.archive is not None


def test_a_repository_without_a_commit_is_archived(tmp_path: Path, run_dir: Path) -> None:
    root = plant(tmp_path / "young")
    git(root, "init", "--quiet")
    assert capture_code(root, run_dir).archive is not None


def test_the_distance_between_commits_is_said_in_words(repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD").decode().strip()
    second = commit(repository)
    third = commit(repository)
    assert distance(repository, first, third) == "2 commits later"
    assert distance(repository, second, first) == "1 commit earlier"
    assert distance(repository, first, first) == "the same commit"
    git(repository, "checkout", "--quiet", "--detach", first)
    side = commit(repository, "side")
    assert distance(repository, third, side) == "1 commit later and 2 commits earlier"
    assert "not in this clone" in distance(repository, "0" * 40, first)


def test_a_tree_with_an_edited_or_a_new_file_is_not_called_by_its_commit_alone(
    repository: Path, tmp_path: Path
) -> None:
    clean = git(repository, "rev-parse", "HEAD").decode().strip()
    assert revision(repository) == clean
    new = repository / "new.txt"
    new.write_text("new")
    assert revision(repository) == f"{clean}-dirty"
    git(repository, "add", "--all")
    assert revision(repository) == f"{clean}-dirty"
    assert revision(tmp_path / "no work tree") is None


def test_git_that_fails_says_why(repository: Path) -> None:
    with pytest.raises(HarnessError, match="git rev-parse failed"):
        git(repository, "rev-parse", "--verify", "no-such-thing")


@pytest.mark.parametrize("folder", ["ignored", "kept"])
def test_a_run_folder_in_the_checkout_is_no_code_whether_git_ignores_it_or_not(
    repository: Path, folder: str
) -> None:
    run_dir = repository / folder / "run-20260101T000000Z-abc123"
    run_dir.mkdir(parents=True)
    (run_dir / "journal.jsonl").write_text("{}\n")
    code = capture_code(repository, run_dir)
    assert not code.dirty
    assert code.patch is None
