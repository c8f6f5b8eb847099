"""``harness image``: build, inspect and compare container images."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click

from harness.code_capture import source_root
from harness.errors import ExitCode
from harness.site import repository

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docker.client import DockerClient

__all__ = ["image"]

_NAMED = 10
_ANNOTATION = "org.opencontainers.image."
_LONGEST_BUILD_S = 3600


@click.group("image")
def image() -> None:
    """Build, inspect and compare container images."""


@image.command("build")
@click.option("--target", default="cpu", show_default=True, help="cpu, cuda or test.")
@click.option("--tag", help="Name of the image; by default IMAGE:TARGET (ptychopinn-harness:TARGET).")
@click.option("--no-cache", is_flag=True, help="Build every step anew.")
def build_command(target: str, tag: str | None, no_cache: bool) -> None:
    """Build an image from this checkout.

    IMAGE, in the environment or in the checkout's .env, names the images, as it does for compose.
    """
    from harness.image_build import build_arguments, build_image
    from harness.images import connect

    root = source_root()
    built = build_image(
        connect(_LONGEST_BUILD_S),
        root,
        target,
        arguments=build_arguments(root, os.environ),
        tag=tag,
        no_cache=no_cache,
        show=lambda line: click.echo(line, err=True),
    )
    click.echo(f"built      {tag or f'{repository(root)}:{target}'}\nid         {built.id}")
    click.echo(f"build id   {built.build_id}")


@image.command("inspect", short_help="Say what IMAGE is and what is in it.")
@click.argument("reference", metavar="[IMAGE]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect_command(reference: str | None, as_json: bool) -> None:
    """Say what IMAGE is: identity, what it was built from, size, packages, content.

    It says whether that was this checkout as it stands. Without IMAGE, it is the checkout's image for cpu.
    """
    from harness.images import connect

    facts = _facts(connect(), reference or f"{repository(source_root())}:cpu")
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    packages = facts.pop("packages")
    layers = facts.pop("layers")
    recipe = facts.pop("recipe")
    for name, value in facts.items():
        click.echo(f"{name:<15}{value}")
    click.echo(f"{'layers':<15}{', the last '.join([str(len(layers)), *layers[-1:]])}")
    for name, value in recipe.items():
        if name.startswith(_ANNOTATION):
            click.echo(f"{name.removeprefix(_ANNOTATION):<15}{value}")
    click.echo(f"{'packages':<15}{len(packages)}: " + ", ".join(f"{k} {v}" for k, v in packages.items()))


def _facts(client: DockerClient, reference: str) -> dict[str, Any]:
    from harness.build_id import stale
    from harness.image_files import baked_record, content_digest, image_entries, packages_in
    from harness.images import identify

    identity = identify(client, reference)
    size = client.images.get(identity.id).attrs["Size"]
    entries = image_entries(client, identity.id)
    record = baked_record(client, identity.id)
    made_from = stale(record, source_root()) if record else "this image is not one of this project's"
    return {
        "id": identity.id,
        "repo digest": identity.repo_digest or "none, it was never pushed",
        "platform": identity.platform,
        "build id": identity.build_id,
        "target": identity.target,
        "checkout": made_from or "this image was built from this checkout as it stands",
        "size": f"{size / 1e6:.0f} MB",
        "content": f"{content_digest(entries)} ({len(entries)} paths)",
        "layers": list(identity.layers),
        "recipe": dict(identity.recipe),
        "packages": packages_in(entries),
    }


@image.command("compare")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
def compare_command(first: str, second: str) -> ExitCode:
    """Compare two images by what is in them and how they start.

    Paths, rights, owners and bytes; user, command, variables and the like. Times and labels are left out.

    The exit code is 3 when they differ.
    """
    from harness.image_files import content_digest, differing_paths, differing_settings, image_entries
    from harness.images import connect, identify

    client = connect()
    ids = [identify(client, name).id for name in (first, second)]
    old, new = (image_entries(client, one) for one in ids)
    paths = list(differing_paths(old, new))
    settings = list(differing_settings(*(client.images.get(one).attrs["Config"] for one in ids)))
    if not paths and not settings:
        click.echo(f"same content: {len(old)} paths, {content_digest(old)}")
        return ExitCode.OK
    if paths:
        _name(f"different content: {len(paths)} of {len({*old, *new})} paths", paths)
    if settings:
        _name(f"different configuration: {len(settings)} settings", settings)
    return ExitCode.DIFFERS


def _name(title: str, differences: Sequence[str]) -> None:
    click.echo(title)
    for sentence in differences[:_NAMED]:
        click.echo(f"  {sentence}")
    if len(differences) > _NAMED:
        click.echo(f"  and {len(differences) - _NAMED} more")
