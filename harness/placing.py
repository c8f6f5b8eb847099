"""Where a run executes: the executor, and the image, that a spec or a recorded run asks for."""

from __future__ import annotations

import importlib.util
import re
from typing import TYPE_CHECKING

from harness.build_id import read_build_record
from harness.errors import UserError
from harness.executors import EXECUTORS
from harness.executors.base import ImageExecutor
from harness.images import MissingImageError
from harness.spec_blocks import IMAGE_CHOICE

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.executors.base import Executor
    from harness.images import ImageIdentity
    from harness.manifest import Manifest
    from harness.spec import RunSpec

__all__ = ["executor_for_run", "executor_for_spec"]

_LOCAL, _CONTAINER = "local", "docker"


def executor_for_spec(spec: RunSpec, name: str | None, *, is_to_run: bool = True) -> Executor:
    """Return the executor of a spec.

    Parameters
    ----------
    spec
        The spec; an image in it asks for a container.
    name
        Name of an executor; None leaves it to the spec.
    is_to_run
        Whether a worker is to be started there; else only questions are asked.

    Raises
    ------
    UserError
        There is no engine that can be used, or it does not hold the image; or no worker could start.
    """
    image = str(spec.get("container.image", "none"))
    made: Executor = EXECUTORS[name or (_LOCAL if image == "none" or _is_inside() else _CONTAINER)]()
    if not isinstance(made, ImageExecutor):
        if is_to_run:
            _demand_torch()
        return made
    wanted = _image_for(str(spec.get("execution.accelerator", "cpu"))) if image == "none" else image
    return made.in_image(wanted)


def executor_for_run(
    run: str,
    manifest: Manifest,
    name: str | None,
    image: str | None,
    warn: Callable[[str], None],
    *,
    is_restored: bool = False,
) -> Executor:
    """Return the executor that repeats a run: where it was made, in the image it was made in.

    Parameters
    ----------
    run
        The run's name, for messages.
    manifest
        The run.
    name
        Name of another executor; None leaves it to the run.
    image
        Another image, as in ``container.image``; None leaves it to the run.
    warn
        Told when the run was made in an image that did not know its own id, as under compose.
    is_restored
        Whether the run's own environment is rebuilt where another is here.

    Raises
    ------
    UserError
        There is no engine that can be used, or it no longer holds the image, or `image` is a mere tag; or no
        worker could start.
    """
    if image is not None and not re.fullmatch(IMAGE_CHOICE, image):
        raise UserError(
            f"--image is {image}: write cpu or cuda (built from this checkout), or an image by digest "
            "(sha256:..., name@sha256:...), because a tag moves"
        )
    was, is_inside = manifest.environment.image, _is_inside()
    in_container = (was is not None or image is not None) and not is_inside
    is_native = name is None and not in_container and not is_inside
    if is_native and manifest.environment.build_id is not None:
        warn(
            f"{run} was made in a container that recorded no image, so it is carried out natively: "
            "--executor docker takes the image of this checkout"
        )
    made: Executor = EXECUTORS[name or (_CONTAINER if in_container else _LOCAL)]()
    if not isinstance(made, ImageExecutor):
        if image is not None:
            raise UserError(
                f"--image is {image}, but the executor {made.name!r} uses no container: leave it out"
            )
        if not is_restored:
            _demand_torch()
        return made
    if image is not None or was is None:
        return made.in_image(image or _image_for(str(manifest.resolved["execution.accelerator"].value)))
    try:
        return made.in_image(was.id, was)
    except MissingImageError as error:
        raise MissingImageError(_way_back(run, manifest, was)) from error


def _way_back(run: str, manifest: Manifest, was: ImageIdentity) -> str:
    code, target = manifest.code, was.target or "cpu"
    base, digest = (was.recipe.get(f"org.opencontainers.image.base.{of}") for of in ("name", "digest"))
    pull = f", or docker pull {was.repo_digest}" if was.repo_digest else ""
    patch = f" with {run}/{code.patch.path} applied" if code.patch else ""
    return (
        f"the image that {run} was made in, {was.id}, is gone from the engine, and no other takes its place "
        f"unasked: load it again (docker load{pull}), or rebuild it from its recipe: check out commit "
        f"{(code.commit or 'none')[:12]}{patch}, `harness image build --target {target}` with "
        f"BASE_IMAGE={base or '(unknown)'} ({digest or 'of unknown digest'}) and the BUILD_IMAGE that was "
        f"made beside it, if any (build id {(was.build_id or 'none')[:12]}), and repeat the run there with "
        f"--image {target}, which compares packages and sources by their content"
    )


def _demand_torch() -> None:
    """Refuse before anything is written; found, not imported, because the host side never imports torch."""
    if importlib.util.find_spec("torch") is None:
        raise UserError(
            "this environment has no torch, so nothing can run in it: add --executor docker, or use the "
            "environment that `make env` makes (. .venv/bin/activate)"
        )


def _image_for(accelerator: str) -> str:
    return "cuda" if accelerator in {"cuda", "gpu"} else "cpu"


def _is_inside() -> bool:
    return read_build_record() is not None
