"""The manifest: the commit record of a run, its types, its schema, and its integrity."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import pydantic
from pydantic import ConfigDict, JsonValue, TypeAdapter

from harness.called import called
from harness.code_capture import Code
from harness.environment import Environment
from harness.errors import ExitCode, HarnessError, UserError
from harness.outcome import CheckpointRecord, ProductRecord, Status
from harness.store import (
    BEGUN,
    MANIFEST,
    file_digest,
    render_json,
    state_without_manifest,
    write_durably,
)

__all__ = [
    "MANIFEST_VERSION",
    "Attempt",
    "CheckpointRecord",
    "DamagedError",
    "DataRecord",
    "ExactnessRecord",
    "FileRecord",
    "Leaf",
    "Manifest",
    "ProductRecord",
    "RepeatedRun",
    "ShadowedValue",
    "damaged_files",
    "manifest_json_schema",
    "plain_manifest",
    "read_manifest",
    "write_manifest",
]

MANIFEST_VERSION: Literal[1] = 1
SCHEMA_NAME: Literal["manifest.schema.json"] = "manifest.schema.json"

Scalar: TypeAlias = str | int | float | bool | None


class DamagedError(HarnessError):
    """A file of a run is no longer what was written."""

    exit_code = ExitCode.DIFFERS


@dataclass(frozen=True)
class ShadowedValue:
    """A value that a higher layer has hidden."""

    value: JsonValue
    source: str
    place: str | None = None


@dataclass(frozen=True)
class Leaf:
    """A resolved value, the layer that decided it, where it was written, and what it hides."""

    value: JsonValue
    source: str
    shadowed: tuple[ShadowedValue, ...] = ()
    place: str | None = None
    note: str = ""


@dataclass(frozen=True)
class ExactnessRecord:
    """The exactness profile that was asked for, and what the worker observed."""

    profile: str
    threads: int
    observed: Mapping[str, JsonValue]


@dataclass(frozen=True)
class DataRecord:
    """A data set of the run: its role, its name and digest, and what was found in it.

    Parameters
    ----------
    role
        ``train`` or ``test``.
    name
        File name, or ``simulated``; never an absolute path.
    sha256
        Of the file's bytes; of a simulated scan, the digest of its arrays.
    size
        Bytes; None for a simulated scan.
    facts
        Shapes, number of frames, units and the like, as the worker found them.
    """

    role: str
    name: str
    sha256: str
    size: int | None
    facts: Mapping[str, JsonValue]


@dataclass(frozen=True)
class FileRecord:
    """Any file of the run folder, for its integrity."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Attempt:
    """One start of the worker.

    Parameters
    ----------
    started, seconds
        When, and for how long; for how long it is known to have lived where its host died with it.
    exit_status
        How it ended; a signal's is its number, negative; None where its host died with it.
    from_step
        Optimizer steps that an earlier attempt had done and this one did not repeat.
    differences
        What was not as it was when the run began, and was wanted all the same.
    cpu_seconds
        Processor time that it is known to have spent, if it died what it last told; None where nobody knows.
    """

    started: str
    seconds: float
    exit_status: int | None
    from_step: int = 0
    differences: tuple[str, ...] = ()
    cpu_seconds: float | None = None


@dataclass(frozen=True)
class RepeatedRun:
    """The run that this one repeats or refines: why, its folder's name, and its manifest's own digest."""

    kind: Literal["rerun", "verify", "refine"]
    run: str
    manifest: str


