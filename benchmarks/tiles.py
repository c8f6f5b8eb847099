"""What tiles save: large convolutions, directly and by tiles, in turns within one process.

    python -m benchmarks.tiles [--profile strict|portable] [--turns N]

Prints a table: milliseconds of processor time of the forward pass alone, and of it with all gradients, for
eight images; the median of the turns. Before each pass 64 MB are written, so that caches are cold.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.plan import worker_environment

IMAGES = 8
SHAPES = ((64, 64, 64), (64, 128, 32), (128, 128, 32), (128, 256, 16), (256, 256, 16))
"""Channels in and out, and side, of the default network's large convolutions."""


def measure(turns: int) -> None:
    """Time every shape both ways, and print the table."""
    import torch

    from ptycho_torch.models.winograd import TiledConvolution

    other = torch.zeros(2**24)

    def milliseconds(compute: Callable[[], object]) -> float:
        other.add_(1)
        began = time.process_time()
        compute()
        return 1e3 * (time.process_time() - began)

    print("| channels, side | forward, direct | tiled | with gradients, direct | tiled | tiled over direct |")
    print("|---|---|---|---|---|---|")
    for inputs, outputs, side in SHAPES:
        torch.manual_seed(0)
        tiled, direct = TiledConvolution(inputs, outputs), torch.nn.Conv2d(inputs, outputs, 3, padding=1)
        layers = [layer.to(memory_format=torch.channels_last) for layer in (direct, tiled)]
        image, gradient = (
            torch.randn(IMAGES, channels, side, side).to(memory_format=torch.channels_last)
            for channels in (inputs, outputs)
        )
        image.requires_grad_()

        def forward(layer: torch.nn.Module, image: torch.Tensor = image) -> torch.Tensor:
            with torch.no_grad():
                return layer(image)  # type: ignore[no-any-return]

        def both(
            layer: torch.nn.Module, image: torch.Tensor = image, gradient: torch.Tensor = gradient
        ) -> object:
            return torch.autograd.grad(layer(image), [image, *layer.parameters()], gradient)

        taken: dict[tuple[str, int], list[float]] = {}
        for turn in range(turns + 2):
            for name, compute in (("forward", forward), ("both", both)):
                for number, layer in enumerate(layers):
                    took = milliseconds(lambda: compute(layer))  # noqa: B023
                    if turn >= 2:
                        taken.setdefault((name, number), []).append(took)
        medians = " | ".join(f"{statistics.median(values):.1f}" for values in taken.values())
        ratio = statistics.median(a / b for a, b in zip(taken["both", 1], taken["both", 0], strict=True))
        print(f"| {inputs} to {outputs}, {side} | {medians} | {ratio:.2f} |")


def main(arguments: Sequence[str]) -> None:
    """Start again in the environment of a profile, and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--profile", choices=("strict", "portable"), default="strict")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--is-prepared", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.is_prepared:
        measure(chosen.turns)
        return
    environment = worker_environment(chosen.profile, 1, os.environ, str(Path.cwd()))
    command = [sys.executable, "-m", "benchmarks.tiles", *arguments, "--is-prepared"]
    os.execve(sys.executable, command, environment)


if __name__ == "__main__":
    main(sys.argv[1:])
