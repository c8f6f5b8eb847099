"""What a run runs on: interpreter, packages, lock, processor, graphics cards.

``python -m harness.environment`` prints the interpreter's part as JSON; an executor runs it the way it runs
the worker, so that what is recorded is what the worker sees.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import importlib.metadata

from harness.build_id import read_build_record
from harness.images import ImageIdentity

__all__ = [
    "LOCK_COPY",
    "Cpu",
    "Environment",
    "Gpu",
    "Lock",
    "Package",
    "cpu",
    "find_lock",
    "gpus",
    "interpreter",
    "packages_digest",
    "record_digest",
]

_NO_PART_IN_A_RUN = {"pip"}
"""It installs, and its version is the interpreter's: an image, which is installed into once, has none."""

_INSTALLERS_OWN = {"INSTALLER", "RECORD", "REQUESTED", "direct_url.json", "uv_build.json", "uv_cache.json"}


LOCK_COPY = "environment.lock"
"""Where a run folder keeps the lock."""


@dataclass(frozen=True)
class Package:
    """An installed distribution: its version, and the digest of what its RECORD says was installed."""

    version: str
    record_digest: str | None


@dataclass(frozen=True)
class Cpu:
    """The processor: vendor, model, the instruction sets it reports, and the cores this process may use."""

    vendor: str
    model: str
    flags: tuple[str, ...]
    cores: int


@dataclass(frozen=True)
class Gpu:
    """A graphics card and the driver it runs under."""

    name: str
    driver: str


@dataclass(frozen=True)
class Lock:
    """The lock file of the environment.

    Parameters
    ----------
    path
        Its copy in the run folder.
    sha256
        Digest of its bytes.
    is_installed
        Whether the environment says it was made from this lock; else it is the source tree's lock, and what
        is installed may be something else.
    """

    path: str
    sha256: str
    is_installed: bool


@dataclass(frozen=True)
class Environment:
    """Everything a run ran on.

    Parameters
    ----------
    python, implementation
        The interpreter's full version and its name.
    packages, packages_digest
        Every installed distribution but the project itself and pip, and one digest over all of them.
    lock
        The lock file of the source tree; None where there is none.
    system
        Kernel, machine and C library.
    image
        The container image that it stands in; None outside one.
    process
        What the worker reported about itself: the digest of the source files that it runs. Its threads,
        dispatch targets and library versions stand in the manifest's ``exactness.observed``.
    build_id
        Of the image that the interpreter is in, as the image itself says; None outside an image.
    """

    python: str
    implementation: str
    packages: Mapping[str, Package]
    packages_digest: str
    lock: Lock | None
    cpu: Cpu
    gpu: tuple[Gpu, ...]
    system: Mapping[str, str]
    image: ImageIdentity | None = None
    process: Mapping[str, Any] = field(default_factory=dict)
    build_id: str | None = None


def record_digest(record: str) -> str:
    """Digest a distribution's RECORD so that place of installation, installer and byte code do not matter.

    Parameters
    ----------
    record
        Text of the RECORD file. Scripts outside the packages' folder (their first line names the
        interpreter), byte code and the installer's own notes are left out.
    """
    kept = sorted(f"{path},{digest},{size}\n" for path, digest, size in _record_rows(record))
    return hashlib.sha256("".join(kept).encode("utf-8")).hexdigest()


def _record_rows(record: str) -> Iterator[tuple[str, str, str]]:
    import csv

    for row in csv.reader(record.splitlines()):
        if not row:
            continue
        path, digest, size = (*row, "", "")[:3]
        parts = path.split("/")
        if path.startswith(("/", "../")) or path.endswith(".pyc") or "__pycache__" in parts:
            continue
        if len(parts) == 2 and parts[0].endswith(".dist-info") and parts[1] in _INSTALLERS_OWN:
            continue
        yield path, digest, size


def packages_digest(packages: Mapping[str, Package]) -> str:
    """Digest names, versions and RECORD digests of all packages together."""
    lines = (
        f"{name}=={package.version} {package.record_digest}\n" for name, package in sorted(packages.items())
    )
    return hashlib.sha256("".join(lines).encode("utf-8")).hexdigest()


def _installed(own_root: Path) -> dict[str, Package]:
    import importlib.metadata

    packages: dict[str, Package] = {}
    for distribution in importlib.metadata.distributions():
        raw_name = distribution.metadata["Name"]
        name = re.sub(r"[-_.]+", "-", raw_name or "").lower()
        if not name or name in packages or name in _NO_PART_IN_A_RUN:
            continue
        record = distribution.read_text("RECORD")
        if _is_this_project(distribution, record, own_root):
            continue
        packages[name] = Package(distribution.version, None if record is None else record_digest(record))
    return dict(sorted(packages.items()))


def _is_this_project(
    distribution: importlib.metadata.Distribution, record: str | None, own_root: Path
) -> bool:
    if record is not None and re.search(r"^\"?harness/worker\.py", record, re.MULTILINE):
        return True
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if origin.get("url") == own_root.as_uri():
        return True
    located = getattr(distribution, "_path", None)
    return isinstance(located, Path) and located.suffix == ".egg-info" and located.parent == own_root


def interpreter() -> dict[str, Any]:
    """Describe this interpreter and everything installed for it, as JSON-ready values."""
    packages = _installed(Path(__file__).resolve().parent.parent)
    record = read_build_record()
    return {
        "build_id": record.build_id if record else None,
        "prefix": sys.prefix,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "packages": {
            name: {"version": p.version, "record_digest": p.record_digest} for name, p in packages.items()
        },
        "packages_digest": packages_digest(packages),
        "system": {
            "kernel": f"{platform.system()} {platform.release()}",
            "machine": platform.machine(),
            "libc": " ".join(platform.libc_ver()),
        },
    }


def find_lock(prefix: Path, root: Path) -> tuple[Lock, bytes] | None:
    """Find the lock of an environment, and read it.

    Parameters
    ----------
    prefix
        The environment; its installer leaves a copy of the lock there.
    root
        The source tree, whose lock is taken where the environment names none.
    """
    for path in (prefix / "installed.lock", root / "docker" / "requirements-cpu.lock"):
        if path.is_file():
            text = path.read_bytes()
            digest = hashlib.sha256(text).hexdigest()
            return Lock(LOCK_COPY, digest, is_installed=path.parent == prefix), text
    return None


def cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> Cpu:
    """Describe the processor of this machine."""
    facts: dict[str, str] = {}
    for line in (
        cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.exists() else []
    ):
        key, separator, value = line.partition(":")
        if separator:
            facts.setdefault(key.strip(), value.strip())
    return Cpu(
        vendor=facts.get("vendor_id", facts.get("CPU implementer", "unknown")),
        model=facts.get("model name", facts.get("CPU part", platform.processor() or platform.machine())),
        flags=tuple(sorted(facts.get("flags", facts.get("Features", "")).split())),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    )


def gpus() -> tuple[Gpu, ...]:
    """Describe the NVIDIA cards that this machine shows; none where there is no driver."""
    import shutil

    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    import csv
    import subprocess

    asked = subprocess.run(
        [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if asked.returncode != 0:
        return ()
    rows = csv.reader(asked.stdout.splitlines(), skipinitialspace=True)
    return tuple(Gpu(row[0], row[1]) for row in rows if len(row) == 2)


if __name__ == "__main__":
    json.dump(interpreter(), sys.stdout, sort_keys=True)
