"""Build an image from the checkout, through the Docker SDK and the engine's own builder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.build_id import TARGETS, build_id
from harness.code_capture import revision
from harness.errors import HarnessError, UserError
from harness.image_files import baked_record
from harness.images import ImageIdentity, engine_errors, identify, last_words
from harness.site import repository, site_settings

if TYPE_CHECKING:
    from docker.client import DockerClient

__all__ = ["build_arguments", "build_image"]

_SETTINGS = ("BASE_IMAGE", "BUILD_IMAGE", "BASE_DIGEST", "TORCH_CPU_INDEX")
"""Build arguments that a site sets: in the environment, or in ``.env``, where compose finds them, too."""

_BASE_FIRST = "where no container registry is reachable, `make base-image` goes first, once"


def build_arguments(root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Collect the site's build arguments, the same that compose passes on, so that both share a cache.

    Parameters
    ----------
    root
        The checkout: ``.env`` in it, which `make base-image` writes, is overruled by `environ`.
    environ
        The caller's environment.
    """
    known = site_settings(root, environ)
    pinned = re.search(r"^ARG BASE_IMAGE=(\S+)$", (root / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    if pinned is None:
        raise UserError(f"{root / 'Dockerfile'} has no line ARG BASE_IMAGE=...: restore it")
    arguments = {name: known.get(name, "") for name in _SETTINGS}
    base = arguments["BASE_IMAGE"] or pinned[1]
    if "BASE_IMAGE" in environ:
        # What .env says beside its base goes with that base: not with one that is put in its place.
        arguments |= {name: environ.get(name, "") for name in ("BUILD_IMAGE", "BASE_DIGEST")}
    digest = base.partition("@")[2] or arguments["BASE_DIGEST"]
    return {**arguments, "BASE_IMAGE": base, "BASE_DIGEST": digest}


def build_image(
    client: DockerClient,
    root: Path,
    target: str,
    *,
    arguments: Mapping[str, str],
    tag: str | None = None,
    no_cache: bool = False,
    show: Callable[[str], None],
) -> ImageIdentity:
    """Build an image, and check that it holds the build id of the checkout.

    Parameters
    ----------
    client
        The engine.
    root
        The checkout.
    target
        Stage of the Dockerfile.
    arguments
        From :func:`build_arguments`.
    tag
        Its name; by default the target's among the checkout's images.
    no_cache
        Build every step anew.
    show
        Is told each step, and what a failed step printed.

    Raises
    ------
    UserError
        There is no such target, or no Dockerfile.
    HarnessError
        A step failed, or the checkout changed meanwhile.
    """
    if target not in TARGETS:
        raise UserError(f"there is no target {target!r}: write one of {', '.join(TARGETS)}")
    if not (root / "Dockerfile").is_file():
        raise UserError(f"there is no Dockerfile in {root}: images are built from a checkout of the project")
    wanted = build_id(root, target)
    commit = revision(root)
    name = tag or f"{repository(root)}:{target}"
    try:
        stream = client.api.build(
            path=str(root),
            target=target,
            tag=name,
            buildargs={**arguments, "BUILD_ID": wanted, "REVISION": commit or ""},
            nocache=no_cache,
            rm=True,
            forcerm=True,
            decode=True,
        )
        _follow(stream, show)
    except engine_errors() as error:
        raise HarnessError(f"the image could not be built: {last_words(error)}") from error
    built = identify(client, name)
    record = baked_record(client, built.id)
    if record is None or record.build_id != wanted:
        raise HarnessError(
            f"{name} does not hold the build id of the checkout, which changed meanwhile: build again"
        )
    return built


def _follow(stream: Iterable[Mapping[str, Any]], show: Callable[[str], None]) -> None:
    printed: list[str] = []
    step = ""
    for event in stream:
        if "error" in event:
            for line in printed[-20:]:
                show(line)
            cure = f"; {_BASE_FIRST}" if " : FROM " in step else ""
            raise HarnessError(f"the image could not be built: {_plain(event['error'])}{cure}")
        text = _plain(event.get("stream", ""))
        if text.startswith("Step "):
            printed.clear()
            step = text
            show(text if len(text) <= 100 else f"{text[:97]}...")
        elif text and not text.startswith(("--->", "Removing intermediate")):
            printed.append(text)
            if re.match(r"environment: \d/\d", text):
                show(f"  {text}")


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[\d*m", "", text).strip()
