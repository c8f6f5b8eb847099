"""A run in a container that reaches nothing but its run folder and its data, through the Docker SDK."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from harness import environment
from harness.build_id import build_id
from harness.cache import cache_folder, remembered
from harness.code_capture import source_root
from harness.describe import FACTS
from harness.environment import LOCK_COPY, Environment, Lock, Package
from harness.errors import HarnessError
from harness.executors.base import Ending, Inventory, Supervision
from harness.executors.engine_watch import Watch
from harness.executors.hermetic import (
    CALLER,
    PACKAGES,
    PYTHON,
    Caller,
    closed,
    container_name,
    run_container,
)
from harness.executors.sweep import sweep
from harness.images import (
    TARGETS,
    ImageIdentity,
    MissingImageError,
    connect,
    engine_errors,
    identify,
    last_words,
)
from harness.plan import Plan, worker_environment
from harness.site import repository
from harness.store import LOG, OUTCOME

if TYPE_CHECKING:
    from docker.client import DockerClient

__all__ = ["DockerExecutor"]

_LAST_LINES = 3
_DESCRIBE_SECONDS = 120


class StaleImageError(MissingImageError):
    """An image was not made from this checkout as it stands."""


class DockerExecutor:
    """Starts the worker in a container of the Docker engine on this machine.

    Parameters
    ----------
    image
        As in a spec's ``container.image``; a word stands for the image that was built from this checkout.
    recorded
        The identity that the image must have; None: it must have been built from this checkout.
    root
        The checkout; by default the one that the packages were imported from.
    """

    name = "docker"
    python = PYTHON
    packages = PACKAGES
    caller: Mapping[str, str] = CALLER

    def __init__(
        self, image: str = "cpu", recorded: ImageIdentity | None = None, root: Path | None = None
    ) -> None:
        self.requested = image
        self.recorded = recorded
        self.root = source_root() if root is None else root

    def in_image(self, image: str, recorded: ImageIdentity | None = None) -> Self:
        """Return an executor like this one for another image, which is there."""
        made = type(self)(image, recorded, self.root)
        made.image_id()
        return made

    def image_id(self) -> str:
        """Return the digest that identifies the image."""
        return self.image.id

    @functools.cached_property
    def _engine(self) -> tuple[DockerClient, Caller]:
        client = connect()
        user = Caller.myself().in_engine(client.info().get("SecurityOptions") or ())
        sweep(client)
        return client, user

    @property
    def client(self) -> DockerClient:
        """The engine, with what earlier hosts have left behind swept away."""
        return self._engine[0]

    @property
    def user(self) -> Caller:
        """Whom containers run as there, for their files to be the caller's."""
        return self._engine[1]

    @functools.cached_property
    def image(self) -> ImageIdentity:
        """The image's identity.

        Raises
        ------
        EngineError
            There is no engine that can be used.
        MissingImageError
            It does not hold the image.
        StaleImageError
            It holds one that was made from other sources.
        """
        found = identify(self.client, self._reference)
        if self.recorded is None:
            self._demand_current(found)
        return found

    @property
    def _reference(self) -> str:
        is_word = self.requested in TARGETS
        return f"{repository(self.root)}:{self.requested}" if is_word else self.requested

    def _demand_current(self, found: ImageIdentity) -> None:
        target = found.target if found.target in TARGETS else self.requested
        if found.build_id is None or target not in TARGETS:
            raise StaleImageError(
                f"image {self._reference} is not one of this project's: it has no build id; "
                "build one: harness image build"
            )
        if found.build_id != build_id(self.root, target):
            raise StaleImageError(
                f"image {self._reference} ({found.id[:19]}) was not built from this checkout as it stands: "
                f"rebuild it: harness image build --target {target}"
            )

    def inventory(self) -> Inventory:
        """Say what this machine, its engine and the image have."""
        processor, cards = environment.cpu(), environment.gpus()
        about = self.client.info()
        why_no_gpu = self._why_no_gpu()
        return Inventory(
            executor=self.name,
            machine=platform.machine(),
            cpu_model=processor.model,
            cpu_flags=frozenset(processor.flags),
            cores=int(about["NCPU"]),
            accelerators=("cpu",) if why_no_gpu else ("cpu", "cuda"),
            gpu_names=() if why_no_gpu else tuple(card.name for card in cards),
            memory_bytes=int(about["MemTotal"]),
            packages=frozenset(self._description["optional"]),
            is_in_image=True,
            image=self.image.id,
            why_no_gpu=why_no_gpu,
        )

    def _why_no_gpu(self) -> str:
        if self.image.target != "cuda":
            return "this image holds torch's build without CUDA: set container.image to cuda"
        asked = [self.python, "-c", "import torch; print(torch.cuda.is_available())"]
        try:
            answer = self._ask(asked, gpus=_gpus())
        except HarnessError as error:
            return f"{error}: install the driver and the NVIDIA Container Toolkit on this machine"
        return (
            "" if answer.split()[-1:] == ["True"] else "torch finds no GPU in the container: see nvidia-smi"
        )

    @functools.cached_property
    def _description(self) -> dict[str, Any]:
        """What the image says of itself, asked once: an id never stands for anything else."""

        def ask() -> dict[str, Any]:
            found: dict[str, Any] = json.loads(self._ask([self.python, "-m", "harness.describe"]))
            return found

        kept = cache_folder() / "images" / f"{self.image.id.removeprefix('sha256:')}.json"
        return remembered(kept, FACTS, ask)

    def _ask(self, argv: Sequence[str], gpus: Sequence[Mapping[str, Any]] = ()) -> str:
        """Run a short command in the image, where it reaches nothing, and return what it prints."""
        settled = worker_environment("strict", 1, self.caller, self.packages)
        variables = [f"{name}={value}" for name, value in sorted(settled.items())]
        container = closed(self.image.id, self.user, [*variables, *argv])
        container["HostConfig"]["DeviceRequests"] = list(gpus)
        try:
            made = self.client.api.create_container_from_config(container)["Id"]
            try:
                self.client.api.start(made)
                status = self.client.api.wait(made, timeout=_DESCRIBE_SECONDS)["StatusCode"]
                said = self.client.api.logs(made, stdout=True, stderr=False).decode("utf-8", "replace")
                wrong = self.client.api.logs(made, stdout=False, stderr=True).decode("utf-8", "replace")
            finally:
                self.client.api.remove_container(made, force=True)
        except engine_errors() as error:
            raise HarnessError(f"image {self.requested} does not start ({last_words(error)})") from error
        if status != 0:
            last = " / ".join(wrong.strip().splitlines()[-_LAST_LINES:]) or f"status {status}"
            raise HarnessError(f"image {self.requested} cannot say what it holds: {last}")
        return str(said)

    def source_files(self) -> Mapping[str, str]:
        """Map every source file in the image to its sha256."""
        found: dict[str, str] = self._description["source_files"]
        return found

    def environment(self) -> tuple[Environment, bytes | None]:
        """Describe the image's interpreter and packages and this machine, and give the image's lock."""
        found = self._description
        inside = {name: value for name, value in found["interpreter"].items() if name != "prefix"}
        packages = {name: Package(**facts) for name, facts in inside.pop("packages").items()}
        # Of the machine, not of the image: the engine shares its kernel.
        inside["system"] = {**inside["system"], "kernel": f"{platform.system()} {platform.release()}"}
        text = found["lock"]["text"].encode("utf-8") if found["lock"] else None
        lock = None
        if text is not None:
            lock = Lock(LOCK_COPY, hashlib.sha256(text).hexdigest(), found["lock"]["is_installed"])
        described = Environment(
            **inside,
            packages=packages,
            lock=lock,
            cpu=environment.cpu(),
            gpu=environment.gpus(),
            image=self.image,
        )
        return described, text

    def execute(self, plan: Plan, supervision: Supervision) -> Ending:
        """Run the worker in a container of its own, pass requests to stop on, and leave nothing behind.

        Raises
        ------
        HarnessError
            The container could not be made or started.
        """
        log = Path(plan.run_dir) / LOG
        log.parent.mkdir(exist_ok=True)
        try:
            about = self.client.info()
            container = run_container(
                plan,
                self.image.id,
                self.user,
                cores=int(about["NCPU"]),
                gpus=_gpus(),
                is_kernel_shared=about["KernelVersion"] == platform.release(),
            )
            name = container_name(plan.run_dir)
            made = self.client.api.create_container_from_config(container, name)["Id"]
            watch = Watch(self.client, made)
            with watch.started():
                ending = watch.follow(supervision)
        except engine_errors() as error:
            raise HarnessError(f"the container could not be started: {last_words(error)}") from error
        # A shell's way to say a signal; a worker that has written its outcome chose its status itself.
        if ending.exit_status > 128 and not (Path(plan.run_dir) / OUTCOME).is_file():
            return dataclasses.replace(ending, exit_status=128 - ending.exit_status)
        return ending


def _gpus() -> list[dict[str, Any]]:
    """Ask for the card that the caller chose, else for the first."""
    chosen = [card.strip() for card in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if card.strip()]
    which: dict[str, Any] = {"DeviceIDs": chosen} if chosen else {"Count": 1}
    return [{"Driver": "", "Capabilities": [["gpu"]], **which}]
