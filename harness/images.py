"""Container images: the engine that holds them, and what identifies one. A tag is never an identity."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.build_id import TARGETS as BUILT
from harness.cache import cache_folder, remembered
from harness.errors import UserError
from harness.site import repository

if TYPE_CHECKING:
    from docker.client import DockerClient

__all__ = [
    "BUILD_ID_LABEL",
    "TARGETS",
    "TARGET_LABEL",
    "EngineError",
    "ImageIdentity",
    "MissingImageError",
    "connect",
    "engine_errors",
    "identify",
    "last_words",
    "refusals",
]

TARGETS = ("cpu", "cuda")
BUILD_ID_LABEL = "ptychopinn.build-id"
TARGET_LABEL = "ptychopinn.target"
_RECIPE_LABELS = ("ptychopinn.", "org.opencontainers.image.")
_SOCKET = "/var/run/docker.sock"
_BAD_REQUEST = 400


class EngineError(UserError):
    """There is no container engine that this process can use."""


class MissingImageError(UserError):
    """The engine does not hold an image."""


@dataclass(frozen=True)
class ImageIdentity:
    """What an image is, apart from the names that point at it.

    Parameters
    ----------
    id
        The engine's id, ``sha256:...``, which covers the layers: digest of the image's configuration, or of
        its manifest where the engine keeps images in containerd's store.
    repo_digest
        ``name@sha256:...`` under which a registry knows it; None for an image that was never pushed.
    layers
        DiffID of every layer, the lowest first: digests of the unpacked content.
    platform
        Operating system and architecture (``linux/amd64``).
    build_id
        Digest of what it was built from; None in an image that is not this project's.
    target
        The stage that was built: ``cpu`` or ``cuda``.
    recipe
        The labels that say how it was made: base image, source revision and the like.
    """

    id: str
    repo_digest: str | None
    layers: tuple[str, ...]
    platform: str
    build_id: str | None
    target: str | None
    recipe: Mapping[str, str] = field(default_factory=dict)


def connect(timeout_s: int = 60) -> DockerClient:
    """Return a client of the container engine on this machine.

    Parameters
    ----------
    timeout_s
        How long one request may take, seconds.

    Raises
    ------
    EngineError
        The SDK is not installed, or the engine is absent, stopped, elsewhere, or not open to this user.
    """
    try:
        from docker.client import DockerClient
    except ModuleNotFoundError as error:
        raise EngineError(
            "the Docker SDK is not installed in this environment: pip install 'docker>=7', or make host-env"
        ) from error
    source, address = _named_engine()
    if not address.startswith("unix://"):
        raise EngineError(
            f"{source} is {address}, an engine on another machine, which cannot see the run folders here: "
            "unset DOCKER_HOST, choose a context that is local, or run the harness on that machine"
        )
    _knock(address.removeprefix("unix://"))
    try:
        client = DockerClient(base_url=address, timeout=timeout_s)
        client.ping()
    except engine_errors() as error:
        raise EngineError(
            f"the Docker engine at {address} does not answer ({last_words(error)}): "
            "see its log, and start it again: systemctl restart docker"
        ) from error
    return client


def _named_engine() -> tuple[str, str]:
    """Return what names the engine, and its address: the same that the command `docker` would take."""
    if os.environ.get("DOCKER_HOST"):
        return "DOCKER_HOST", os.environ["DOCKER_HOST"]
    from docker.context import ContextAPI
    from docker.context.config import get_current_context_name

    name = os.environ.get("DOCKER_CONTEXT") or get_current_context_name()
    try:
        context = ContextAPI.get_context(name)
        address = context and context.Host
    except Exception as error:  # the SDK raises nothing narrower for a damaged file
        raise EngineError(
            f"the Docker context {name!r} cannot be read ({last_words(error)}): docker context use default"
        ) from error
    if not address:
        raise EngineError(f"there is no Docker context {name!r} with an engine: docker context use default")
    return f"the Docker context {name!r}", str(address)


def _knock(path: str) -> None:
    """Say plainly why the engine's socket cannot be used; the SDK's own errors do not."""
    import socket

    with socket.socket(socket.AF_UNIX) as door:
        try:
            door.connect(path)
        except FileNotFoundError:
            problem = f"there is no Docker engine here, {path} does not exist"
            cure = (
                "install it (apt-get install docker.io), start it (systemctl start docker), "
                "or name another: DOCKER_HOST, docker context use"
            )
        except ConnectionRefusedError:
            problem, cure = f"no Docker engine listens at {path}", "start it: systemctl start docker"
        except PermissionError:
            problem = f"this user may not use the Docker engine at {path}"
            cure = "join its group and log in again: sudo usermod -aG docker $USER"
        except OSError as error:
            problem, cure = (
                f"the Docker engine at {path} cannot be reached ({error})",
                "check DOCKER_HOST and docker context ls",
            )
        else:
            return
    raise EngineError(f"{problem}: {cure}")


def engine_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions by which a request to the engine fails, the SDK's and what it lets through."""
    from docker.errors import DockerException, StreamParseError
    from urllib3.exceptions import HTTPError

    return DockerException, StreamParseError, HTTPError, OSError


