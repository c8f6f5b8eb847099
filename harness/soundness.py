"""Whether a run's record agrees with itself: composed anew from the run's own files, it must be the same.

What training decides is found out by training again. This finds what was altered with every digest made to
fit: a fact that stands in two places and was changed in one, a checkpoint that is not the one that is vouched
for, a file too many.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from harness.checkpoint_file import UnreadableError, read_checkpoint, weights_digest
from harness.code_capture import digest_of_files
from harness.contents import leftovers, recorded_files, strangers, unfinished_writes
from harness.environment import LOCK_COPY, packages_digest
from harness.errors import HarnessError
from harness.manifest import Attempt, Leaf, ShadowedValue, plain_manifest, read_manifest
from harness.outcome import ENDED, Outcome, flat, plain, read_outcome
from harness.record import Circumstances, attempts_of, compose, with_last_fault
from harness.recorded import AlteredError, Recorded
from harness.spec import read_spec
from harness.spec_blocks import IN_TRAIN
from harness.store import BEGUN, JOURNAL, SPEC, read_events

__all__ = ["contradictions", "refuse_contradictions", "remarks"]

_MOST_NAMED = 8
_OPTION, _FILE = "--", ".file"


def contradictions(recorded: Recorded) -> tuple[str, ...]:
    """Name everything in a run's record that the run's own files contradict.

    Parameters
    ----------
    recorded
        The run. Its manifest's own digest and that of ``resolved.json`` were checked when it was loaded.
    """
    found = [*_files(recorded)]  # where files are not what they were, the rest is but a consequence
    found = found or [*_vouched_twice(recorded), *_checkpoints(recorded), *_recomposed(recorded)]
    more = f"and {len(found) - _MOST_NAMED} more contradictions"
    return (*found[:_MOST_NAMED], more) if len(found) > _MOST_NAMED else tuple(found)


def refuse_contradictions(
    recorded: Recorded, *, regardless: bool, warn: Callable[[str], None]
) -> tuple[str, ...]:
    """Refuse to verify a run whose record contradicts itself, or say so and return what contradicts.

    Parameters
    ----------
    recorded
        The run.
    regardless
        Go on all the same; the verdict cannot be that it repeats.
    warn
        Told every contradiction.

    Raises
    ------
    AlteredError
        With every contradiction.
    """
    found = contradictions(recorded)
    if found and not regardless:
        lines = "\n".join(f"  {sentence}" for sentence in found)
        raise AlteredError(
            f"{recorded.path.name} was altered, its record contradicts itself:\n{lines}\n"
            "--regardless trains again all the same"
        )
    for sentence in found:
        warn(f"the record contradicts itself: {sentence}")
    return found


def remarks(recorded: Recorded) -> tuple[str, ...]:
    """Name what a death left of a file that was being written: no part of the run, nor an alteration."""
    names = unfinished_writes(recorded.path) if recorded.manifest.status in ENDED else ()
    return tuple(f"{name} is what a death left of a file being written, no part of the run" for name in names)


def _files(recorded: Recorded) -> Iterator[str]:
    there, manifest = recorded_files(recorded.path), recorded.manifest
    # A run that was broken off is continued from what is left over.
    left = leftovers(recorded.path) if manifest.status in ENDED else ()
    others = {*strangers(recorded.path), *left} - {*unfinished_writes(recorded.path)}
    for name in sorted({*there, *others, *manifest.files}):
        if name not in manifest.files:
            yield f"{name} is no file of the run: take it away"
        elif name not in there:
            yield f"{name} is missing"
        elif there[name] != vars(manifest.files[name]):
            yield f"{name} is not the recorded file"


def _vouched_twice(recorded: Recorded) -> Iterator[str]:
    manifest, code, environment = recorded.manifest, recorded.manifest.code, recorded.manifest.environment
    if digest_of_files(code.files) != code.source_digest:
        yield "code.source_digest is not the digest of code.files"
    if packages_digest(environment.packages) != environment.packages_digest:
        yield "environment.packages_digest is not the digest of environment.packages"
    spec = recorded.path / SPEC
    if not spec.is_file() or spec.read_bytes() != manifest.spec.encode("utf-8"):
        yield f"spec is not what stands in {SPEC}"
    stored = [(one.path, one.sha256) for one in (code.patch, code.archive) if one is not None]
    if environment.lock is not None:
        stored.append((LOCK_COPY, environment.lock.sha256))
    for name, digest in stored:
        if name not in manifest.files or manifest.files[name].sha256 != digest:
            yield f"{name} has another sha256 among code and environment than among the files"
    yield from _since_it_began(recorded)
    yield from _as_written(recorded)


def _as_written(recorded: Recorded) -> Iterator[str]:
    try:
        written = read_spec(recorded.path / SPEC).written
    except HarnessError as error:
        yield f"{SPEC} cannot be read: {error}"
        return
    for key, leaf in recorded.manifest.resolved.items():
        value, taken = written.get(key, written.get(IN_TRAIN.get(key, key))), _taken_from_the_spec(leaf)
        if value is None and taken is not None:
            yield f"{key} is recorded as {taken.value!r}, in {SPEC} it is not"
        elif value is not None and taken is None:
            yield f"{key} is in {SPEC} {value.value!r}, nothing is recorded as written there"
        elif value is not None and taken is not None and _says_another(key, value.value, taken.value):
            yield f"{key} is recorded as {taken.value!r}, in {SPEC} it is {value.value!r}"


def _taken_from_the_spec(leaf: Leaf) -> Leaf | ShadowedValue | None:
    # An option hides what is written, and so does what a request such as auto is resolved to.
    told: tuple[Leaf | ShadowedValue, ...] = (leaf, *leaf.shadowed)
    for one in told:
        if one.place is not None and not one.place.startswith(_OPTION) and one.source != "resolved":
            return one
    return None


def _says_another(key: str, written: Any, taken: Any) -> bool:
    # Numbers are compared as numbers, however they are spelt; of a file's place only the name is kept.
    return not key.endswith(_FILE) and plain(written) != taken


def _since_it_began(recorded: Recorded) -> Iterator[str]:
    if not (recorded.path / BEGUN).is_file():
        yield f"{BEGUN} is missing"
        return
    try:
        began = read_manifest(recorded.path, BEGUN)
    except HarnessError as error:
        yield str(error)
        return
    then, now = plain_manifest(began), plain_manifest(recorded.manifest)
    for area in ("name", "created", "spec", "resolved", "code", "environment", "recorded", "rerun_of"):
        yield from _told(flat(area, then[area]), flat(area, now[area]), f"in {BEGUN}", {"process"})


def _checkpoints(recorded: Recorded) -> Iterator[str]:
    for kept in recorded.manifest.checkpoints:
        try:
            content = read_checkpoint(recorded.path / kept.path)
        except UnreadableError as error:
            yield str(error)
            continue
        if weights_digest(content) != kept.tensor_digest:
            yield f"{kept.path} does not hold the tensors that are recorded of it"
        for name, value in (("global_step", kept.step), ("epoch", kept.epoch)):
            if content.get(name) != value:
                yield f"{kept.path} was made at {name} {content.get(name)}, {value} is recorded"


def _recomposed(recorded: Recorded) -> Iterator[str]:
    manifest = recorded.manifest
    try:
        outcome = read_outcome(recorded.path) or Outcome(manifest.status, manifest.error)
    except HarnessError as error:
        yield str(error)
        return
    try:
        attempts, finished = _journal(recorded)
    except (LookupError, TypeError, ValueError) as error:
        yield f"{JOURNAL} does not tell how the run went: {error}"
        return
    around = Circumstances(
        spec=manifest.spec,
        created=manifest.created,
        code=manifest.code,
        environment=dataclasses.replace(manifest.environment, process=plain(outcome.environment)),
        attempts=attempts,
        repeats=manifest.rerun_of,
        recorded=manifest.recorded,
        finished=finished,
    )
    outcome = with_last_fault(outcome, attempts)
    again = plain_manifest(compose(recorded.path, recorded.resolved, outcome, around))
    now = plain_manifest(manifest)
    # Files were looked at one by one, and what an executor added to an error stands nowhere else.
    for area in sorted({*now} - {"files", "manifest_digest"} - (set() if outcome.has_ended else {"error"})):
        yield from _told(flat(area, again[area]), flat(area, now[area]), "by the run's files", set())


def _journal(recorded: Recorded) -> tuple[tuple[Attempt, ...], str]:
    events = read_events(recorded.path)
    ends = [number for number, event in enumerate(events) if event.get("event") == "ended"]
    if not ends:
        raise LookupError("its end is missing")
    ended, finished = events[ends[-1]], recorded.manifest.finished
    # Journals did not always say to the millisecond what the manifest says; it was written right after.
    of_old = finished if finished >= ended["time"] else ended["time"]
    return attempts_of(events[: ends[-1]]), ended.get("finished", of_old)


def _told(ought: Mapping[str, Any], recorded: Mapping[str, Any], where: str, but: set[str]) -> Iterator[str]:
    for name in sorted({*ought, *recorded}):
        if but.isdisjoint(name.split(".")) and repr(ought.get(name)) != repr(recorded.get(name)):
            yield f"{name} is recorded as {recorded.get(name)!r}, {where} it is {ought.get(name)!r}"
