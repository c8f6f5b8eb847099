"""Goldens: what a run came to, kept with the source and compared with what it comes to now.

A golden file holds one golden for every key (lock, profile, threads, processor), because only there the same
bits are promised; and, beside them, published figures, which hold everywhere within what rounding moves them.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import pydantic
from pydantic import ConfigDict, JsonValue, TypeAdapter

from harness.code_capture import Code
from harness.compare import cards_in_words, code_differences, facts_that_differ, package_differences
from harness.environment import Package
from harness.errors import UserError
from harness.manifest import Manifest, Scalar
from harness.spreads import Task, figures_of
from harness.store import render_json, write_durably
from harness.verification import facts_of
from ptycho_torch.additions import is_unused_addition
from ptycho_torch.trace import TRACE, TraceLine, read_trace

__all__ = [
    "Golden",
    "GoldenFile",
    "Key",
    "MadeFrom",
    "Published",
    "golden_json_schema",
    "golden_of",
    "key_of",
    "predecessor",
    "publish",
    "read_goldens",
    "reasons",
    "trace_of",
    "write_goldens",
]

_PROCESSOR = {"portable": "x86-64 with AVX2 and FMA", "portable-sse": "x86-64"}
"""What each portable profile promises the same bits on; under `strict` it is the processor's model."""

_SHORT = 12
_LOCK = ", lock "
_OBSERVED, _KNOWN_ANSWERS, _SLOTS = "observed.", "observed.known_answers.", "optimizer/"


class _Strict:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Key(_Strict):
    """What must be the same for the same bits to be promised.

    Parameters
    ----------
    lock
        sha256 of the lock that the environment was made from.
    profile, threads
        Of the exactness.
    processor
        The class of processors that the profile promises the same bits on, or the card and its driver.
    """

    lock: str
    profile: str
    threads: int
    processor: str

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.processor}, {self.profile}, {threads}{_LOCK}{self.lock[:_SHORT]}"


@dataclass(frozen=True)
class MadeFrom(_Strict):
    """What a golden was made from, to say later why it moved.

    Parameters
    ----------
    commit, code
        The commit, and every source file with the beginning of its sha256.
    packages
        Every package with its version.
    values
        Every resolved value.
    """

    commit: str | None
    code: Mapping[str, str]
    packages: Mapping[str, str]
    values: Mapping[str, JsonValue]


@dataclass(frozen=True)
class Golden(_Strict):
    """What a run came to.

    Parameters
    ----------
    facts
        The compared facts and the answers to known questions.
    tensors
        Every weight with its digest after the last batch.
    trace
        A line for each batch.
    origin
        What it was made from.
    """

    facts: Mapping[str, Scalar]
    tensors: Mapping[str, str]
    trace: tuple[str, ...]
    origin: MadeFrom


@dataclass(frozen=True)
class Published(_Strict):
    """A figure that holds on every machine, and how far it may be off."""

    value: float
    within: float


@dataclass(frozen=True)
class GoldenFile(_Strict):
    """Everything that is kept of one spec: published figures, and a golden for every key, by its text."""

    published: Mapping[str, Published] = dataclasses.field(default_factory=dict)
    goldens: Mapping[str, Golden] = dataclasses.field(default_factory=dict)
    version: Literal[1] = 1
    schema: Literal["golden.schema.json"] = "golden.schema.json"


@functools.cache
def _adapter() -> TypeAdapter[GoldenFile]:
    return TypeAdapter(GoldenFile)


def golden_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a golden file."""
    schema = _adapter().json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def read_goldens(path: Path) -> GoldenFile:
    """Read a golden file; one that is not there holds nothing.

    Raises
    ------
    UserError
        The file holds something else.
    """
    if not path.is_file():
        return GoldenFile()
    try:
        return _adapter().validate_json(path.read_bytes())
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path} is no golden file: {where}: {first['msg']}") from error


def write_goldens(path: Path, goldens: GoldenFile) -> None:
    """Write a golden file durably, one fact a line, sorted, so that a change of it is read as such."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, render_json(_adapter().dump_python(goldens, mode="json")))


