"""What a container of a run may see and do. Pure: from a plan to the engine's settings, no engine needed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.images import EngineError
from harness.labels import labels
from harness.plan import Plan
from harness.store import LIFELINE, LOG

__all__ = ["CALLER", "PACKAGES", "PYTHON", "Caller", "closed", "container_name", "run_container"]

PYTHON = "/opt/ptychopinn/venv/bin/python"
PACKAGES = "/opt/ptychopinn/src"

_TMP = "/tmp"  # noqa: S108 - a tmpfs that is the container's own
CALLER: Mapping[str, str] = {
    "PATH": "/opt/ptychopinn/venv/bin:/usr/local/bin:/usr/bin:/bin",
    "HOME": f"{_TMP}/home",
    "TMPDIR": _TMP,
    "MPLCONFIGDIR": f"{_TMP}/matplotlib",
    "XDG_CACHE_HOME": f"{_TMP}/cache",
    "TORCHINDUCTOR_CACHE_DIR": f"{_TMP}/inductor",
}
"""What stands for the caller's environment in a container: the image's paths, and the tmpfs for caches."""

_TMPFS = "rw,nosuid,nodev,mode=1777,size=1g"
_STOP_SECONDS = 120
_SHORT_COMMAND = {"Memory": 4 * 2**30, "MemorySwap": 4 * 2**30, "NanoCpus": 10**9, "PidsLimit": 512}
"""Limits of a container that is not a run: enough to load torch with CUDA, and no more."""
_INTO_THE_LOG = 'exec "$@" >>"$0" 2>&1'


@dataclass(frozen=True)
class Caller:
    """Who starts a container: its files belong to this user, who reads what these groups may read."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    @classmethod
    def myself(cls) -> Caller:
        """Return the user of this process."""
        return cls(os.getuid(), os.getgid(), tuple(sorted({*os.getgroups()} - {os.getgid()})))

    def in_engine(self, security_options: Sequence[str]) -> Caller:
        """Return whom a container must run as for its files to be this user's.

        Parameters
        ----------
        security_options
            What the engine says of itself, such as ``name=rootless``.

        Raises
        ------
        EngineError
            It maps every user to one that may not write the run folder.
        """
        names = {option.partition(",")[0] for option in security_options}
        if "name=userns" in names:
            raise EngineError(
                "the Docker engine remaps users (userns-remap), so no container could write a run folder: "
                "take userns-remap out of /etc/docker/daemon.json and restart it, or use a rootless engine"
            )
        # A rootless engine is this user's own: root in its containers is this user outside.
        return Caller(0, 0) if "name=rootless" in names else self


def closed(image: str, caller: Caller, command: Sequence[str], run_dir: str = "") -> dict[str, Any]:
    """Return a container that reaches nothing, in the engine's own words; every container here starts so.

    Parameters
    ----------
    image
        Id of the image.
    caller
        Whom it runs as.
    command
        What it runs. Whatever the image or the engine's client would add to it is left out.
    run_dir
        The run folder that it is for, or empty.
    """
    return {
        "Image": image,
        "User": f"{caller.uid}:{caller.gid}",
        "Entrypoint": ["/usr/bin/env", "-i"],
        "Cmd": list(command),
        "Labels": labels(run_dir),
        "StopSignal": "SIGTERM",
        "StopTimeout": _STOP_SECONDS,
        "HostConfig": {
            "NetworkMode": "none",
            "IpcMode": "private",
            "ReadonlyRootfs": True,
            "Tmpfs": {_TMP: _TMPFS},
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "GroupAdd": [str(group) for group in caller.groups],
            "Init": True,
            "LogConfig": {"Type": "json-file"},
            **_SHORT_COMMAND,
        },
    }


def container_name(run_dir: str) -> str:
    """Return a name for one attempt at a run: the container of the one before may still be there.

    Parameters
    ----------
    run_dir
        The run folder.
    """
    return f"ptychopinn-{Path(run_dir).name}-{uuid.uuid4().hex[:8]}"


def run_container(
    plan: Plan,
    image: str,
    caller: Caller,
    *,
    cores: int,
    gpus: Sequence[Mapping[str, Any]] = (),
    is_kernel_shared: bool = True,
) -> dict[str, Any]:
    """Return the container that carries out a plan.

    Run folder and data stand at their own paths, so that arguments and ``inputs.json`` are the same as
    outside. The command is the plan's, in exactly the plan's environment. What the worker prints goes to the
    run folder's log and not through the engine, so that a dead engine blocks nobody.

    Parameters
    ----------
    plan
        The plan.
    image
        Digest of the image that it stands in.
    caller
        Whom the container runs as.
    cores
        Processor cores that the engine has.
    gpus
        Device requests, which are made only for a plan that wants a GPU.
    is_kernel_shared
        Whether a lock that is held here is seen there; the run's lock is then the worker's lifeline.
    """
    limits = plan.limits
    environment = {**plan.environment, **({LIFELINE: "1"} if is_kernel_shared else {})}
    variables = [f"{name}={value}" for name, value in sorted(environment.items())]
    log = f"{plan.run_dir}/{LOG}"
    command = [*variables, "/bin/sh", "-c", _INTO_THE_LOG, log, *plan.argv]
    container = closed(image, caller, command, plan.run_dir)
    container["WorkingDir"] = plan.run_dir
    container["HostConfig"] |= {
        "AutoRemove": True,
        "LogConfig": {"Type": "none"},
        "Mounts": [
            _bind(plan.run_dir, is_read_only=False),
            *(_bind(path, is_read_only=True) for path in plan.inputs),
        ],
        "Memory": limits.memory_bytes,
        "MemorySwap": limits.memory_bytes,
        "ShmSize": limits.shm_bytes,
        "NanoCpus": round(min(limits.cpus, cores) * 1e9),
        "CpusetCpus": limits.cpuset or "",
        "PidsLimit": limits.pids,
        "DeviceRequests": list(gpus) if plan.wants_gpu else [],
    }
    return container


def _bind(path: str, *, is_read_only: bool) -> dict[str, Any]:
    # Unlike the short form, a source that is missing is an error here, and not made as root.
    return {"Type": "bind", "Source": path, "Target": path, "ReadOnly": is_read_only}
