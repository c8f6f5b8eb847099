"""What a run ran on, rebuilt: its source tree, and an environment from the lock that it kept."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from harness.code_capture import Code, git, source_digest, work_tree
from harness.errors import HarnessError
from harness.manifest import Manifest
from harness.recorded import RefusedError
from harness.store import file_digest

__all__ = ["Restored", "hand_over", "restore_environment", "restore_tree"]

_INSTALLER = Path("tools") / "install.sh"


@dataclass(frozen=True)
class Restored:
    """A rebuilt source tree and the interpreter of a rebuilt environment."""

    tree: Path
    python: Path


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def restore_tree(run_dir: Path, code: Code, repository: Path, cache: Path) -> Path:
    """Rebuild the source tree of a run.

    With git it is a worktree of the recorded commit with the recorded changes applied; without, the
    archive, unpacked.

    Parameters
    ----------
    run_dir
        The run folder.
    code
        What its manifest says about the code.
    repository
        A clone that has the commit.
    cache
        Folder for rebuilt trees.

    Raises
    ------
    RefusedError
        The commit is not there, or the patch is not the recorded one.
    """
    stored = code.patch or code.archive
    if stored is not None and file_digest(run_dir / stored.path) != stored.sha256:
        raise RefusedError(f"{run_dir / stored.path} is damaged: its sha256 is not the manifest's")
    key = hashlib.sha256(f"{code.commit} {stored.sha256 if stored else ''}".encode()).hexdigest()[:16]
    tree = cache / "trees" / key
    with _alone(tree):
        if _difference(tree, code) is not None:
            shutil.rmtree(tree, ignore_errors=True)
            if code.commit is None:
                _unpack(run_dir, code, tree)
            else:
                _check_out(run_dir, code, code.commit, repository, tree)
        problem = _difference(tree, code)
    if problem is not None:
        raise RefusedError(f"the rebuilt tree {tree} is not the recorded one: {problem}")
    return tree


def _difference(tree: Path, code: Code) -> str | None:
    # Files that git does not track are no part of the tree: byte code, what an installer leaves.
    if not tree.is_dir():
        return "it is not there"
    if source_digest(tree) != code.source_digest:
        return "it has another source digest"
    if code.tree is None:
        return None
    try:
        git(tree, "update-index", "--refresh")
        found = git(tree, "write-tree").decode().strip()
    except HarnessError as error:
        return str(error)
    return None if found == code.tree else f"its tree is {found[:12]}, recorded is {code.tree[:12]}"


def _check_out(run_dir: Path, code: Code, commit: str, repository: Path, tree: Path) -> None:
    if work_tree(repository) is None:
        raise RefusedError(
            f"{repository} is no git clone, so commit {commit[:12]} cannot be checked out there"
        )
    try:
        git(repository, "cat-file", "-e", f"{commit}^{{commit}}")
    except HarnessError:
        raise RefusedError(
            f"commit {commit[:12]} is not in {repository}: fetch it from where the run was made"
        ) from None
    git(repository, "worktree", "add", "--force", "--detach", str(tree), commit)
    if code.patch is not None:
        git(tree, "apply", "--index", "--whitespace=nowarn", str((run_dir / code.patch.path).resolve()))


def _unpack(run_dir: Path, code: Code, tree: Path) -> None:
    if code.archive is None:
        raise RefusedError(f"{run_dir.name} holds neither a commit nor an archive of its code")
    with tarfile.open(run_dir / code.archive.path) as tar:
        # The first releases of Python 3.11 have no filters yet.
        if hasattr(tarfile, "data_filter"):
            tar.extraction_filter = tarfile.data_filter
        for member in tar:
            path = tree / member.name
            if not (member.isdir() or member.isfile()) or not path.resolve().is_relative_to(tree.resolve()):
                raise RefusedError(f"{code.archive.path} holds {member.name!r}, which is no file inside it")
            tar.extract(member, tree, set_attrs=member.isfile())


def restore_environment(
    run_dir: Path, manifest: Manifest, tree: Path, cache: Path, caller: Mapping[str, str]
) -> Path:
    """Rebuild the environment of a run from its lock, and return its interpreter.

    Parameters
    ----------
    run_dir, manifest
        The run.
    tree
        Its rebuilt source tree, which has the installer.
    cache
        Folder for rebuilt environments.
    caller
        The caller's environment: package index, proxies and certificates reach the installer through it.

    Raises
    ------
    RefusedError
        The run kept no lock, or its tree has no installer.
    HarnessError
        The installation failed.
    """
    lock = manifest.environment.lock
    if lock is None:
        raise RefusedError(f"{run_dir.name} kept no lock, so its environment cannot be rebuilt")
    kept = run_dir / lock.path
    if file_digest(kept) != lock.sha256:
        raise RefusedError(f"{kept} is damaged: its sha256 is not the manifest's")
    installer = tree / _INSTALLER
    if not installer.is_file():
        raise RefusedError(
            f"the recorded source tree has no {_INSTALLER}, so its environment cannot be rebuilt"
        )
    minor = ".".join(manifest.environment.python.split(".")[:2])
    venv = cache / "environments" / f"{minor}-{lock.sha256[:16]}"
    with _alone(venv):
        python = venv / "bin" / "python"
        if not _is_made_from(venv, kept):
            settings = {**caller, "PYTHON": _interpreter(minor)}
            done = subprocess.run(["sh", str(installer), str(venv), str(kept)], env=settings, check=False)
            if done.returncode != 0:
                raise HarnessError(f"{installer} could not make {venv}: see its messages above")
    return python


def _is_made_from(venv: Path, lock: Path) -> bool:
    installed = venv / "installed.lock"
    return installed.is_file() and installed.read_bytes() == lock.read_bytes()


def _interpreter(minor: str) -> str:
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    base = getattr(sys, "_base_executable", sys.executable)
    return str(base) if own == minor else f"python{minor}"


def hand_over(
    restored: Restored,
    arguments: Sequence[str],
    caller: Mapping[str, str],
    execute: Callable[[str, list[str], dict[str, str]], NoReturn] = os.execve,
) -> NoReturn:
    """Become the harness of the rebuilt tree, in the rebuilt environment.

    Parameters
    ----------
    restored
        What was rebuilt.
    arguments
        Command line of the rebuilt harness.
    caller
        The caller's environment.
    execute
        Replaces this process.
    """
    python = str(restored.python)
    kept = {name: value for name, value in caller.items() if name not in {"PYTHONHOME", "VIRTUAL_ENV"}}
    settings = {**kept, "PYTHONPATH": str(restored.tree), "PYTHONSAFEPATH": "1"}
    sys.stdout.flush()
    sys.stderr.flush()
    execute(python, [python, "-m", "harness", *arguments], settings)
