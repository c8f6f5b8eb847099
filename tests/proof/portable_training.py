"""Train a few steps in every way that a proof wants, and print what came out: a process under some processor.

    python -m tests.proof.portable_training FOLDER CASE...

A case is ``loss:gridsize``, or one of the mutations ``root`` and ``loop``, or ``operations``, or ``tiles``.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import torch

import ptycho_torch.losses.mae
import ptycho_torch.module
from ptycho_torch.config import PyTorchExecutionConfig
from ptycho_torch.config_factory import create_training_payload
from ptycho_torch.exact.digest import optimizer_digest, tensor_digest
from ptycho_torch.exact.profile import apply_and_verify
from ptycho_torch.headers import ScanHeader
from ptycho_torch.models.winograd import TiledConvolution
from ptycho_torch.trace import TRACE, read_trace
from ptycho_torch.training import train_with_lightning
from tests.torch.made_up_scans import make_scan
from tests.vendor_dependent import VENDOR_DEPENDENT

SIDE = 64
STEPS = {"poisson:1": 2, "mae:1": 1, "poisson:2": 1, "mae:2": 1}
"""A step of gridsize 2 takes an emulator a minute, and half of that without merging."""


def train(folder: Path, loss: str, gridsize: int, steps: int, *, object_big: bool = True) -> dict[str, str]:
    """Train the smallest network that has everything, a group a step."""
    scan = make_scan(rows=4, columns=4, side=SIDE)
    header = ScanHeader(file=None, N=SIDE, n_frames=len(scan.diffraction), units=scan.units)
    payload = create_training_payload(
        header,
        folder,
        {
            "n_groups": steps,
            "epochs": 1,
            "batch_size": 1,
            "gridsize": gridsize,
            "loss": loss,
            "object_big": object_big,
            "n_filters_scale": 1,
            "probe_trainable": True,
            "validation_fraction": 0.0,
            "checkpoint_monitor_metric": "train_loss",
        },
        PyTorchExecutionConfig(gradient_clip_val=1e-3, enable_checkpointing=False),
    )
    result = train_with_lightning(payload, scan, seed=7)
    lines = read_trace(folder / TRACE)
    found = {f"loss {line.batch}": line.loss for line in lines}
    found |= {f"gradient {line.batch}": str(line.gradient) for line in lines}
    found["weights"] = tensor_digest(result.module.state_dict())
    found["optimizer"] = optimizer_digest(result.trainer.optimizers[0].state_dict())
    return found


def with_root(folder: Path) -> dict[str, str]:
    """Put torch's own root back into the loss."""
    kept = ptycho_torch.losses.mae.amplitude
    ptycho_torch.losses.mae.amplitude = lambda intensity: (intensity + 1e-8).sqrt()
    try:
        return train(folder, "mae", 1, steps=1)
    finally:
        ptycho_torch.losses.mae.amplitude = kept


def with_loop(folder: Path) -> dict[str, str]:
    """Put the optimizer back that takes torch's own root."""
    kept = ptycho_torch.module.Adam

    def loop_adam(parameters: object, **asked: object) -> torch.optim.Optimizer:
        return kept(parameters, **(asked | {"foreach": False, "fused": False}))

    ptycho_torch.module.Adam = loop_adam
    try:
        return train(folder, "poisson", 1, steps=1)
    finally:
        ptycho_torch.module.Adam = kept


def operations() -> dict[str, str]:
    """Digest an example of every operation that depends on the vendor, for the same values everywhere."""
    values = torch.arange(1, 20_001, dtype=torch.float32) / 20_001
    return {name: tensor_digest({"": example(values)}) for name, example in VENDOR_DEPENDENT.items()}


def tiles() -> dict[str, str]:
    """Digest large convolutions with all their gradients, which no network of n_filters_scale 1 has.

    There are 384 tiles, so that a sum over them is longer than OpenBLAS takes at a time (320).
    """
    found: dict[str, str] = {}
    for batch, inputs, outputs, side in ((6, 64, 128, 32), (1, 64, 64, 64)):
        torch.manual_seed(side)
        layer = TiledConvolution(inputs, outputs)
        image = torch.randn(batch, inputs, side, side).to(memory_format=torch.channels_last).requires_grad_()
        convolved = layer(image)
        way = f"{convolved.grad_fn.name()} {inputs}"
        gradients = torch.autograd.grad(convolved.square().sum(), [image, *layer.parameters()])
        named = zip(("value", "image", "weight", "bias"), (convolved.detach(), *gradients), strict=True)
        found |= {f"{way} {name}": tensor_digest({"": tensor}) for name, tensor in named}
    return found


def main(arguments: list[str]) -> None:
    """Do the cases one after the other and print one line of JSON."""
    warnings.simplefilter("ignore")
    folder = Path(arguments[0])
    found: dict[str, dict[str, str]] = {"known answers": apply_and_verify("portable", 1)["known_answers"]}
    for case in arguments[1:]:
        output = folder / case.replace(":", "-")
        if case == "root":
            found[case] = with_root(output)
        elif case == "loop":
            found[case] = with_loop(output)
        elif case == "operations":
            found[case] = operations()
        elif case == "tiles":
            found[case] = tiles()
        else:
            loss, gridsize = case.split(":")
            found[case] = train(output, loss, int(gridsize), STEPS[case], object_big=case != "mae:2")
        sys.stderr.write(f"{case} done\n")
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
