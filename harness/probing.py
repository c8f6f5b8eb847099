"""Ask the executor: turn ``auto`` into what is there, and refuse by name what is not."""

from __future__ import annotations

import re

from harness.errors import Problem
from harness.inventory import Inventory
from harness.spec import RunSpec
from ptycho_torch.errors import ExactnessError
from ptycho_torch.layers import Value
from ptycho_torch.profiles import resolve_profile

__all__ = ["probe_container", "probe_execution", "probe_profile"]

_DEVICES = {"gpu": "cuda", "cuda": "cuda", "mps": "mps", "tpu": "tpu", "cpu": "cpu"}
_NAMES = {"cuda": "a GPU that torch can drive", "mps": "an Apple GPU", "tpu": "a TPU"}
_SHARDING = ("fsdp", "deepspeed")
_LOGGER_PACKAGES = ("tensorboard", "mlflow", "wandb")


def probe_execution(spec: RunSpec, inventory: Inventory) -> tuple[Value, list[Problem]]:
    """Resolve the accelerator, and refuse what the executor does not have.

    Returns
    -------
    The accelerator (``cpu`` or ``cuda``; its note is empty when it is what was asked for), and the problems.
    """
    problems: list[Problem] = []
    executor = f"the executor {inventory.executor!r}"

    def refuse(key: str, sentence: str) -> None:
        problems.append(spec.problem(sentence, key))

    requested = spec.get("execution.accelerator", "cpu")
    device = _DEVICES.get(requested) or ("cuda" if "cuda" in inventory.accelerators else "cpu")
    if device not in inventory.accelerators:
        has = ", ".join(inventory.accelerators)
        known = device == "cuda" and inventory.why_no_gpu
        why = f"; {inventory.why_no_gpu}, or use cpu" if known else ": use cpu"
        refuse(
            "execution.accelerator",
            f"asks for {_NAMES[device]} ({requested}), but {executor} has {has}{why}",
        )
    wanted = spec.get("execution.n_devices", 1)
    if wanted > 1:
        refuse("execution.n_devices", f"is {wanted}, but a run is not divided among devices: set it to 1")
    strategy = spec.get("execution.strategy", "auto")
    if strategy in _SHARDING:
        cure = "checkpoints here hold whole weights: use auto or ddp"
        refuse("execution.strategy", f"{strategy} shards weights over devices, but {cure}")
    logger = spec.get("execution.logger_backend")
    if logger in _LOGGER_PACKAGES and logger not in inventory.packages:
        cure = f"install the extra [{logger}] or choose another backend"
        refuse("execution.logger_backend", f"needs the package {logger}, which is not installed: {cure}")
    note = f"{requested} on {inventory.executor}" if requested != device else ""
    return Value(device, note=note), problems


def probe_container(spec: RunSpec, inventory: Inventory) -> tuple[Value, list[Problem]]:
    """Resolve the image to the digest of the one that is there, and refuse limits beyond the machine's.

    Returns
    -------
    The image (its note is empty when it is what was asked for), and the problems.
    """
    problems: list[Problem] = []
    if inventory.image is not None:
        cpus, cpuset = spec.get("container.cpus"), spec.get("container.cpuset")
        has = f"the executor {inventory.executor!r} has {inventory.cores}"
        if cpus is not None and cpus > inventory.cores:
            sentence = f"is {cpus:g}, but {has}: lower it, or leave it out"
            problems.append(spec.problem(sentence, "container.cpus"))
        if cpuset is not None and max(map(int, re.findall(r"\d+", cpuset))) >= inventory.cores:
            sentence = f"is {cpuset!r}, but {has}, numbered from 0: name cores that are there"
            problems.append(spec.problem(sentence, "container.cpuset"))
    requested, image = spec.get("container.image", "none"), inventory.image or "none"
    if requested != "none" and not inventory.is_in_image:
        cure = "leave --executor out, or set it to none"
        sentence = (
            f"is {requested!r}, but the executor {inventory.executor!r} runs without a container: {cure}"
        )
        problems.append(spec.problem(sentence, "container.image"))
    note = f"{requested} on {inventory.executor}" if requested != image else ""
    return Value(image, note=note), problems


def probe_profile(
    spec: RunSpec, inventory: Inventory, accelerator: str
) -> tuple[Value | None, list[Problem]]:
    """Resolve the exactness profile on the executor's processor."""
    requested = spec.get("exactness.profile", "auto")
    try:
        profile = resolve_profile(requested, inventory.cpu_flags, inventory.machine, accelerator)
    except ExactnessError as error:
        return None, [spec.problem(str(error), "exactness.profile")]
    return Value(
        profile, note=f"auto on {inventory.machine}, {accelerator}" if requested == "auto" else ""
    ), []
