"""Which code a run ran: the commit and what was changed on top of it, or the source tree itself."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.store import file_digest, write_durably

__all__ = [
    "ARCHIVE",
    "LARGEST_UNTRACKED",
    "PACKAGES",
    "PATCH",
    "Code",
    "StoredFile",
    "capture_code",
    "copy_code",
    "digest_of_files",
    "distance",
    "git",
    "revision",
    "source_digest",
    "source_files",
    "source_root",
    "work_tree",
]

PACKAGES = ("harness", "ptycho_torch")
PATCH = "code/patch.diff"
ARCHIVE = "code/source.tar.gz"
LARGEST_UNTRACKED = 5_000_000
"""Untracked files above this size, bytes, are named but not captured: they are data, not code."""

_NOT_SOURCE = {"__pycache__", "build", "dist", "node_modules"}


@dataclass(frozen=True)
class StoredFile:
    """A file of the run folder: relative path and sha256."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Code:
    """The code of a run.

    Parameters
    ----------
    source_digest, files
        One digest over the packages' source files and ``pyproject.toml``, and each file's sha256.
    commit, tree, dirty
        The git commit, the id of the tree as it was with every change, and whether it differed from the
        commit; None, None and False in a tree without git.
    patch, archive
        The changes on top of the commit, untracked files included; or, without git, the whole source tree.
    left_out
        Untracked files that were not captured (too large, or runs), each with its reason.
    """

    source_digest: str
    files: Mapping[str, str]
    commit: str | None
    tree: str | None
    dirty: bool
    patch: StoredFile | None
    archive: StoredFile | None
    left_out: tuple[str, ...] = ()


def source_root() -> Path:
    """Return the folder that holds the packages this process runs."""
    return Path(__file__).resolve().parent.parent


def source_files(root: Path) -> dict[str, str]:
    """Map every source file of the packages, and ``pyproject.toml``, to its sha256."""
    paths = [path for package in PACKAGES for path in _walk(root / package)]
    if (root / "pyproject.toml").is_file():
        paths.append(root / "pyproject.toml")
    return {path.relative_to(root).as_posix(): file_digest(path) for path in sorted(paths)}


def digest_of_files(files: Mapping[str, str]) -> str:
    """Digest a mapping of paths to sha256."""
    lines = "".join(f"{path}\0{digest}\n" for path, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode("utf-8")).hexdigest()


def source_digest(root: Path | None = None) -> str:
    """Digest the source files below `root`, by default those that this process runs."""
    return digest_of_files(source_files(source_root() if root is None else root))


def git(
    root: Path, *arguments: str, environment: Mapping[str, str] | None = None, stdin: bytes | None = None
) -> bytes:
    """Run git in `root`, untouched by the caller's settings and variables, and return what it prints.

    Raises
    ------
    HarnessError
        git failed; the message holds its last words.
    """
    settings = ("safe.directory=*", "core.fsmonitor=false", "core.autocrlf=false", "core.hooksPath=/dev/null")
    command = [
        "git",
        *(word for setting in settings for word in ("-c", setting)),
        "-C",
        str(root),
        *arguments,
    ]
    clean = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.environ.get("HOME", "/"),
        "LC_ALL": "C",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        **(environment or {}),
    }
    import subprocess

    done = subprocess.run(command, capture_output=True, env=clean, input=stdin, check=False)
    if done.returncode != 0:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it gave no reason"]
        raise HarnessError(f"git {arguments[0]} failed in {root}: {words[-1]}")
    return done.stdout


def _ask(root: Path, *arguments: str) -> str | None:
    try:
        return git(root, *arguments).decode("utf-8").strip()
    except HarnessError:
        return None


