"""The lanes of the speed benchmark, one a process: ``python -m benchmarks.lanes NAME STEPS </dev/null``.

Prints lines of JSON, the figures of the whole last. Those that are compared pause after every unit of work,
of which there are at least STEPS after the first (see ``benchmarks.lockstep``). Imports torch, and so must
not be imported by the process that starts the lanes.
"""

from __future__ import annotations

import functools
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.lockstep import Figures, Pause
from harness.store import file_digest
from ptycho_torch.config_factory import create_training_payload
from ptycho_torch.data.datamodule import PtychoDataModule
from ptycho_torch.exact.digest import tensor_digest
from ptycho_torch.exact.profile import apply_and_verify
from ptycho_torch.headers import ScanHeader
from ptycho_torch.inference import predict_patches, stitch_patches, synchronise
from ptycho_torch.models.blocks import UpsamplingConvolution
from ptycho_torch.models.winograd import TiledConvolution
from ptycho_torch.module import PtychoModule
from ptycho_torch.payloads import TrainingPayload
from ptycho_torch.physics.probe import annular_probe
from ptycho_torch.readers.scan import Scan
from ptycho_torch.resume import Cadence
from ptycho_torch.tracing import WEIGHTS_EVERY, TraceFile
from ptycho_torch.training import train_with_lightning

FRAMES = 1024
BATCH = 16
PORTION = 2 * BATCH
"""Frames of a unit of inference, which then takes about as long as a step of training."""
SGEMM_SIDE = 2048
_TRACED_STEPS = 12


def made_up_scan() -> Scan:
    """Make 1,024 frames of noise on a raster: what is computed does not depend on what they show."""
    random = np.random.Generator(np.random.PCG64(1))
    counts = random.poisson(5.0, (FRAMES, 64, 64)).astype(np.float32)
    row, column = np.divmod(np.arange(FRAMES), 32)
    corners = np.stack([row, column], axis=1) * 4.0 + random.uniform(0, 1, (FRAMES, 2))
    probe = annular_probe(64, pupil_radius_px=10, stop_fraction=0.4, defocus_waves=0.8)
    return Scan(
        diffraction=np.sqrt(counts, out=counts),
        corners_px=corners,
        probe=probe,
        units="count_amplitude",
        mask=None,
        object=None,
        source="made up",
    )


def made_up_payload(gridsize: int, groups: int, folder: str, **overrides: Any) -> TrainingPayload:
    """Ask for one epoch of the default network, gates, border branch and physics included."""
    header = ScanHeader(file=None, N=64, n_frames=FRAMES, units="count_amplitude")
    return create_training_payload(
        header,
        folder,
        {
            "n_groups": groups,
            "epochs": 1,
            "batch_size": BATCH,
            "gridsize": gridsize,
            "n_filters_scale": 2,
            "validation_fraction": 0.0,
            "checkpoint_monitor_metric": "train_loss",
            **overrides,
        },
    )


def _module(payload: TrainingPayload, scan: Scan) -> tuple[PtychoModule, PtychoDataModule]:
    torch.manual_seed(1)  # of some weights gradients are so small that a processor takes ten times as long
    data = PtychoDataModule(payload, scan, None, seed=1)
    module = PtychoModule(
        model=payload.model,
        training=payload.training,
        execution=payload.execution_config,
        probe=scan.probe,
        scaling=data.scaling,
        max_offset_px=data.max_offset_px,
    )
    return module, data


