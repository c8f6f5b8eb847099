"""Labels that every container of this project carries, by which what a dead host has left is found."""

from __future__ import annotations

__all__ = ["HOST_LABEL", "RUN_LABEL"]

RUN_LABEL = "ptychopinn.run"
"""Label that holds the run folder; empty for a container that only describes its image."""

HOST_LABEL = "ptychopinn.host-pid"
"""Label that holds the process that made the container and looks after it."""
