"""Differences between two runs, or between a run and what stands here now. Pure functions on records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.called import data_named_by
from harness.code_capture import Code
from harness.environment import Environment, Package

__all__ = [
    "Difference",
    "Found",
    "cards_in_words",
    "code_differences",
    "data_differences",
    "environment_differences",
    "facts_that_differ",
    "package_differences",
]

_LISTED = 12


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it was.

    Parameters
    ----------
    area
        ``data``, ``code``, ``environment`` or ``result``.
    sentence
        What it was and what it is.
    matters
        Whether it can change the result, so that a re-run is refused because of it.
    is_hardware
        Whether it is processor or card: there the same bits are not promised, but the same figures may be.
    """

    area: str
    sentence: str
    matters: bool = True
    is_hardware: bool = False

    def __str__(self) -> str:
        return f"{self.area}: {self.sentence}"


def facts_that_differ(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the facts that are absent from one of two maps or not equal in both, sorted."""
    absent = object()
    return tuple(
        name
        for name in sorted({*first, *second})
        if not _same(first.get(name, absent), second.get(name, absent))
    )


def _same(first: Any, second: Any) -> bool:
    return type(first) is type(second) and repr(first) == repr(second)


def environment_differences(
    was: Environment, now: Environment, *, exact_cpu: bool, on_gpu: bool = False
) -> Iterator[Difference]:
    """Yield every difference between two environments.

    Parameters
    ----------
    was, now
        The recorded environment and the present one.
    exact_cpu
        Whether the run's profile repeats on the same processor model only.
    on_gpu
        Whether the run computed on a graphics card, so that its model and driver decide the bits.
    """
    if _minor(was.python) != _minor(now.python) or was.implementation != now.implementation:
        yield Difference(
            "environment",
            f"interpreter {was.implementation} {was.python} -> {now.implementation} {now.python}",
        )
    yield from package_differences(was.packages, now.packages)
    was_lock, now_lock = (lock.sha256[:12] if lock else "none" for lock in (was.lock, now.lock))
    if was_lock != now_lock:
        yield Difference("environment", f"lock {was_lock} -> {now_lock}", matters=False)
    if was.cpu.model != now.cpu.model:
        sentence = f"processor {was.cpu.model} -> {now.cpu.model}"
        yield Difference("environment", sentence, matters=exact_cpu, is_hardware=True)
    was_libc, now_libc = (one.system.get("libc", "unknown") for one in (was, now))
    if was_libc != now_libc:
        yield Difference("environment", f"C library {was_libc} -> {now_libc}")
    was_image, now_image = (_image_in_words(one) for one in (was, now))
    if was_image != now_image:
        yield Difference("environment", f"image {was_image} -> {now_image}", matters=False)
    was_cards, now_cards = (cards_in_words(one) or "none" for one in (was, now))
    if was_cards != now_cards:
        sentence = f"graphics card {was_cards} -> {now_cards}"
        yield Difference("environment", sentence, matters=on_gpu, is_hardware=True)


def _image_in_words(environment: Environment) -> str:
    if environment.image is None:  # nothing inside a container tells its image's id
        return f"of unknown id (build id {environment.build_id[:12]})" if environment.build_id else "none"
    return f"{environment.image.id[:19]} (build id {(environment.image.build_id or 'none')[:12]})"


def cards_in_words(environment: Environment) -> str:
    """Name every model of graphics card with its driver, each once; empty where there is none."""
    return "; ".join(sorted({f"{card.name}, driver {card.driver}" for card in environment.gpu}))


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def package_differences(was: Mapping[str, Package], now: Mapping[str, Package]) -> Iterator[Difference]:
    """Yield every package that was added, is gone, or is another than it was."""
    for name in sorted({*was, *now}):
        old, new = was.get(name), now.get(name)
        if old == new:
            continue
        if old is None or new is None:
            sentence = (
                f"package {name} {old.version if old else 'absent'} -> {new.version if new else 'absent'}"
            )
        elif old.version != new.version:
            sentence = f"package {name} {old.version} -> {new.version}"
        else:
            sentence = f"package {name} {old.version} holds other files than before (digest of its RECORD)"
        yield Difference("environment", sentence)


def code_differences(
    was: Code, files: Mapping[str, str], commit: str | None, distance: str
) -> Iterator[Difference]:
    """Yield every difference between a run's code and the present one.

    Parameters
    ----------
    was
        The recorded code.
    files
        The present source files' sha256.
    commit
        The present commit; None without git.
    distance
        How far the present commit is from the recorded one, in words.
    """
    changed = [
        f"{path} ({_change(was.files.get(path), files.get(path))})"
        for path in sorted({*was.files, *files})
        if was.files.get(path) != files.get(path)
    ]
    if was.commit != commit:
        yield Difference(
            "code",
            f"commit {(was.commit or 'none')[:12]} -> {(commit or 'none')[:12]}, {distance}",
            matters=bool(changed),
        )
    if changed:
        more = f" and {len(changed) - _LISTED} more" if len(changed) > _LISTED else ""
        uncommitted = ", the recorded run had uncommitted changes" if was.dirty else ""
        yield Difference(
            "code", f"{len(changed)} source files differ{uncommitted}: {', '.join(changed[:_LISTED])}{more}"
        )


def _change(old: str | None, new: str | None) -> str:
    if old is None:
        return "added"
    return "removed" if new is None else "changed"


@dataclass(frozen=True)
class Found:
    """The file that comes nearest to a recorded one, and its sha256; both None when there is none.

    ``passed_over`` is a file that should have been it and has other content; ``reason`` says why a place
    could not be looked into.
    """

    path: Path | None
    sha256: str | None
    passed_over: Path | None = None
    reason: str = ""


def data_differences(was: Mapping[str, str], now: Mapping[str, Found]) -> Iterator[Difference]:
    """Yield every data file that is not there with its recorded sha256, or only elsewhere.

    Parameters
    ----------
    was
        Role to the recorded sha256.
    now
        Role to what was found.
    """
    for role, digest in sorted(was.items()):
        found = now[role]
        if found.sha256 is None:
            why = f"; {found.reason}" if found.reason else ""
            yield Difference(
                "data",
                f"{role}: no file with sha256 {digest[:12]} was found: "
                f"name its folder by {data_named_by()}{why}",
            )
        elif found.sha256 != digest:
            sentence = (
                f"{role}: {found.path} has sha256 {found.sha256[:12]}, recorded is {digest[:12]}: "
                f"name the folder of the recorded file by {data_named_by()}"
            )
            yield Difference("data", sentence)
        elif found.passed_over is not None:
            sentence = f"{role}: {found.passed_over} is not the recorded file, {found.path} is and is used"
            yield Difference("data", sentence, matters=False)
