"""A run once more, from its folder alone: what is needed, what no longer matches, and the run itself."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.adapted import with_data, with_image
from harness.code_capture import Code, distance, source_files, work_tree
from harness.compare import Difference, Found, code_differences, data_differences, environment_differences
from harness.errors import ExitCode, UserError
from harness.executors.base import ImageExecutor
from harness.manifest import DamagedError, Manifest, RepeatedRun, damaged_files, read_manifest
from harness.run import Finished, Job, exit_code, run
from harness.store import INPUTS, RESOLVED, file_digest, read_json
from harness.verdict import judge

if TYPE_CHECKING:
    from harness.executors.base import Executor
    from harness.fetch import Fetcher
    from harness.resolved import ResolvedRun, Source

__all__ = [
    "AlteredError",
    "Recorded",
    "RefusedError",
    "data_problems",
    "differences",
    "load",
    "locate_data",
    "repeat",
    "rerun_exit_code",
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


def locate_data(run: Recorded, folders: Sequence[Path], fetcher: Fetcher | None = None) -> dict[str, Found]:
    """Find each recorded data file, by digest.

    Tried in this order: the recorded relative path and the bare name in every folder, the place where it
    was when the run was made, the downloads, and any file of the recorded size in the folders. When none of
    these places has a file of that name either, it is fetched from its recorded address.

    Parameters
    ----------
    run
        The recorded run.
    folders
        Data folders, most wanted first.
    fetcher
        Knows the downloads, and downloads where it may; None looks for no download.
    """
    known, damage = _known_places(run.path)
    found = {}
    for record in run.manifest.data:
        if record.size is None:
            continue
        named = [folder / name for folder in folders for name in (record.name, Path(record.name).name)]
        if record.role in known:
            named.append(run.path / known[record.role])
        downloads = fetcher.kept(record.sha256) if fetcher else ()
        others = itertools.chain(downloads, _of_size(folders, record.size))
        one = _by_digest(record.sha256, named, others)
        if one.path is None:
            one = _fetched(run.resolved.sources[record.role], fetcher)
        if one.path is None and damage:
            one = dataclasses.replace(one, reason="; ".join(filter(None, (damage, one.reason))))
        found[record.role] = one
    return found


def _known_places(run_dir: Path) -> tuple[dict[str, str], str]:
    # This file is the machine's, not the record's: what it would tell can be found without it.
    if not (run_dir / INPUTS).is_file():
        return {}, ""
    try:
        known = read_json(run_dir / INPUTS)
    except UserError as error:
        return {}, str(error)
    if not isinstance(known, dict):
        return {}, f"{run_dir / INPUTS} is damaged: it is no table of places"
    return {role: place for role, place in known.items() if isinstance(place, str)}, ""


def _fetched(source: Source, fetcher: Fetcher | None) -> Found:
    if fetcher is None or source.kind != "file" or source.url is None:
        return Found(None, None)
    try:
        path = fetcher(source.url, source.sha256, source.name)
    except UserError as error:
        return Found(None, None, reason=str(error))
    return Found(path.resolve(), source.sha256)


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


def data_problems(run: Recorded, found: Mapping[str, Found]) -> tuple[str, ...]:
    """Name every data file of a run that was not found, or not with its recorded digest."""
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
    files = executor.source_files()
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
        *environment_differences(
            manifest.environment, now, exact_cpu=exact_cpu, on_gpu="environment.gpu" in manifest.compared
        ),
    )


def repeat(
    recorded: Recorded,
    kind: Literal["rerun", "verify"],
    executor: Executor,
    *,
    runs_dir: Path,
    root: Path,
    found: Mapping[str, Found],
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
    found
        The data that :func:`locate_data` found.
    regardless
        Go on although something differs; data that differ are then what the new run says it was made from.
    warn
        Told each difference that does not stop the run.

    Raises
    ------
    RefusedError
        Data, code or environment are not what they were; the message names every difference.
    AlteredError
        The run's own files or its data are among them.
    """
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
    resolved = with_data(recorded.resolved, found)
    if isinstance(executor, ImageExecutor):
        resolved = with_image(resolved, executor.image_id(), executor.name)
    else:
        resolved = with_image(resolved, "none", executor.name)
    job = Job(resolved, recorded.manifest.spec, inputs, origin, _code_of(recorded, executor, root))
    return run(job, executor, runs_dir, root=root, look=look)


def _code_of(recorded: Recorded, executor: Executor, root: Path) -> tuple[Path, Code] | None:
    # An image holds the code that it was made from, which the checkout may have left behind since.
    held, code = executor.source_files(), recorded.manifest.code
    return (recorded.path, code) if held == code.files and held != source_files(root) else None


def rerun_exit_code(recorded: Mapping[str, Any], finished: Finished) -> ExitCode:
    """Return the exit code of a re-run: that of any run, but 3 when both came to an end and results differ.

    Parameters
    ----------
    recorded
        The compared facts of the run that was repeated.
    finished
        The re-run.
    """
    again = finished.manifest.compared
    have_ended = {recorded["status"], again["status"]} <= {"completed", "collapsed"}
    return exit_code(finished) if not have_ended or judge(recorded, again).is_bitwise else ExitCode.DIFFERS
