"""Run folders on disk: made once, held by a lock, written durably, readable after any death."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.errors import UserError
from ptycho_torch.durable import open_durably, sync_folder

__all__ = [
    "BEGUN",
    "HOST_PID",
    "INPUTS",
    "JOURNAL",
    "LIFELINE",
    "LOCK",
    "LOG",
    "MANIFEST",
    "OUTCOME",
    "PROGRESS",
    "REFUSED",
    "RESOLVED",
    "SPEC",
    "HeldRun",
    "append_event",
    "create_run",
    "file_digest",
    "hold_run",
    "is_held",
    "is_refused",
    "read_events",
    "read_json",
    "remove_durably",
    "render_json",
    "state_without_manifest",
    "utc_now",
    "wait_for_lock",
    "write_durably",
    "write_json",
]

SPEC = "spec.yaml"
RESOLVED = "resolved.json"
INPUTS = "inputs.json"
OUTCOME = "outcome.json"
MANIFEST = "manifest.json"
JOURNAL = "journal.jsonl"
REFUSED = "refused"
"""The event by which a worker says that the same run can only fail again, at the same place."""
PROGRESS = "progress.json"
LOCK = "lock"
LOG = "logs/worker.log"

BEGUN = "begun.json"
"""What is known of a run's manifest as soon as its worker has started."""

LIFELINE = "HARNESS_LIFELINE"
"""Variable that tells a worker in a container to stop when the run's lock is let go: its host is gone."""

HOST_PID = "HARNESS_HOST_PID"
"""Variable that tells a worker on this machine whose it is, so that it does not outlive its host."""

_LOOKERS_TRIES, _LOOKERS_SECONDS = 5, 0.05
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def utc_now() -> str:
    """Return the present time in UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def render_json(value: Any) -> bytes:
    """Render a value as the one JSON text that this project writes for it: sorted keys, ASCII, no NaN."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return text.encode("ascii") + b"\n"


def write_durably(path: Path, data: bytes) -> None:
    """Put a file in place whole or not at all, and have it survive a loss of power."""
    with open_durably(path) as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    """Write a value durably as JSON."""
    write_durably(path, render_json(value))


def read_json(path: Path) -> Any:
    """Read a JSON file of a run folder.

    Raises
    ------
    UserError
        The file is absent or is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path} is missing: the folder is no complete run") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged: it is no longer JSON ({error})") from error


def remove_durably(path: Path) -> None:
    """Remove a file, for good; one that is not there is no error."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def append_event(run_dir: Path, event: str, **facts: Any) -> None:
    """Append one line to the run's journal, durably; safe from several processes at a time."""
    line = json.dumps({"time": utc_now(), "event": event, **facts}, sort_keys=True, allow_nan=False)
    descriptor = os.open(run_dir / JOURNAL, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        left = (b"\n" if torn else b"") + line.encode("utf-8") + b"\n"
        while left:  # a disk that fills up takes a part of it
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if size == 0:
        sync_folder(run_dir)


def read_events(run_dir: Path) -> list[dict[str, Any]]:
    """Read the journal; a line that a death has torn is left out."""
    path = run_dir / JOURNAL
    events: list[dict[str, Any]] = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict):
                events.append(event)
    return events


class HeldRun:
    """A run folder whose lock this process holds; a child that inherits ``lock_fd`` holds it too.

    Parameters
    ----------
    path
        The run folder.
    lock_fd
        Descriptor of the locked file; the lock lives until its last copy is closed, by death too.
    """

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self.lock_fd = lock_fd

    def __enter__(self) -> Self:
        return self

    def release(self) -> None:
        """Let the lock go."""
        os.close(self.lock_fd)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def is_refused(run_dir: Path) -> bool:
    """Whether the last worker of a run said that the same run can only fail again."""
    kinds = [event.get("event") for event in read_events(run_dir)]
    return next((kind for kind in reversed(kinds) if kind in {REFUSED, "started"}), None) == REFUSED


def create_run(runs_dir: Path, name: str) -> HeldRun:
    """Make a new run folder ``<name>-<UTC time>-<random>`` and hold its lock.

    Parameters
    ----------
    runs_dir
        The folder that holds runs; made when absent.
    name
        The run's name: letters, digits, dot, dash and underscore.

    Raises
    ------
    UserError
        The name cannot be part of a folder's name, or the folder cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name!r} cannot name a run folder: use up to 100 letters, digits, dots, dashes and underscores"
        )
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        path = _make_unique(runs_dir, name)
    except OSError as error:
        raise UserError(
            f"run folders cannot be made in {runs_dir} ({error.strerror}): choose another with --runs-dir"
        ) from error
    lock_fd = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    fcntl.flock(lock_fd, fcntl.LOCK_EX)
    append_event(path, "created", name=name)
    sync_folder(runs_dir)
    return HeldRun(path, lock_fd)


def hold_run(path: Path) -> HeldRun:
    """Hold the lock of a run folder that is there.

    Raises
    ------
    UserError
        Another process holds it: the run is running.
    """
    lock_fd = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    # Who only looks whether the run is running holds the lock for a moment.
    for _ in range(_LOOKERS_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return HeldRun(path, lock_fd)
        time.sleep(_LOOKERS_SECONDS)
    os.close(lock_fd)
    raise UserError(f"{path.name} is running: wait for it, or stop it first")


def _make_unique(runs_dir: Path, name: str) -> Path:
    import secrets

    while True:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        path = runs_dir / f"{name}-{stamp}-{secrets.token_hex(3)}"
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path


def wait_for_lock(run_dir: Path) -> int:
    """Wait until the run's lock is let go, take it, and return the descriptor that holds it from then on."""
    descriptor = os.open(run_dir / LOCK, os.O_RDWR | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def is_held(run_dir: Path) -> bool:
    """Tell whether some process, the host's or the worker's, still holds the run's lock."""
    try:
        descriptor = os.open(run_dir / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def state_without_manifest(run_dir: Path) -> str:
    """Return ``running``, ``failed`` or ``interrupted`` for a run folder that has no manifest (yet)."""
    if is_held(run_dir):
        return "running"
    events = read_events(run_dir)
    return "failed" if events and events[-1].get("event") == "failed" else "interrupted"