def key_of(manifest: Manifest) -> Key:
    """Tell under which key a run's golden is kept.

    Raises
    ------
    UserError
        The environment was not made from a lock.
    """
    lock, exactness = manifest.environment.lock, manifest.exactness
    if lock is None or not lock.is_installed:
        raise UserError(
            "this environment was not made from a lock, so that no golden holds for it: `make env` makes one"
        )
    processor = _PROCESSOR.get(exactness.profile, manifest.environment.cpu.model)
    if manifest.resolved["execution.accelerator"].value != "cpu":
        processor = cards_in_words(manifest.environment) or "no graphics card"
    return Key(lock.sha256, exactness.profile, exactness.threads, processor)


def golden_of(run_dir: Path, manifest: Manifest) -> Golden:
    """Make the golden of a run.

    Parameters
    ----------
    run_dir, manifest
        The run's folder and manifest.
    """
    lines = read_trace(run_dir / TRACE)
    tensors = dict(lines[-1].tensors or {}) if lines else {}
    return Golden(
        facts={
            name: value
            for name, value in facts_of(manifest).items()
            if not name.startswith(_OBSERVED) or name.startswith(_KNOWN_ANSWERS)
        },
        tensors={name: digest for name, digest in tensors.items() if not name.startswith(_SLOTS)},
        trace=tuple(_stripped(line).to_json() for line in lines),
        origin=MadeFrom(
            commit=manifest.code.commit,
            code={path: digest[:_SHORT] for path, digest in manifest.code.files.items()},
            packages={name: package.version for name, package in manifest.environment.packages.items()},
            values={
                key: leaf.value
                for key, leaf in manifest.resolved.items()
                if not is_unused_addition(key, leaf.value)
            },
        ),
    )


def _stripped(line: TraceLine) -> TraceLine:
    return dataclasses.replace(line, state=None, names=None, weights=None, tensors=None)


def predecessor(goldens: GoldenFile, key: Key) -> tuple[str, Golden] | None:
    """Return the golden that a run is held against, with its key: its own, else that of another lock."""
    own, alike = str(key), str(key).rpartition(_LOCK)[0]
    others = [(text, one) for text, one in goldens.goldens.items() if text.rpartition(_LOCK)[0] == alike]
    return (own, goldens.goldens[own]) if own in goldens.goldens else next(iter(others), None)


def trace_of(golden: Golden) -> Sequence[TraceLine]:
    """Return a golden's trace; it holds neither states nor tensors."""
    return [TraceLine(**json.loads(line)) for line in golden.trace]


def publish(manifest: Manifest, measured: Task) -> dict[str, Published]:
    """Return a run's figures as published ones, each with the threshold that was measured for it."""
    figures = figures_of(manifest)
    return {
        name: Published(figures[name], spread.threshold)
        for name, spread in measured.figures.items()
        if name in figures
    }


def reasons(was: Golden, now: Golden) -> Iterator[str]:
    """Say what was changed between two goldens that may be why the second differs: values, packages, code."""
    then, today = was.origin, now.origin
    for name in facts_that_differ(then.values, today.values):
        yield f"value {name} {then.values.get(name, 'absent')!r} -> {today.values.get(name, 'absent')!r}"
    packages = [{name: Package(of, None) for name, of in one.packages.items()} for one in (then, today)]
    yield from (difference.sentence for difference in package_differences(packages[0], packages[1]))
    code = Code("", then.code, then.commit, None, dirty=False, patch=None, archive=None)
    yield from (
        difference.sentence
        for difference in code_differences(code, today.code, today.commit, "see git log")
        if difference.matters
    )
    for name in ("environment.libc", "environment.python"):
        if was.facts.get(name) != now.facts.get(name):
            yield f"{name} {was.facts.get(name)} -> {now.facts.get(name)}"


if __name__ == "__main__":
    sys.stdout.write(json.dumps(golden_json_schema(), indent=1) + "\n")
