"""A run once more, from its folder alone: what is needed, what no longer matches, and the run itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.code_capture import distance, source_files, work_tree
from harness.compare import Difference, Found, code_differences, data_differences, environment_differences
from harness.errors import ExitCode, UserError
from harness.manifest import DamagedError, Manifest, RepeatedRun, damaged_files, read_manifest
from harness.run import Finished, Job, run
from harness.store import INPUTS, RESOLVED, file_digest, read_json

if TYPE_CHECKING:
    from harness.executors.base import Executor
    from harness.resolved import ResolvedRun

__all__ = [
    "AlteredError",
    "Recorded",
    "RefusedError",
    "data_problems",
    "differences",
    "load",
    "locate_data",
    "repeat",
]

_MOST_FILES = 100_000


class RefusedError(UserError):
    """A run cannot be repeated as it was."""


class AlteredError(RefusedError):
    """A run cannot be repeated as it was because its own files or its data were altered."""

    exit_code = ExitCode.DIFFERS


@dataclass(frozen=True)
class Recorded:
    """A finished run, read back from its folder: the manifest and what was resolved."""

    path: Path
    manifest: Manifest
    resolved: ResolvedRun


def load(run_dir: Path) -> Recorded:
    """Read a finished run from its folder.

    Raises
    ------
    UserError
        The run has no manifest.
    DamagedError
        The manifest is not what was written.
    """
    from harness.resolved import ResolvedRun

    manifest = read_manifest(run_dir)
    recorded = manifest.files.get(RESOLVED)
    if recorded is None or file_digest(run_dir / RESOLVED) != recorded.sha256:
        raise DamagedError(f"{run_dir / RESOLVED} is damaged: its sha256 is not the manifest's")
    text = (run_dir / RESOLVED).read_text(encoding="utf-8")
    return Recorded(run_dir, manifest, ResolvedRun.from_json(text))


def locate_data(run: Recorded, folders: Sequence[Path]) -> dict[str, Found]:
    """Find each recorded data file, by digest.

    Tried in this order: the recorded relative path and the bare name in every folder, the place where it
    was when the run was made, and any file of the recorded size in the folders.

    Parameters
    ----------
    run
        The recorded run.
    folders
        Data folders, most wanted first.
    """
    known = read_json(run.path / INPUTS) if (run.path / INPUTS).is_file() else {}
    found = {}
    for record in run.manifest.data:
        if record.size is None:
            continue
        named = [folder / name for folder in folders for name in (record.name, Path(record.name).name)]
        if record.role in known:
            named.append(run.path / known[record.role])
        found[record.role] = _by_digest(record.sha256, named, _of_size(folders, record.size))
    return found


def _by_digest(digest: str, named: Sequence[Path], others: Iterable[Path]) -> Found:
    passed_over: list[Found] = []
    for path in itertools.chain(dict.fromkeys(path for path in named if path.is_file()), others):
        has = file_digest(path)
        if has == digest:
            return Found(path.resolve(), has, passed_over[0].path if passed_over else None)
        if path in named:
            passed_over.append(Found(path.resolve(), has))
    return passed_over[0] if passed_over else Found(None, None)


def _of_size(folders: Sequence[Path], size: int) -> Iterator[Path]:
    everything = (path for folder in folders if folder.is_dir() for path in folder.rglob("*"))
    for path in itertools.islice(everything, _MOST_FILES):
        if path.is_file() and path.stat().st_size == size:
            yield path


def data_problems(run: Recorded, folders: Sequence[Path]) -> tuple[str, ...]:
    """Name every data file of a run that is not found, or not with its recorded digest."""
    found = locate_data(run, folders)
    return tuple(str(one) for one in data_differences(_wanted(run, found), found) if one.matters)


def _wanted(run: Recorded, found: Mapping[str, Found]) -> dict[str, str]:
    return {record.role: record.sha256 for record in run.manifest.data if record.role in found}


def differences(
    recorded: Recorded, executor: Executor, root: Path, found: Mapping[str, Found]
) -> tuple[Difference, ...]:
    """List everything that is not as it was when the run was made.

    Parameters
    ----------
    recorded
        The run.
    executor, root
        Where it would be repeated, and the folder that holds the packages.
    found
        The data that :func:`locate_data` found.
    """
    manifest = recorded.manifest
    files = source_files(root)
    commit = work_tree(root)
    old = manifest.code.commit
    apart = distance(root, old, commit) if old and commit and old != commit else "of unknown distance"
    now, _ = executor.environment()
    exact_cpu = "environment.cpu" in manifest.compared
    damage = (Difference("run folder", sentence) for sentence in damaged_files(recorded.path, manifest))
    return (
        *damage,
        *data_differences(_wanted(recorded, found), found),
        *code_differences(manifest.code, files, commit, apart),
        *environment_differences(manifest.environment, now, exact_cpu=exact_cpu),
    )


def repeat(
    recorded: Recorded,
    kind: Literal["rerun", "verify"],
    executor: Executor,
    *,
    runs_dir: Path,
    root: Path,
    folders: Sequence[Path],
    regardless: bool,
    look: Callable[[Path], None],
    warn: Callable[[str], None],
) -> Finished:
    """Run a recorded run once more, in a folder of its own.

    Parameters
    ----------
    recorded
        The run.
    kind
        ``rerun`` or ``verify``; it is written into the new manifest.
    executor, runs_dir, root, look
        As in :func:`harness.run.run`.
    folders
        Where data is looked for.
    regardless
        Go on although something differs.
    warn
        Told each difference that does not stop the run.

    Raises
    ------
    RefusedError
        Data, code or environment are not what they were; the message names every difference.
    AlteredError
        The run's own files or its data are among them.
    """
    found = locate_data(recorded, folders)
    differing = differences(recorded, executor, root, found)
    lost = [role for role, place in found.items() if place.path is None]
    if lost or (any(one.matters for one in differing) and not regardless):
        cure = (
            ""
            if lost
            else "\n--regardless goes on all the same; rerun --restore rebuilds code and environment"
        )
        lines = "\n".join(f"  {one}" for one in differing)
        is_altered = not lost and any(one.area in {"run folder", "data"} and one.matters for one in differing)
        kind_of_error = AlteredError if is_altered else RefusedError
        raise kind_of_error(f"{recorded.path.name} cannot be repeated as it was:\n{lines}{cure}")
    for one in differing:
        warn(str(one))
    inputs = {role: str(place.path) for role, place in found.items()}
    origin = RepeatedRun(kind, recorded.path.name, recorded.manifest.manifest_digest)
    job = Job(recorded.resolved, recorded.manifest.spec, inputs, origin)
    return run(job, executor, runs_dir, root=root, look=look)
