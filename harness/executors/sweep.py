"""Removal of containers that never started because their host died first; all others remove themselves."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness.images import engine_errors
from harness.labels import HOST_LABEL

if TYPE_CHECKING:
    from docker.client import DockerClient

__all__ = ["sweep"]

_STOPPED_STATES = ("created", "exited", "dead")
_OLD_SECONDS = 600
"""A host that is not seen may live, hidden or in another pid namespace: what is young is left alone."""


def sweep(client: DockerClient) -> None:
    """Remove containers of hosts that are gone; an engine that does not let us is left as it is.

    Parameters
    ----------
    client
        The engine.
    """
    with contextlib.suppress(*engine_errors()):
        wanted = {"label": HOST_LABEL, "status": list(_STOPPED_STATES)}
        for one in client.api.containers(all=True, filters=wanted):
            is_old = time.time() - one["Created"] > _OLD_SECONDS
            if is_old and not Path(f"/proc/{one['Labels'][HOST_LABEL]}").exists():
                client.api.remove_container(one["Id"], force=True)
