"""From a resolved run to what will be started: arguments, environment, and an estimate. Reads no disk."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ptycho_torch.payloads import InferencePayload
from ptycho_torch.profiles import environment as profile_environment

if TYPE_CHECKING:
    from harness.resolved import ResolvedRun
    from harness.run_sources import Source

__all__ = ["PASSED_ON", "Estimate", "Limits", "Plan", "estimate", "make_plan", "worker_environment"]

_CACHES = ("MPLCONFIGDIR", "XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR")
_FROM_CALLER = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", *_CACHES)
PASSED_ON = frozenset({*_FROM_CALLER, "PYTHONPATH"})
"""Variables of the worker that hold this machine's paths or cards; they change no result."""


_KEEP_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
"""Freed memory stays with the process: a step of training would ask for it again, page by page."""

_HUGE_PAGES = "glibc.malloc.hugetlb=1"
"""The heap asks for pages of 2 MB: where small ones lie, a virtual machine takes long to find out.

Two threads spend more time with them than without, as measured (decision 0012), so they get none.
"""

_GFLOP_PER_PATTERN = {64: 4.8, 128: 10.6, 256: 33.4}
"""Forward and backward pass of the default network at n_filters_scale 2, by N."""
_GFLOPS_PER_CORE = 65.0
"""What one core reached in training under the ``portable`` profile."""
_PATTERNS_STITCHED_PER_SECOND = 25.0
"""Frames that are predicted, synchronised, stitched and judged at N = 64."""
_FRAMES_REFINED_PER_SECOND = 2500.0
"""Frames of a pass that are refined with one probe mode at N = 64."""
_START_SECONDS = 10.0
_IMPORTS_GB = 0.5
_BATCH_GB_PER_PATTERN = 0.02
_PATTERNS_AT_ONCE = 8
"""Patterns of 64 x 64 that a thread passes through the network at one time; a group is not divided."""
_LEAST_MEMORY_GB = 4
_MEMORY_MARGIN = 4
_UNITS = {"m": 2**20, "g": 2**30}
_BYTES_PER_PIXEL = 12
"""A scan's frames are held as amplitudes, and for a while as they were read."""


@dataclass(frozen=True)
class Estimate:
    """A rough forecast, good to a factor of two.

    Parameters
    ----------
    cpu_seconds
        Processor time of the worker.
    wall_seconds
        Time from start to end with the threads that the run may use.
    memory_gb
        Largest memory of the worker, gigabytes.
    """

    cpu_seconds: float
    wall_seconds: float
    memory_gb: float


@dataclass(frozen=True)
class Limits:
    """How much of the machine a run may take where it is kept apart from it.

    Parameters
    ----------
    memory_bytes, shm_bytes
        Main memory, and the part of it that is shared between processes.
    cpus
        Processor time, in cores.
    cpuset
        The cores it is kept on; None: any.
    pids
        Processes and threads.
    """

    memory_bytes: int
    shm_bytes: int
    cpus: float
    cpuset: str | None
    pids: int


@dataclass(frozen=True)
class Plan:
    """What an executor is to start.

    Parameters
    ----------
    run_dir
        The run folder; the worker's only argument, and its working directory.
    argv
        The command, the same for every executor but for the interpreter's path.
    environment
        The worker's whole environment.
    estimate
        How long it will take and how much memory.
    inputs
        Absolute paths of the data, which are only read.
    limits
        What a container may take; nothing keeps a native run to them.
    wants_gpu
        Whether it computes on a GPU, which a container sees only when it is asked for.
    """

    run_dir: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    estimate: Estimate
    inputs: tuple[str, ...]
    limits: Limits
    wants_gpu: bool


def worker_environment(
    profile: str, threads: int, caller: Mapping[str, str], packages: str | None
) -> dict[str, str]:
    """Build the environment of the worker, in which nothing of the caller's can change a result.

    Parameters
    ----------
    profile, threads
        The exactness profile.
    caller
        The caller's environment; what finds programs, home, caches and temporary files is passed on, as are
        the chosen graphics cards. Locale, time zone and Python's own variables are not.
    packages
        Folder that holds the packages; None when the interpreter finds them by itself.
    """
    settled = {name: caller[name] for name in _FROM_CALLER if name in caller}
    settled.update(LANG="C.UTF-8", TZ="UTC", PYTHONSAFEPATH="1", PYTHONUNBUFFERED="1", **_KEEP_FREED_MEMORY)
    if packages is not None:
        settled["PYTHONPATH"] = packages
    settled.update(profile_environment(profile, threads))
    if threads == 1:
        tunables = settled.get("GLIBC_TUNABLES")
        settled["GLIBC_TUNABLES"] = f"{tunables}:{_HUGE_PAGES}" if tunables else _HUGE_PAGES
    return settled


def make_plan(
    resolved: ResolvedRun,
    run_dir: str,
    *,
    python: str,
    packages: str | None,
    caller: Mapping[str, str],
    inputs: Iterable[str] = (),
) -> Plan:
    """Plan the worker of a resolved run.

    Parameters
    ----------
    resolved
        The run.
    run_dir
        Its folder, absolute.
    python
        The interpreter that starts the worker.
    packages, caller
        As in :func:`worker_environment`.
    inputs
        Absolute paths of the data.
    """
    exactness, forecast = resolved.exactness, estimate(resolved)
    return Plan(
        run_dir=run_dir,
        argv=(python, "-m", "harness.worker", run_dir),
        environment=worker_environment(exactness.profile, exactness.threads, caller, packages),
        estimate=forecast,
        inputs=tuple(sorted(set(inputs))),
        limits=_limits(resolved, forecast),
        wants_gpu=resolved.payload.execution_config.accelerator == "cuda",
    )


