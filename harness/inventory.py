"""What an executor has to offer: the facts by which ``auto`` is resolved and the impossible is refused."""

from __future__ import annotations

import dataclasses

__all__ = ["Inventory"]


@dataclasses.dataclass(frozen=True)
class Inventory:
    """What stands where the run would execute.

    Parameters
    ----------
    executor
        Name of the executor that was asked (``local``).
    machine
        Architecture as the operating system names it (``x86_64``, ``aarch64``).
    cpu_model
        The processor's own name.
    cpu_flags
        Instruction-set flags of the processor (``avx2``, ``fma``).
    cores
        Number of processor cores the run may use.
    accelerators
        Kinds of device that a run can use there: always ``cpu``, and ``cuda`` where torch can drive a GPU.
    gpu_names
        Name of each usable GPU, in device order.
    memory_bytes
        Main memory in bytes; 0 where it is not known.
    packages
        Import names of the optional packages installed there (``tensorboard``, ``mlflow``, ``wandb``).
    is_in_image
        Whether a run there executes inside a container image.
    image
        Digest of the image that the executor starts for the work; None where it starts none.
    why_no_gpu
        Why there is no usable GPU, with the cure; empty where nobody knows more than that.
    """

    executor: str
    machine: str
    cpu_model: str
    cpu_flags: frozenset[str]
    cores: int
    accelerators: tuple[str, ...] = ("cpu",)
    gpu_names: tuple[str, ...] = ()
    memory_bytes: int = 0
    packages: frozenset[str] = frozenset()
    is_in_image: bool = False
    image: str | None = None
    why_no_gpu: str = ""
