"""The differences that are planted, each real, and what is to be found of each."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.harness.test_road import only_run
from tests.proof.planting import Plot, environment, harness


@dataclass(frozen=True)
class Expected:
    """What is to be found: the steps done before, a pattern of the tensor, the cause, and the batch."""

    step: int | None
    tensor: str
    area: str
    name: str
    batch: int | None = None


def replace_in(path: Path, old: str, new: str) -> None:
    """Change one place of a source file."""
    text = path.read_text()
    assert text.count(old) == 1, f"{path}: {old!r} stands there {text.count(old)} times"
    path.write_text(text.replace(old, new))


def rewrite(path: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Change arrays of a data file."""
    with np.load(path) as stored:
        arrays = dict(stored)
    change(arrays)
    np.savez(path, **arrays)


def flip_a_byte(array: np.ndarray, place: int) -> None:
    """Flip a bit of a byte in the middle of a number's digits."""
    array.reshape(-1).view(np.uint8)[place] ^= 0x10


ONCE = """
def _flip_once(trainer: Trainer, *wanted: str) -> None:
    spot = Path(__file__).parents[2] / "flip"
    if trainer.global_step != 7 or not spot.is_file() or spot.read_text() not in wanted:
        return
    what = spot.read_text()
    spot.unlink()
    _, parameter = list(trainer.lightning_module.named_parameters())[5]
    slots = trainer.optimizers[0].state[parameter]
    tensor = {"weight": parameter.detach(), "slot": slots["exp_avg_sq"], "gradient": parameter.grad}[what]
    tensor.view(dtype=torch.int32)[1] ^= 1 << 20

"""
# Flips one bit of the process's memory, once: what asks for it is gone before anything is repeated.


def with_a_loose_bit(tree: Path) -> None:
    # Beside the tree lies the file that asks for the flip, so neither code nor record tells of it.
    path = tree / "ptycho_torch" / "callbacks.py"
    replace_in(path, "from torch import Tensor\n", "import torch\nfrom torch import Tensor\n")
    replace_in(path, "class BestCheckpoints(", ONCE + "\nclass BestCheckpoints(")
    replace_in(
        path,
        "        now = time.monotonic()\n        if now - self._reported_at",
        '        _flip_once(trainer, "weight", "slot")\n'
        "        now = time.monotonic()\n        if now - self._reported_at",
    )
    replace_in(
        path,
        "    def _stop_if_asked(",
        "    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:\n"
        '        _flip_once(trainer, "gradient")\n\n    def _stop_if_asked(',
    )


def loosen(plot: Plot, what: str) -> None:
    plot.both(with_a_loose_bit)
    plot.divide()
    (plot.trees[1].parent / "flip").write_text(what)


def swap_frames(path: Path) -> None:
    def swap(arrays: dict[str, np.ndarray]) -> None:
        arrays["diffraction"][[4, 17]] = arrays["diffraction"][[17, 4]]

    rewrite(path, swap)