def sgemm(steps: int, pause: Pause, *, by_numpy: bool = False) -> Figures:
    """Multiply square matrices; a unit is the best of three products by processor time, and by the clock."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    left, right = torch.randn(SGEMM_SIDE, SGEMM_SIDE), torch.randn(SGEMM_SIDE, SGEMM_SIDE)
    product = torch.empty_like(left)
    for _ in range(1 + steps):
        took, took_wall = [], []
        for _ in range(3):
            began, began_wall = time.process_time(), time.monotonic()
            if by_numpy:
                np.matmul(left.numpy(), right.numpy(), out=product.numpy())
            else:
                torch.mm(left, right, out=product)
            took.append(time.process_time() - began)
            took_wall.append(time.monotonic() - began_wall)
        pause(2 * SGEMM_SIDE**3 / 1e9, cpu_s=min(took), wall_s=min(took_wall))
    return {}


def train(steps: int, pause: Pause, gridsize: int) -> Figures:
    """Train through the harness' own loop; a unit is a step, the first is no step of `steps`."""
    imported = time.process_time()

    def between_steps() -> bool:
        pause(BATCH)
        return False

    with tempfile.TemporaryDirectory() as folder:
        train_with_lightning(
            # Nobody is asked after an epoch's last step: it is one more.
            made_up_payload(gridsize, BATCH * (1 + steps + 1), folder),
            made_up_scan(),
            should_stop=between_steps,
            cadence=Cadence(every_seconds=None),  # the clock also runs while others have their turn
        )
    start, *units = pause.units
    step = statistics.median(unit.cpu_s for unit in units)
    return {"imports_cpu_s": imported, "ours_cpu_s": start.cpu_s - imported - step}


def bare(steps: int, pause: Pause, gridsize: int) -> Figures:
    """Train with the same modules in the plainest of loops, over batches that are made beforehand."""
    scan = made_up_scan()
    module, data = _module(made_up_payload(gridsize, BATCH * (1 + steps), "unused"), scan)
    optimizer = module.configure_optimizers()
    for batch in list(data.train_dataloader()):
        optimizer.zero_grad()
        module.batch_loss_in_parts(batch).backward()
        optimizer.step()
        pause(BATCH)
    return {}


def infer(steps: int, pause: Pause, gridsize: int, *, object_big: bool = True) -> Figures:
    """Predict every frame's patch, a unit by a unit, and stitch them all.

    Without `object_big` a patch is of a frame and its neighbours, which pass through the network at once.
    """
    scan = made_up_scan()
    payload = made_up_payload(gridsize, BATCH, "unused", object_big=object_big)
    module, data = _module(payload, scan)

    def between_batches(done: int, total: int) -> None:
        if done % PORTION == 0:
            pause(PORTION)

    clocks = [time.process_time()]
    predictions = predict_patches(module, scan, data.scaling, batch_size=BATCH, report=between_batches)
    clocks.append(time.process_time())
    stitch_patches(predictions, scan, payload.execution_config)
    clocks.append(time.process_time())
    synchronise(predictions, scan, payload.inference, middle_trim=payload.execution_config.middle_trim)
    clocks.append(time.process_time())
    predict, stitch, phases = np.diff(clocks)
    return {
        "per_cpu_second": FRAMES / (predict + stitch),
        "stitch_ms": 1e3 * float(stitch) / FRAMES,
        "synchronise_ms": 1e3 * float(phases) / FRAMES,
    }


def trace(steps: int, pause: Pause) -> Figures:
    """Train 12 steps and write the trace in every other one: its own time by kind of work, and the steps'.

    The tenth step digests all weights, the last one of an epoch every tensor; both are traced.
    """
    begun: list[float] = []
    spent: dict[str, dict[int, float]] = {"state": {}, "gradient": {}, "line": {}}

    def timed(kind: str, hook: Callable[..., None]) -> Callable[..., None]:
        def call(callback: TraceFile, *arguments: Any) -> None:
            if kind == "state":
                begun.append(time.process_time())
            number = len(begun) - 1
            if number % 2:
                began = time.process_time()
                hook(callback, *arguments)
                spent[kind][number] = time.process_time() - began

        return call

    TraceFile.on_train_batch_start = timed("state", TraceFile.on_train_batch_start)  # type: ignore[method-assign]
    TraceFile.on_before_optimizer_step = timed("gradient", TraceFile.on_before_optimizer_step)  # type: ignore[method-assign]
    TraceFile.on_train_batch_end = timed("line", TraceFile.on_train_batch_end)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        train_with_lightning(made_up_payload(1, BATCH * _TRACED_STEPS, folder), made_up_scan())
    whole = np.diff(begun)
    lines = spent["line"]
    ordinary = [lines[number] for number in lines if number not in {WEIGHTS_EVERY - 1, _TRACED_STEPS - 1}]
    line = float(np.median(ordinary))
    each = {
        "state_ms": float(np.median(list(spent["state"].values()))),
        "gradient_ms": float(np.median(list(spent["gradient"].values()))),
        "line_ms": line,
        "weights_ms": (lines[WEIGHTS_EVERY - 1] - line) / WEIGHTS_EVERY,
        "tensors_ms": (lines[_TRACED_STEPS - 1] - line) / (FRAMES / BATCH),
    }
    without = float(np.median(whole[2::2]))
    return {
        **{name: 1e3 * seconds for name, seconds in each.items()},
        "percent": 100 * sum(each.values()) / without,
        "without_ms": 1e3 * without,
        "with_ms": 1e3 * float(np.median([whole[number] for number in (3, 5, 7)])),
    }


