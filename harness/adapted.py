"""A recorded run, told what stands here in the place of what it recorded: its data, its image."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.compare import Found
from harness.executors.base import ImageExecutor

if TYPE_CHECKING:
    from harness.executors.base import Executor
    from harness.resolved import ResolvedRun

__all__ = ["with_data", "with_image"]


def with_data(resolved: ResolvedRun, found: Mapping[str, Found]) -> ResolvedRun:
    """Put the data that were found in the place of those that were recorded."""
    from ptycho_torch.headers import read_header

    sources, notes = dict(resolved.sources), list(resolved.notes)
    changed: dict[str, Any] = {}
    for role, place in found.items():
        source = sources[role]
        if source.kind != "file" or place.path is None or place.sha256 in {None, source.sha256}:
            continue
        name = place.path.name
        sources[role] = dataclasses.replace(
            source,
            name=name,
            sha256=str(place.sha256),
            size=place.path.stat().st_size,
            header=dataclasses.replace(read_header(place.path), file=name),
            url=None,
        )
        if resolved.own_values.get(f"data.{role}.sha256") is not None:
            changed[f"data.{role}.sha256"] = place.sha256
        notes.append(f"data.{role} is not the recorded file: --regardless took {name}")
    adapted = dataclasses.replace(resolved, sources=sources, notes=tuple(notes))
    return _over(adapted, changed, "explicit override", "--regardless")


def with_image(resolved: ResolvedRun, executor: Executor) -> ResolvedRun:
    """Put the image that is used in the place of the recorded one.

    Parameters
    ----------
    resolved
        The recorded run.
    executor
        What will execute it; the image is ``none`` outside a container.
    """
    image = executor.image_id() if isinstance(executor, ImageExecutor) else "none"
    if resolved.container.image == image:
        return resolved
    container = dataclasses.replace(resolved.container, image=image)
    adapted = dataclasses.replace(resolved, container=container)
    return _over(adapted, {"container.image": image}, "resolved", f"repeated on {executor.name}")


def _over(resolved: ResolvedRun, changed: Mapping[str, Any], layer: str, note: str) -> ResolvedRun:
    from ptycho_torch.layers import Origin, Shadowed

    values, origins = dict(resolved.own_values), dict(resolved.own_origins)
    for key, value in changed.items():
        was = origins[key]
        hidden = Shadowed(values[key], was.layer, was.place)
        values[key], origins[key] = value, Origin(layer, None, note, (hidden, *was.shadowed))
    return dataclasses.replace(resolved, own_values=values, own_origins=origins)