@dataclass(frozen=True)
class Manifest:
    """What a run was, what it ran on and what came out of it.

    ``compared`` holds the facts by which two runs are compared; everything that may differ from machine to
    machine without changing the result stands in ``recorded``. ``timings`` are those of the last attempt.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    status: Status
    error: str | None
    name: str
    created: str
    finished: str
    rerun_of: RepeatedRun | None
    spec: str
    resolved: Mapping[str, Leaf]
    overrides_applied: Mapping[str, JsonValue]
    seeds: Mapping[str, int]
    exactness: ExactnessRecord
    code: Code
    environment: Environment
    data: tuple[DataRecord, ...]
    groups_digest: str | None
    checkpoints: tuple[CheckpointRecord, ...]
    products: tuple[ProductRecord, ...]
    metrics: Mapping[str, JsonValue]
    collapse: Mapping[str, JsonValue]
    timings: Mapping[str, float]
    attempts: tuple[Attempt, ...]
    files: Mapping[str, FileRecord]
    compared: Mapping[str, Scalar]
    recorded: Mapping[str, JsonValue]
    refinement: Mapping[str, JsonValue] = dataclasses.field(default_factory=dict)
    version: Literal[1] = MANIFEST_VERSION
    schema: Literal["manifest.schema.json"] = SCHEMA_NAME
    manifest_digest: str = ""

    @property
    def cpu_seconds(self) -> float | None:
        """Processor time that all attempts are known to have spent; None where nothing is known."""
        known = [one.cpu_seconds for one in self.attempts if one.cpu_seconds is not None]
        return sum(known) if known else self.timings.get("cpu_seconds")


@functools.cache
def _adapter() -> TypeAdapter[Manifest]:
    return TypeAdapter(Manifest)


def manifest_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of ``manifest.json``."""
    schema = _adapter().json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _with_digest(plain: dict[str, Any]) -> dict[str, Any]:
    bare = {**plain, "manifest_digest": ""}
    return {**bare, "manifest_digest": hashlib.sha256(render_json(bare)).hexdigest()}


def plain_manifest(manifest: Manifest) -> dict[str, Any]:
    """Return a manifest as dictionaries, lists and plain values, as they are written."""
    plain: dict[str, Any] = _adapter().dump_python(manifest, mode="json")
    return plain


def write_manifest(run_dir: Path, manifest: Manifest, name: str = MANIFEST) -> Manifest:
    """Write the manifest, the last file of a run, and return it with its own digest filled in.

    Parameters
    ----------
    run_dir
        The run folder.
    manifest
        The manifest.
    name
        The file's name; another one for what is known when the run begins.
    """
    plain = _with_digest(plain_manifest(manifest))
    write_durably(run_dir / name, render_json(plain))
    return dataclasses.replace(manifest, manifest_digest=plain["manifest_digest"])


def read_manifest(run_dir: Path, name: str = MANIFEST) -> Manifest:
    """Read a run's manifest and check that not one bit of it has changed.

    Raises
    ------
    UserError
        The run has no manifest, or one of a version that this project does not know.
    DamagedError
        The manifest is not what was written.
    """
    path = run_dir / name
    if not path.is_file():
        raise UserError(f"{run_dir.name} has no manifest, {_instead(run_dir)}")
    text = path.read_bytes()
    try:
        plain = json.loads(text)
    except ValueError as error:
        raise DamagedError(f"{path} is damaged: it is no longer JSON ({error})") from error
    version = plain.get("version") if isinstance(plain, dict) else None
    if isinstance(version, int) and version > MANIFEST_VERSION and text == render_json(_with_digest(plain)):
        newer = f"version {version}, which is newer than {MANIFEST_VERSION}"
        raise UserError(f"{path} has {newer}: use a newer checkout")
    if not isinstance(plain, dict) or text != render_json(_with_digest(plain)):
        raise DamagedError(f"{path} is damaged: its content does not match the digest it carries")
    try:
        return _adapter().validate_python(plain)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DamagedError(f"{path} does not follow its schema: {where}: {first['msg']}") from error


def _instead(run_dir: Path) -> str:
    state = state_without_manifest(run_dir)
    if state == "running":
        return f"it is running: wait for its end, `{called('show', run_dir)}` tells when it has come"
    if (run_dir / BEGUN).is_file():
        return f"it is {state}: continue it by `{called('resume', run_dir)}`"
    return f"it is {state}: run its spec again"


def damaged_files(run_dir: Path, manifest: Manifest) -> tuple[str, ...]:
    """Name every file of the run folder that is missing or no longer has its recorded digest."""
    problems = []
    for name, record in sorted(manifest.files.items()):
        path = run_dir / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif (found := file_digest(path)) != record.sha256:
            digests = f"its sha256 is {found[:12]}, recorded is {record.sha256[:12]}"
            problems.append(f"{name} is damaged: {digests}")
    return tuple(problems)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(manifest_json_schema(), indent=1) + "\n")