def refusals() -> tuple[type[Exception], ...]:
    """Return those of the exceptions that are the engine's alone; none where no engine was asked."""
    if "docker" not in sys.modules:  # it need not be installed
        return ()
    return tuple(kind for kind in engine_errors() if kind is not OSError)


def last_words(error: BaseException) -> str:
    """Return what an error says, on one line; the engine's own words where it is the engine's."""
    text = getattr(error, "explanation", None) or error
    return " ".join(str(text).split()) or type(error).__name__


def identify(client: DockerClient, reference: str) -> ImageIdentity:
    """Identify an image that the engine holds.

    Parameters
    ----------
    client
        From :func:`connect`.
    reference
        A tag, an id (``sha256:...``), or ``name@sha256:...``.

    Raises
    ------
    MissingImageError
        The engine does not hold it, or what was named is no name of an image.
    """
    from docker.errors import APIError, ImageNotFound, NullResource

    try:
        found: dict[str, Any] = client.images.get(reference).attrs
    except (ImageNotFound, NullResource) as error:
        raise MissingImageError(
            f"the Docker engine holds no image {reference}: {_way_to_get(reference)}"
        ) from error
    except APIError as error:
        if error.status_code != _BAD_REQUEST:
            raise
        raise MissingImageError(
            f"{reference!r} names no image ({last_words(error)}): "
            "write a tag, an id (sha256:...) or name@sha256:..."
        ) from error
    labels = found["Config"].get("Labels") or {}
    target, stated = labels.get(TARGET_LABEL), labels.get(BUILD_ID_LABEL)
    # Compose cannot compute a label, so an image that it has built says what it is in its record only.
    if target and not stated:
        stated = _recorded_build_id(client, found["Id"])
    wanted = reference if "@" in reference else None
    digests = sorted(found.get("RepoDigests") or ())
    return ImageIdentity(
        id=found["Id"],
        repo_digest=wanted if wanted in digests else next(iter(digests), None),
        layers=tuple(found["RootFS"].get("Layers") or ()),
        platform="/".join(filter(None, (found["Os"], found["Architecture"], found.get("Variant")))),
        build_id=stated,
        target=target,
        recipe={name: text for name, text in sorted(labels.items()) if name.startswith(_RECIPE_LABELS)},
    )


def _recorded_build_id(client: DockerClient, image_id: str) -> str | None:
    """Return the build id in an image's record, read once: an id never stands for anything else."""
    from harness.image_files import baked_record

    def ask() -> dict[str, Any]:
        record = baked_record(client, image_id)
        return {"build_id": record.build_id if record else None}

    kept = cache_folder() / "images" / f"{image_id.removeprefix('sha256:')}-record.json"
    found: str | None = remembered(kept, frozenset({"build_id"}), ask)["build_id"]
    return found


def _way_to_get(reference: str) -> str:
    name, _, tag = reference.rpartition(":")
    if tag in BUILT and name == repository(Path(__file__).resolve().parent.parent):
        return f"build it: harness image build --target {tag}"
    if "@" in reference:
        return f"fetch it: docker pull {reference}"
    return "load it (docker load), or build one and name that: harness image build"