def work_tree(root: Path) -> str | None:
    """Return the commit that is checked out when `root` is the top of a git work tree, else None."""
    import shutil

    if shutil.which("git") is None:
        return None
    top = _ask(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root.resolve():
        return None
    return _ask(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")


def revision(root: Path) -> str | None:
    """Return the commit that is checked out, with ``-dirty`` where files are not as committed; else None."""
    commit = work_tree(root)
    if commit is None:
        return None
    return f"{commit}-dirty" if git(root, "status", "--porcelain") else commit


def distance(root: Path, old: str, new: str) -> str:
    """Say how far apart two commits are, as ``3 commits later``."""
    later, earlier = (_ask(root, "rev-list", "--count", f"{a}..{b}") for a, b in ((old, new), (new, old)))
    if later is None or earlier is None:
        return "of unknown distance: the recorded commit is not in this clone"
    parts = [
        f"{n} commit{'s' * (n != '1')} {word}"
        for n, word in ((later, "later"), (earlier, "earlier"))
        if n != "0"
    ]
    return " and ".join(parts) or "the same commit"


def capture_code(root: Path, run_dir: Path) -> Code:
    """Record the code below `root` into a run folder.

    Parameters
    ----------
    root
        The folder that holds the packages. It is only read, so a read-only clone will do.
    run_dir
        The run folder; ``code/`` in it receives the patch or the archive.
    """
    files = source_files(root)
    (run_dir / "code").mkdir(exist_ok=True)
    commit = work_tree(root)
    if commit is None:
        archive, left_out = _archive(root, run_dir)
        write_durably(run_dir / ARCHIVE, archive)
        stored = StoredFile(ARCHIVE, hashlib.sha256(archive).hexdigest())
        return Code(digest_of_files(files), files, None, None, False, None, stored, left_out)
    tree, patch, left_out = _changes(root, commit, run_dir)
    stored_patch = None
    if patch:
        write_durably(run_dir / PATCH, patch)
        stored_patch = StoredFile(PATCH, hashlib.sha256(patch).hexdigest())
    return Code(digest_of_files(files), files, commit, tree, bool(patch), stored_patch, None, left_out)


def copy_code(run_dir: Path, code: Code, into: Path) -> Code:
    """Record the code of another run into a run folder, for a run that executes just that code.

    Parameters
    ----------
    run_dir, code
        The other run's folder, and what its manifest says about the code.
    into
        The run folder.
    """
    (into / "code").mkdir(exist_ok=True)
    for stored in filter(None, (code.patch, code.archive)):
        write_durably(into / stored.path, (run_dir / stored.path).read_bytes())
    return code


def _changes(root: Path, commit: str, run_dir: Path) -> tuple[str, bytes, tuple[str, ...]]:
    import tempfile

    objects = (root / git(root, "rev-parse", "--git-path", "objects").decode().strip()).resolve()
    listed = git(root, "ls-files", "-z", "--others", "--exclude-standard").decode("utf-8", "surrogateescape")
    left_out = dict(_too_much(root, [name for name in listed.split("\0") if name], run_dir))
    with tempfile.TemporaryDirectory() as scratch:
        apart = {
            "GIT_INDEX_FILE": f"{scratch}/index",
            "GIT_OBJECT_DIRECTORY": scratch,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects),
        }
        git(root, "read-tree", commit, environment=apart)
        # The worker is at work meanwhile: what it writes is no code.
        excluded = ":(top,exclude,glob)**/__pycache__/**\0"
        excluded += "".join(f":(top,exclude,literal){name}\0" for name in left_out)
        # By its own name: git refuses to leave out what it ignores anyway when it is named from the top.
        excluded += f":(top,exclude,glob)**/{run_dir.name}/**\0"
        git(
            root,
            "add",
            "--all",
            "--pathspec-from-file=-",
            "--pathspec-file-nul",
            environment=apart,
            stdin=b":(top)\0" + excluded.encode("utf-8", "surrogateescape"),
        )
        tree = git(root, "write-tree", environment=apart).decode().strip()
        patch = git(
            root,
            "diff",
            *("--binary", "--full-index", "--no-renames", "--no-color", "--no-ext-diff", "--no-textconv"),
            *("--src-prefix=a/", "--dst-prefix=b/", commit, tree),
            environment=apart,
        )
    return tree, patch, tuple(f"{name}: {reason}" for name, reason in sorted(left_out.items()))


def _too_much(root: Path, untracked: list[str], run_dir: Path) -> Iterator[tuple[str, str]]:
    runs = run_dir.resolve().parent
    for name in untracked:
        path = root / name
        if runs in path.resolve().parents:
            yield name, "a run"
        elif name.endswith("/"):
            yield name.rstrip("/"), "a git repository of its own"
        elif not path.is_symlink() and path.is_file() and path.stat().st_size > LARGEST_UNTRACKED:
            yield name, f"untracked and larger than {LARGEST_UNTRACKED // 1_000_000} MB"


def _archive(root: Path, run_dir: Path) -> tuple[bytes, tuple[str, ...]]:
    import gzip
    import io
    import tarfile

    is_project = (root / "pyproject.toml").is_file()
    folders = [root] if is_project else [root / package for package in PACKAGES]
    buffer, left_out = io.BytesIO(), []
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(path for folder in folders for path in _walk(folder, run_dir.resolve().parent)):
            name = path.relative_to(root).as_posix()
            if path.stat().st_size > LARGEST_UNTRACKED:
                left_out.append(f"{name}: larger than {LARGEST_UNTRACKED // 1_000_000} MB")
                continue
            entry = tarfile.TarInfo(name)
            entry.size = path.stat().st_size
            entry.mode = 0o755 if os.access(path, os.X_OK) else 0o644
            with path.open("rb") as file:
                tar.addfile(entry, file)
    return gzip.compress(buffer.getvalue(), mtime=0), tuple(left_out)


def _walk(folder: Path, skipped: Path | None = None) -> Iterator[Path]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith(".") or path.name in _NOT_SOURCE or path.name.endswith((".pyc", ".egg-info")):
            continue
        if path.is_dir() and not path.is_symlink():
            if path != skipped and not (path / "pyvenv.cfg").exists():
                yield from _walk(path, skipped)
        elif path.is_file():
            yield path
