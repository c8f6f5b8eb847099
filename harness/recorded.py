"""A run read back from its folder, its data found again, and what is no longer as it was."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.code_capture import Code, distance, source_files, work_tree
from harness.compare import Difference, Found, code_differences, data_differences, environment_differences
from harness.errors import ExitCode, UserError
from harness.manifest import DamagedError, Manifest, damaged_files, read_manifest
from harness.resolved import IMAGE
from harness.store import INPUTS, MANIFEST, RESOLVED, file_digest, read_json

if TYPE_CHECKING:
    from harness.executors.base import Executor
    from harness.fetch import Fetcher
    from harness.resolved import ResolvedRun
    from harness.run_sources import Source

__all__ = [
    "AlteredError",
    "Recorded",
    "RefusedError",
    "code_held",
    "data_problems",
    "differences",
    "load",
    "locate_data",
    "refuse_what_differs",
]

_MOST_FILES = 100_000


class RefusedError(UserError):
    """A run cannot be repeated as it was."""


class AlteredError(RefusedError):
    """A run cannot be repeated as it was because its own files or its data were altered."""

    exit_code = ExitCode.DIFFERS


@dataclass(frozen=True)
class Recorded:
    """A run, read back from its folder: its record and what was resolved."""

    path: Path
    manifest: Manifest
    resolved: ResolvedRun


def load(run_dir: Path, record: str = MANIFEST) -> Recorded:
    """Read a run from its folder.

    Parameters
    ----------
    run_dir
        The run folder.
    record
        Name of the record: the manifest, or what was written of it when the run began.

    Raises
    ------
    UserError
        The run has no manifest.
    DamagedError
        The manifest is not what was written.
    """
    from harness.resolved import ResolvedRun

    manifest = read_manifest(run_dir, record)
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
        if record.role == IMAGE:  # kept beside what was made of it
            named.append(run.path / "products" / record.name)
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


def refuse_what_differs(
    recorded: Recorded,
    executor: Executor,
    root: Path,
    found: Mapping[str, Found],
    *,
    verb: str,
    cure: str,
    regardless: bool,
    warn: Callable[[str], None],
    takes_other_hardware: bool = False,
) -> tuple[Difference, ...]:
    """Refuse to go on with a run on which something depends that is not as it was.

    Parameters
    ----------
    recorded, executor, root, found
        As in :func:`differences`.
    verb
        What is refused, in a sentence's words: ``repeated``, ``continued``.
    cure
        What to do about code and environment.
    regardless
        Go on although something differs.
    warn
        Told each difference that does not stop the run.
    takes_other_hardware
        Go on on another processor or card, too, where the same bits are not promised.

    Returns
    -------
    tuple
        The differences that do not stop the run.

    Raises
    ------
    RefusedError
        Data, code or environment are not what they were; the message names every difference.
    AlteredError
        The run's own files or its data are among them.
    """
    differing = differences(recorded, executor, root, found)
    lost = [role for role, place in found.items() if place.path is None]
    stopping = [one for one in differing if one.matters and not (one.is_hardware and takes_other_hardware)]
    if lost or (stopping and not regardless):
        way_out = "" if lost else f"\n{cure}"
        lines = "\n".join(f"  {one}" for one in differing)
        is_altered = not lost and any(one.area in {"run folder", "data"} and one.matters for one in differing)
        kind_of_error = AlteredError if is_altered else RefusedError
        raise kind_of_error(f"{recorded.path.name} cannot be {verb} as it was:\n{lines}{way_out}")
    for one in differing:
        warn(str(one))
    return differing


def code_held(recorded: Recorded, executor: Executor, root: Path) -> tuple[Path, Code] | None:
    """Return the recorded run's folder and code where the executor holds that code and the checkout does not.

    An image holds the code that it was made from, which the checkout may have left behind since.
    """
    held, code = executor.source_files(), recorded.manifest.code
    return (recorded.path, code) if held == code.files and held != source_files(root) else None