def _limits(resolved: ResolvedRun, forecast: Estimate) -> Limits:
    asked = resolved.container
    gigabytes = max(_LEAST_MEMORY_GB, math.ceil(_MEMORY_MARGIN * forecast.memory_gb))
    helpers = resolved.payload.execution_config.num_workers + 1
    return Limits(
        memory_bytes=_in_bytes(asked.memory or f"{gigabytes}g"),
        shm_bytes=_in_bytes(asked.shm_size),
        cpus=asked.cpus or float(resolved.exactness.threads + helpers),
        cpuset=asked.cpuset,
        pids=asked.pids,
    )


def _in_bytes(size: str) -> int:
    return int(size[:-1]) * _UNITS[size[-1]]


def estimate(resolved: ResolvedRun) -> Estimate:
    """Forecast time and memory from the sizes of network and data.

    It rests on throughputs that were measured once, on one core of one CPU: of training, per pattern of a
    group and epoch, and of all that follows it, per frame of the scans that are reconstructed. The network
    predicts one patch per frame at every gridsize, however many groups it was trained on. Data that must be
    fetched or simulated and validation are not counted.
    """
    if isinstance(resolved.payload, InferencePayload):
        return _estimate_reconstruction(resolved)
    payload = resolved.training
    model, training = payload.model, payload.training
    patterns = model.gridsize**2
    size = (model.N / 64) ** 2
    # Channels enter squared.
    gflop = _GFLOP_PER_PATTERN[model.N] * (model.n_filters_scale / 2) ** 2
    trained = training.n_groups * patterns * training.epochs
    scans = [source for role, source in resolved.sources.items() if role in {"train", "test"}]
    stitched = sum(_n_frames(scan) for scan in scans) if resolved.products.reconstruction else 0
    if resolved.is_refinement:
        trained, stitched = 0, 0
    training_seconds = trained * gflop / _GFLOPS_PER_CORE
    stitching_seconds = stitched * size / _PATTERNS_STITCHED_PER_SECOND
    refining_seconds = _refined_seconds(resolved, size)
    learnt_at_once = _at_once(training.batch_size, patterns * size, resolved)
    predicted_at_once = _predicted_at_once(training.batch_size, size, resolved)
    frames = sum(_n_frames(source) for source in resolved.sources.values())
    at_once = _patterns_at_once(training.batch_size * patterns * size, patterns * size, resolved)
    batch = at_once * max(1.0, model.n_filters_scale / 2)
    return Estimate(
        cpu_seconds=_START_SECONDS + training_seconds + stitching_seconds + refining_seconds,
        wall_seconds=_START_SECONDS
        + training_seconds / learnt_at_once
        + stitching_seconds / predicted_at_once
        + refining_seconds / resolved.exactness.threads,
        memory_gb=_IMPORTS_GB + batch * _BATCH_GB_PER_PATTERN + frames * model.N**2 * _BYTES_PER_PIXEL / 1e9,
    )


def _at_once(batch_size: int, group: float, resolved: ResolvedRun) -> float:
    """How many times as fast a batch passes through the network as by one thread.

    Threads share its portions, each of which is one thread's or gains nothing by more (decision 0010).
    """
    portions = math.ceil(batch_size / max(1, _PATTERNS_AT_ONCE // group))
    return portions / math.ceil(portions / resolved.exactness.threads)


def _predicted_at_once(batch_size: int, size: float, resolved: ResolvedRun) -> float:
    model, execution = resolved.payload.model, resolved.payload.execution_config
    group = size * (1 if model.object_big else model.gridsize**2)
    return _at_once(execution.inference_batch_size or batch_size, group, resolved)


def _patterns_at_once(batch: float, group: float, resolved: ResolvedRun) -> float:
    return min(batch, resolved.exactness.threads * max(group, _PATTERNS_AT_ONCE))


def _refined_seconds(resolved: ResolvedRun, size: float) -> float:
    options = resolved.refine
    if options is None:
        return 0.0
    frames = _n_frames(resolved.sources["train"]) * options.passes * (2 if options.half_data else 1)
    return frames * size * (1 + options.modes) / 2 / _FRAMES_REFINED_PER_SECOND


def _estimate_reconstruction(resolved: ResolvedRun) -> Estimate:
    model, execution = resolved.payload.model, resolved.payload.execution_config
    size = (model.N / 64) ** 2
    stitching_seconds = _n_frames(resolved.sources["scan"]) * size / _PATTERNS_STITCHED_PER_SECOND
    group = model.gridsize**2 * size
    at_once = _patterns_at_once((execution.inference_batch_size or 1) * group, group, resolved)
    return Estimate(
        cpu_seconds=_START_SECONDS + stitching_seconds,
        wall_seconds=_START_SECONDS + stitching_seconds / _predicted_at_once(1, size, resolved),
        memory_gb=_IMPORTS_GB + at_once * max(1.0, model.n_filters_scale / 2) * _BATCH_GB_PER_PATTERN,
    )


def _n_frames(source: Source) -> int:
    if source.kind == "simulated":
        return source.simulate.n_frames
    return source.header.n_frames if source.kind == "file" else 0
