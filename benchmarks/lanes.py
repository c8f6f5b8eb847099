"""The lanes of the speed benchmark, one a process: ``python -m benchmarks.lanes NAME STEPS``.

Prints one line of JSON. Imports torch, and so must not be imported by the process that starts the lanes.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STARTED = time.process_time()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from harness.store import file_digest  # noqa: E402
from ptycho_torch.config_factory import create_training_payload  # noqa: E402
from ptycho_torch.data.datamodule import PtychoDataModule  # noqa: E402
from ptycho_torch.exact.digest import tensor_digest  # noqa: E402
from ptycho_torch.exact.profile import apply_and_verify  # noqa: E402
from ptycho_torch.headers import ScanHeader  # noqa: E402
from ptycho_torch.inference import predict_patches, stitch_patches, synchronise  # noqa: E402
from ptycho_torch.models.blocks import UpsamplingConvolution  # noqa: E402
from ptycho_torch.models.winograd import TiledConvolution  # noqa: E402
from ptycho_torch.module import PtychoModule  # noqa: E402
from ptycho_torch.payloads import TrainingPayload  # noqa: E402
from ptycho_torch.physics.probe import annular_probe  # noqa: E402
from ptycho_torch.readers.scan import Scan  # noqa: E402
from ptycho_torch.tracing import WEIGHTS_EVERY, TraceFile  # noqa: E402
from ptycho_torch.training import train_with_lightning  # noqa: E402

FRAMES = 1024
BATCH = 16
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


def made_up_payload(gridsize: int, groups: int, folder: str) -> TrainingPayload:
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
        },
    )


def _module(payload: TrainingPayload, scan: Scan) -> tuple[PtychoModule, PtychoDataModule]:
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


def sgemm(steps: int) -> dict[str, float]:
    """Return the best rate of a square matrix product, by processor time and by the clock."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    left, right = torch.randn(SGEMM_SIDE, SGEMM_SIDE), torch.randn(SGEMM_SIDE, SGEMM_SIDE)
    product, best, best_wall = torch.empty_like(left), float("inf"), float("inf")
    for _ in range(3 * steps):
        began, began_wall = time.process_time(), time.monotonic()
        torch.mm(left, right, out=product)
        best = min(best, time.process_time() - began)
        best_wall = min(best_wall, time.monotonic() - began_wall)
    work = 2 * SGEMM_SIDE**3 / 1e9
    return {"gflops": work / best, "gflops_by_the_clock": work / best_wall}


def train(steps: int, gridsize: int) -> dict[str, float]:
    """Train through the harness' own loop; the first step is not counted."""
    clocks: list[tuple[int, float, float]] = []
    imported = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        train_with_lightning(
            made_up_payload(gridsize, BATCH * (steps + 1), folder),
            made_up_scan(),
            report=lambda at: clocks.append((at.batch, time.process_time(), time.monotonic())),
        )
    first, last = clocks[0], clocks[-1]
    samples = (last[0] - first[0]) * BATCH
    return {
        "per_cpu_second": samples / (last[1] - first[1]),
        "per_second": samples / (last[2] - first[2]),
        "imports_cpu_s": imported,
        "ours_cpu_s": first[1] - imported - (last[1] - first[1]) / (last[0] - first[0]),
    }


def bare(steps: int, gridsize: int) -> dict[str, float]:
    """Train with the same modules in the plainest of loops, over batches that are made beforehand."""
    scan = made_up_scan()
    module, data = _module(made_up_payload(gridsize, BATCH * (steps + 1), "unused"), scan)
    optimizer = module.configure_optimizers()
    batches = list(data.train_dataloader())
    began = 0.0
    for number, batch in enumerate(batches):
        optimizer.zero_grad()
        module.batch_loss_in_parts(batch).backward()
        optimizer.step()
        began = time.process_time() if number == 0 else began
    return {"per_cpu_second": steps * BATCH / (time.process_time() - began)}


def infer(steps: int, gridsize: int) -> dict[str, float]:
    """Predict every frame's patch and stitch them."""
    scan = made_up_scan()
    payload = made_up_payload(gridsize, BATCH, "unused")
    module, data = _module(payload, scan)
    clocks = [time.process_time()]
    predictions = predict_patches(module, scan, data.scaling, batch_size=BATCH)
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


def trace(steps: int) -> dict[str, float]:
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


def hashing(steps: int) -> dict[str, float]:
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


def flops(steps: int) -> dict[str, float]:
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


LANES: dict[str, Callable[[int], dict[str, float]]] = {
    "sgemm": sgemm,
    "flops": flops,
    "hashing": hashing,
    "trace": trace,
    **{f"train {g}": lambda steps, g=g: train(steps, g) for g in (1, 2)},
    **{f"bare {g}": lambda steps, g=g: bare(steps, g) for g in (1, 2)},
    **{f"infer {g}": lambda steps, g=g: infer(steps, g) for g in (1, 2)},
}


def main(arguments: list[str]) -> None:
    """Run one lane under the profile that the environment names, and print what it measured."""
    name, steps = arguments[0], int(arguments[1])
    profile = os.environ.get("BENCHMARK_PROFILE")
    if profile is not None:
        apply_and_verify(profile, int(os.environ["OMP_NUM_THREADS"]))
    found: dict[str, Any] = LANES[name](steps)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    sys.stdout.write(json.dumps({**found, "peak_mb": usage.ru_maxrss / 1024}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
