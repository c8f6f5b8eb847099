"""What is in an image, read through the engine without starting anything in it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.build_id import RECORD, BuildRecord, parse_record
from harness.labels import labels

if TYPE_CHECKING:
    from docker.client import DockerClient

__all__ = [
    "ImageEntry",
    "baked_record",
    "content_digest",
    "differing_paths",
    "differing_settings",
    "entries_of",
    "image_entries",
    "packages_in",
]

_OF_THE_ENGINE = frozenset(
    {".dockerenv", "dev", "proc", "sys", "etc/hostname", "etc/hosts", "etc/resolv.conf"}
)
"""What the engine puts into every container that it makes."""


_SETTINGS = (
    "User",
    "Entrypoint",
    "Cmd",
    "WorkingDir",
    "Shell",
    "StopSignal",
    "Healthcheck",
    "ExposedPorts",
    "Volumes",
)
"""What an image's configuration says of a container, beside its variables; labels tell how it was made."""


@dataclass(frozen=True)
class ImageEntry:
    """A file, folder or link of an image: all that two images are compared by, which leaves out times.

    Parameters
    ----------
    kind
        ``file``, ``folder``, ``link`` or ``device``.
    mode, uid, gid
        Rights and owner.
    content
        A file's sha256, a link's target, else empty.
    extended
        Extended attributes, in words; empty for nearly every file.
    """

    kind: str
    mode: int
    uid: int
    gid: int
    content: str
    extended: str = ""

    def __str__(self) -> str:
        """Show the facts in one line."""
        content = self.content[:12] if self.kind == "file" else self.content
        return " ".join(
            filter(None, (self.kind, f"{self.mode:04o}", f"{self.uid}:{self.gid}", content, self.extended))
        )


class _Stream(io.RawIOBase):
    """The engine's chunks as a file that is read once."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = next(self._chunks, b"")
        taken, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


@contextlib.contextmanager
def _unstarted(client: DockerClient, image_id: str) -> Iterator[Any]:
    container = client.containers.create(
        image_id, entrypoint=["/never-started"], network_mode="none", labels=labels()
    )
    try:
        yield container
    finally:
        container.remove(force=True)


def baked_record(client: DockerClient, image_id: str) -> BuildRecord | None:
    """Read the build record that an image of this project holds; None where it holds none."""
    from docker.errors import NotFound

    with _unstarted(client, image_id) as container:
        try:
            chunks, _ = container.get_archive(str(RECORD))
        except NotFound:
            return None
        with tarfile.open(fileobj=io.BufferedReader(_Stream(chunks)), mode="r|") as tar:
            member = tar.next()
            text = tar.extractfile(member) if member is not None else None
            return parse_record(text.read()) if text is not None else None


def image_entries(client: DockerClient, image_id: str) -> dict[str, ImageEntry]:
    """Read every path of an image's file system."""
    with _unstarted(client, image_id) as container:
        return entries_of(container.export())


def entries_of(chunks: Iterable[bytes]) -> dict[str, ImageEntry]:
    """Read every path of a file system from its archive, but what the engine puts there."""
    entries: dict[str, ImageEntry] = {}
    with tarfile.open(fileobj=io.BufferedReader(_Stream(chunks), 1 << 20), mode="r|") as tar:
        for member in tar:
            name = member.name.removeprefix("./").rstrip("/")
            if name in _OF_THE_ENGINE or name.partition("/")[0] in _OF_THE_ENGINE:
                continue
            if member.islnk():
                entries[name] = entries[member.linkname.removeprefix("./")]
            else:
                entries[name] = _entry(tar, member)
    return dict(sorted(entries.items()))


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo) -> ImageEntry:
    kind, content = "device", f"{member.devmajor}:{member.devminor}"
    if member.isfile():
        file = tar.extractfile(member)
        kind, content = "file", _sha256(file) if file is not None else ""
    elif member.isdir():
        kind, content = "folder", ""
    elif member.issym():
        kind, content = "link", member.linkname
    attributes = {key: value for key, value in member.pax_headers.items() if "xattr" in key}
    extended = " ".join(f"{key}={value!r}" for key, value in sorted(attributes.items()))
    return ImageEntry(kind, member.mode & 0o7777, member.uid, member.gid, content, extended)


def _sha256(file: Any) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def content_digest(entries: Mapping[str, ImageEntry]) -> str:
    """Digest paths, rights, owners and bytes; equal for two images that differ in times only."""
    lines = "".join(f"{path}\0{entry!r}\n" for path, entry in sorted(entries.items()))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def differing_paths(old: Mapping[str, ImageEntry], new: Mapping[str, ImageEntry]) -> Iterator[str]:
    """Name each path by which two images differ, and how."""
    for path in sorted({*old, *new}):
        before, after = old.get(path), new.get(path)
        if before is None:
            yield f"{path}: only in the second"
        elif after is None:
            yield f"{path}: only in the first"
        elif before != after:
            yield f"{path}: {before} | {after}"


def differing_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Name each setting by which two images would start differently, and how; labels start nothing.

    Parameters
    ----------
    old, new
        ``Config`` of the images, in the engine's words.
    """
    settings = [(name, old.get(name) or None, new.get(name) or None) for name in _SETTINGS]
    before, after = (
        {name: text for name, _, text in (one.partition("=") for one in config.get("Env") or ())}
        for config in (old, new)
    )
    settings += [(f"Env {name}", before.get(name), after.get(name)) for name in sorted({*before, *after})]
    for name, was, now in settings:
        if was != now:
            yield f"{name}: {was!r} | {now!r}"


def packages_in(entries: Mapping[str, ImageEntry]) -> dict[str, str]:
    """List the distributions of the image's environment and their versions, by the names of their folders."""
    pattern = re.compile(r"opt/ptychopinn/venv/lib/[^/]+/site-packages/([^/]+)-([^/-]+)\.dist-info")
    found = (pattern.fullmatch(path) for path in entries)
    return {match[1].replace("_", "-").lower(): match[2] for match in found if match is not None}