def hashing(steps: int, pause: Pause) -> Figures:
    """Digest what a run digests: weights, and files of the size of a checkpoint and of the data."""
    scan = made_up_scan()
    module, _ = _module(made_up_payload(1, BATCH, "unused"), scan)
    with tempfile.TemporaryDirectory() as folder:
        data, checkpoint = Path(folder) / "data.npy", Path(folder) / "weights.pt"
        np.save(data, scan.diffraction)
        torch.save(module.state_dict(), checkpoint)
        began = time.process_time()
        tensor_digest(module.state_dict())
        digested = time.process_time()
        file_digest(data)
        file_digest(checkpoint)
        ended = time.process_time()
    return {"weights_ms": 1e3 * (digested - began), "files_ms": 1e3 * (ended - digested)}


def flops(steps: int, pause: Pause) -> Figures:
    """Count the network's operations per pattern as published, in billions: all convolutions direct."""
    module, _ = _module(made_up_payload(1, BATCH, "unused"), made_up_scan())
    image = torch.rand(1, 1, 64, 64)

    def plain(layer: UpsamplingConvolution, small: torch.Tensor) -> torch.Tensor:
        large = F.interpolate(small, scale_factor=2, mode="nearest")
        return F.conv2d(large, layer.weight, layer.bias, padding=1)

    UpsamplingConvolution.forward = plain  # type: ignore[method-assign, assignment]
    TiledConvolution.forward = torch.nn.Conv2d.forward  # type: ignore[method-assign]
    with FlopCounterMode(display=False) as predicting, torch.no_grad():
        module.predict_patches(image)
    with FlopCounterMode(display=False) as training:
        module.predict_patches(image).abs().sum().backward()
    return {"predict": predicting.get_total_flops() / 1e9, "train": training.get_total_flops() / 1e9}


LANES: dict[str, Callable[[int, Pause], Figures]] = {
    "sgemm": sgemm,
    "numpy's sgemm": functools.partial(sgemm, by_numpy=True),
    "flops": flops,
    "hashing": hashing,
    "trace": trace,
    **{f"train {g}": functools.partial(train, gridsize=g) for g in (1, 2)},
    **{f"bare {g}": functools.partial(bare, gridsize=g) for g in (1, 2)},
    **{f"infer {g}": functools.partial(infer, gridsize=g) for g in (1, 2)},
    "infer 2, shared patches": functools.partial(infer, gridsize=2, object_big=False),
}


def main(arguments: list[str]) -> None:
    """Run one lane under the profile that the environment names, and tell what it measured."""
    name, steps = arguments[0], int(arguments[1])
    pause = Pause()
    profile = os.environ.get("BENCHMARK_PROFILE")
    if profile is not None:
        apply_and_verify(profile, int(os.environ["OMP_NUM_THREADS"]))
    figures = LANES[name](steps, pause)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    pause.end({**figures, "peak_mb": usage.ru_maxrss / 1024})


if __name__ == "__main__":
    main(sys.argv[1:])