def go_on_from_a_stale_state(plot: Plot) -> Path:
    # The state after some step k, with the weights of the state before it, and its digest made to fit.
    runs = plot.folder / "second" / "runs"
    plot.changed["checkpoints"] = {"every_steps": 1}
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "run", str(plot.spec(1)), "--runs-dir", str(runs)],
        env=environment(plot.trees[1]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 900
    while not list(runs.glob("*/checkpoints/resume-000000003.ckpt")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.wait()
    run = only_run(runs)
    *_, before, last = sorted((run / "checkpoints").glob("resume-*.ckpt"))
    state = torch.load(last, weights_only=True)
    state["state_dict"] = torch.load(before, weights_only=True)["state_dict"]
    torch.save(state, last)
    last.with_name(f"{last.name}.sha256").write_text(hashlib.sha256(last.read_bytes()).hexdigest() + "\n")
    answer = harness(plot.trees[1], "resume", run, "--runs-dir", runs)
    assert answer.returncode == 0, answer.stderr
    return run


def interpreter_with(folder: Path, version: str) -> str:
    # An environment of its own, with everything of this one and a package of this version.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    [site] = folder.glob("lib/python*/site-packages")
    (site / "all.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (site / "photon_units.py").write_text(f"FACTOR = {1.0 if version == '1.0' else 1.0000001}\n")
    info = site / f"photon_units-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: photon-units\nVersion: {version}\n")
    digest = hashlib.sha256((site / "photon_units.py").read_bytes()).hexdigest()
    (info / "RECORD").write_text(f"photon_units.py,sha256={digest},19\n")
    return str(folder / "bin" / "python")


def use_the_package(tree: Path) -> None:
    path = tree / "ptycho_torch" / "losses" / "__init__.py"
    replace_in(
        path, "from torch import Tensor\n", "from photon_units import FACTOR\nfrom torch import Tensor\n"
    )
    replace_in(path, "return terms.sum() /", "return FACTOR * terms.sum() /")


def two_interpreters(plot: Plot) -> None:
    plot.both(use_the_package)
    plot.divide()
    plot.python = (
        interpreter_with(plot.folder / "first" / "venv", "1.0"),
        interpreter_with(plot.folder / "second" / "venv", "1.1"),
    )


def change_value(section: str, key: str, value: Any) -> Callable[[Plot], None]:
    def change(plot: Plot) -> None:
        plot.divide()
        if section:
            plot.changed[section][key] = value
        else:
            plot.changed[key] = value

    return change


def change_code(path: str, old: str, new: str) -> Callable[[Plot], None]:
    def change(plot: Plot) -> None:
        plot.divide()
        replace_in(plot.trees[1] / path, old, new)

    return change


def change_array(name: str, place: int) -> Callable[[Plot], None]:
    def change(plot: Plot) -> None:
        plot.divide()
        rewrite(plot.data[1], lambda arrays: flip_a_byte(arrays[name], place))

    return change


def change_data(edit: Callable[[Path], None]) -> Callable[[Plot], None]:
    def change(plot: Plot) -> None:
        plot.divide()
        edit(plot.data[1])

    return change


def simulate(plot: Plot) -> None:
    plot.forget()
    for spec, seed in zip(plot.specs, (0, 1), strict=True):
        scan = {"object": {"size_px": 96}, "scan": {"rows": 6, "columns": 6}, "seed": seed}
        spec["data"] = {"train": {"simulate": scan}, "validation_fraction": 0.1}
    plot.divide()


def add_up_other_gradients(plot: Plot) -> None:
    # The gradient's norm is told at the window's end; the first batch in it is where they part.
    plot.forget()
    for spec in plot.specs:
        spec["execution"]["accum_steps"] = 2
    plot.divide()
    begin, end = "    def training_step(", "    def on_train_batch_end("
    path = plot.trees[1] / MODULE
    before, step, after = cut(path.read_text(), begin, end)
    assert step.count(RETURNS) == 1
    path.write_text(before + step.replace(RETURNS, HOOK + RETURNS) + after)


def cut(text: str, begin: str, end: str) -> tuple[str, str, str]:
    assert (text.count(begin), text.count(end)) == (1, 1)
    return text[: text.index(begin)], text[text.index(begin) : text.index(end)], text[text.index(end) :]


RETURNS = "        return loss\n"
HOOK = "        loss.register_hook(lambda gradient: gradient * 1.0000002)\n"
LOSSES = "ptycho_torch/losses/__init__.py"
POISSON = "ptycho_torch/losses/poisson.py"
SAMPLER = "ptycho_torch/exact/sampler.py"
MODULE = "ptycho_torch/module.py"
BLOCKS = "ptycho_torch/models/blocks.py"
PHYSICS = "ptycho_torch/physics/forward.py"
SCHEDULERS = "ptycho_torch/schedulers.py"
SWAPPED = "indices[9], indices[13] = indices[13], indices[9]\n        return indices"

PLANTS: dict[str, tuple[Callable[[Plot], None], Expected]] = {
    "a bit of a weight, once": (
        lambda plot: loosen(plot, "weight"),
        Expected(7, "before/generator.*.bias", "event", "*"),
    ),
    "a bit of an optimizer slot, once": (
        lambda plot: loosen(plot, "slot"),
        Expected(7, "before/optimizer/exp_avg_sq/generator.*.bias", "event", "*"),
    ),
    "a bit of a gradient, once": (
        lambda plot: loosen(plot, "gradient"),
        Expected(7, "gradient/generator.*.bias", "event", "*"),
    ),
    "a stale checkpoint": (
        lambda plot: plot.divide(),
        Expected(None, "before/generator.*", "attempt", "attempt 2"),
    ),
    "two samples swapped in the file": (
        change_data(swap_frames),
        Expected(None, "batch/input_amplitude", "data", "train"),
    ),
    "two samples swapped in the order": (
        change_code(SAMPLER, "return indices", SWAPPED),
        Expected(2, "batch/index", "code", SAMPLER),
    ),
    "one byte of the frames": (
        change_array("diffraction", 4 * (9 * 64 * 64 + 2080) + 1),
        Expected(0, "before/forward_model.intensity_scale", "data", "train"),
    ),
    "one byte of the probe": (
        change_array("probeGuess", 8 * 2080 + 1),
        Expected(0, "before/forward_model.*", "data", "train"),
    ),
    "another seed of the simulation": (
        simulate,
        Expected(0, "before/forward_model.probe_parts", "inputs", "data.train.simulate.seed"),
    ),
    "another thread count": (
        change_value("exactness", "threads", 2),
        Expected(None, "gradient/generator.phase.centre.bias", "inputs", "exactness.threads"),
    ),
    "another profile": (
        change_value("exactness", "profile", "portable-sse"),
        Expected(0, "before/generator.encoder.0.first.weight", "inputs", "exactness.profile"),
    ),
    "the learning rate in the second epoch": (
        change_value("training", "stage_factors", [1.0, 0.4, 0.25]),
        Expected(6, "rate", "inputs", "training.stage_factors"),
    ),
    "the schedule's code": (
        change_code(
            SCHEDULERS, "return factors[sum(epoch >= change for", "return factors[sum(epoch > change for"
        ),
        Expected(6, "rate", "code", SCHEDULERS),
    ),
    "another version of a package": (
        two_interpreters,
        Expected(0, "loss", "environment", "photon-units"),
    ),
    "the sign of a term of the loss": (
        change_code(POISSON, "terms = rate - counts - counts *", "terms = rate - counts + counts *"),
        Expected(0, "loss", "code", POISSON),
    ),
    "the order of a reduction": (
        change_code(LOSSES, "terms.sum() /", "terms.sum(-1).sum() /"),
        Expected(None, "loss", "code", LOSSES),
    ),
    "another loss": (
        change_value("training", "loss", "mae"),
        Expected(0, "loss", "inputs", "training.loss"),
    ),
    "another seed": (
        change_value("", "seed", 4),
        Expected(0, "before/generator.*", "inputs", "seed"),
    ),
    "other initial weights": (
        change_code(BLOCKS, 'nonlinearity="relu"', 'nonlinearity="linear"'),
        Expected(0, "before/generator.*", "code", BLOCKS),
    ),
    "clipped gradients": (
        change_value("execution", "gradient_clip_val", 1e-4),
        Expected(0, "after/generator.*", "inputs", "execution.gradient_clip_val"),
    ),
    "another decay in the optimizer": (
        change_code(
            MODULE,
            "lr=self.execution.learning_rate, fused=True",
            "lr=self.execution.learning_rate, betas=(0.9, 0.99), fused=True",
        ),
        Expected(0, "after/*", "code", MODULE),
    ),
    "another batch size": (
        change_value("training", "batch_size", 6),
        Expected(0, "batch/index", "inputs", "training.batch_size"),
    ),
    "another level of the amplitude": (
        change_value("model", "amplitude_level", 0.6),
        Expected(0, "before/generator.amplitude.*", "inputs", "model.amplitude_level"),
    ),
    "another activation": (
        change_value("model", "amp_activation", "softplus"),
        Expected(0, "before/generator.amplitude.*", "inputs", "model.amp_activation"),
    ),
    "a factor in the network": (
        change_code(BLOCKS, "both = F.conv2d(input,", "both = 1.0000002 * F.conv2d(input,"),
        Expected(0, "activation/generator.*", "code", BLOCKS),
    ),
    "a factor in the forward model": (
        change_code(PHYSICS, "* self.counts_per_unit", "* (self.counts_per_unit * 1.0000002)"),
        Expected(0, "activation/forward_model", "code", PHYSICS),
    ),
    "gradients of two batches added": (
        change_value("execution", "accum_steps", 2),
        Expected(0, "gradient/*", "inputs", "execution.accum_steps"),
    ),
    "a factor in the gradient, two batches added": (
        add_up_other_gradients,
        Expected(0, "gradient/generator.phase.centre.bias", "code", MODULE, batch=0),
    ),
}
# Every planted difference, by its name: how it is planted, and what is to be found.


def first_line_that_differs(first: Path, second: Path) -> int:
    # Read by hand, without the project's own reader: the line at which a number parts in the records.
    one, other = (
        [
            [json.loads(line).get(key) for key in ("data", "loss", "gradient")]
            for line in trace.read_text().splitlines()
        ]
        for trace in (first / "trace.jsonl", second / "trace.jsonl")
    )
    return next(step for step, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1])


def carry_out(name: str, folder: Path, source: Path) -> tuple[Plot, Path, Path]:
    # Both runs of a planted difference.
    plot = Plot(folder, source)
    plant, _ = PLANTS[name]
    plant(plot)
    first = plot.run(0)
    second = go_on_from_a_stale_state(plot) if name == "a stale checkpoint" else plot.run(1)
    return plot, first, second


def step_expected(name: str, first: Path, second: Path) -> int:
    expected = PLANTS[name][1].step
    if expected is not None:
        return expected
    if name == "a stale checkpoint":
        found = json.loads((second / "manifest.json").read_text())["attempts"][1]["from_step"]
        return int(found)
    return first_line_that_differs(first, second)
