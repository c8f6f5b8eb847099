"""Removal of containers that never started because their host died first; all others remove themselves."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from harness.images import engine_errors
from harness.labels import HOST_LABEL, Host

if TYPE_CHECKING:
    from docker.client import DockerClient

__all__ = ["sweep"]

_STOPPED_STATES = ("created", "exited", "dead")
_OLD_SECONDS = 600
"""Age that decides where a host cannot be seen: it is of another pid namespace, or of an earlier boot."""


def sweep(client: DockerClient) -> None:
    """Remove containers of hosts that are gone; an engine that does not let us is left as it is.

    Parameters
    ----------
    client
        The engine.
    """
    wanted = {"label": HOST_LABEL, "status": list(_STOPPED_STATES)}
    with contextlib.suppress(*engine_errors()):
        for one in client.api.containers(all=True, filters=wanted):
            is_old = time.time() - one["Created"] > _OLD_SECONDS
            has_died = Host.parse(one["Labels"][HOST_LABEL]).has_died()
            if has_died or (has_died is None and is_old):
                with contextlib.suppress(*engine_errors()):  # the engine may be about it already
                    client.api.remove_container(one["Id"], force=True)
