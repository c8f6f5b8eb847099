"""Quality against CPU-seconds of a refinement: phase SSIM where there is a truth, else the R-factor.

``python -m benchmarks.quality --data-dir FOLDER [CASE ...]`` runs the named cases (all by default) under the
environment of the ``portable`` profile, one thread, and prints one table. ``--image FILE`` starts each case
from the network's image of a run (its ``products/reconstruction.npz``) besides. ``--refine EPOCHS ...``
starts ``leaves-1e9`` besides from the images of trainings of so many epochs, with the lowest seed, of those
that ``--network FOLDER`` holds (:mod:`benchmarks.network`). ``--plot FILE`` draws figure against time
(training included), beside what pty-chi's LSQML reached and, of ``leaves-1e9``, what the network alone
reached in ``--network FOLDER``, and the peer's; ``--transfer FOLDER`` adds trainings on another scan, from
weights drawn by chance and from trained ones (``init_from``).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from benchmarks.network import CHANCE, TRAINED, Training, trainings
from ptycho_torch.profiles import environment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CASES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "leaves-1e9": ("synth_deadleaves_N64_K1024_1e09.npz", "center", "count_amplitude", {}),
    "leaves-1e4": (
        "synth_deadleaves_N64_K1024_1e04.npz",
        "center",
        "count_amplitude",
        {"gradient": "poisson"},
    ),
    "star": (
        "siemens-star-small.npz.bz2",
        "ptychopinn",
        "count_intensity",
        {"probe": True, "half_data": True},
    ),
    "star-3-modes": (
        "siemens-star-small.npz.bz2",
        "ptychopinn",
        "count_intensity",
        {"probe": True, "modes": 3, "half_data": True},
    ),
}
SHOWN = ("phase_ssim", "r_factor", "half_bit_resolution_px")
LSQML: Mapping[str, Sequence[tuple[float, float]]] = {
    "leaves-1e9": ((14.5, 0.92), (36.0, 0.955)),
    "star": ((17.0, 0.184), (35.0, 0.165), (53.0, 0.161)),
}
"""CPU-seconds and figure of pty-chi 2.2.0 on the same files, as measured elsewhere."""

LSQML_ENDS_AT: Mapping[str, float] = {"leaves-1e4": 0.81, "star-3-modes": 0.144}
"""Where it ends, of the cases of which no time is known."""

NETWORK_CASE = "leaves-1e9"
"""The case of which trainings are drawn."""

PEER_UNTIL, PEER_AT_MOST = 600.0, 0.005
"""CPU-seconds up to which the peer's network reached no more phase SSIM on it than a constant does."""


@dataclass(frozen=True)
class Start:
    """What a refinement starts from: a flat object, or the image of a network and the training behind it."""

    name: str
    image: Path | None = None
    training: Training | None = None

    @property
    def cpu_seconds(self) -> float:
        """Those of the training, where it is known."""
        return 0.0 if self.training is None else self.training.cpu_seconds


@dataclass(frozen=True)
class Row:
    """One refinement: what it started from, its passes, its CPU-seconds and what came of it."""

    case: str
    start: Start
    passes: int
    cpu_seconds: float
    figures: Mapping[str, float]

    def __str__(self) -> str:
        cells = "  ".join(
            f"{self.figures[name]:7.4f}" if name in self.figures else "      -" for name in SHOWN
        )
        return (
            f"{self.case:<14}{self.start.name:<11}{self.start.cpu_seconds:>8.1f}"
            f"{self.passes:>8}  {self.cpu_seconds:>11.1f}  {cells}"
        )

    @property
    def figure(self) -> float:
        """The phase's SSIM where there is a truth, else the R-factor."""
        return self.figures["r_factor" if self.case.startswith("star") else "phase_ssim"]


def measure(case: str, folder: Path, passes: int, start: Start) -> Row:
    """Refine one case for so many passes."""
    import torch

    from ptycho_torch.readers import read_scan
    from ptycho_torch.refine_config import RefineConfig
    from ptycho_torch.refine_record import Pass
    from ptycho_torch.refined import refine_scan

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    name, positions, units, options = CASES[case]
    scan = read_scan(
        folder / name, format="tike" if "bz2" in name else "npz", positions=positions, units=units
    )
    config = RefineConfig(passes=passes, start="flat" if start.image is None else "network", **options)
    began, spent = time.process_time(), []

    def note(one: Pass, total: int) -> None:
        spent.append(time.process_time() - began)

    made = refine_scan(
        scan,
        config,
        counts_per_amplitude=1.0,
        seed=0,
        network_image=b"" if start.image is None else start.image.read_bytes(),
        report=note,
    )
    found = {name: made.metrics[f"refined_{name}"] for name in SHOWN if f"refined_{name}" in made.metrics}
    return Row(case, start, passes, spent[passes - 1], found)


def plot(
    rows: Sequence[Row], networks: Sequence[Training], transfers: Sequence[Training], file: Path
) -> None:
    """Draw every case's figure against the CPU-seconds that it took, and that of the transfers."""
    from matplotlib.figure import Figure

    cases = list(dict.fromkeys(row.case for row in rows))
    sheets = len(cases) + bool(transfers)
    sheet = Figure(figsize=(4.6 * sheets, 4.2), layout="constrained")
    for place, case in enumerate(cases):
        axes = sheet.add_subplot(1, sheets, place + 1)
        if networks and case == NETWORK_CASE:
            _draw_networks(axes, networks)
            axes.set_xscale("log")
        _draw_refinements(axes, [row for row in rows if row.case == case])
        if case in LSQML:
            axes.plot(*zip(*LSQML[case], strict=True), "s--", color="grey", label="pty-chi, LSQML")
        else:
            axes.axhline(LSQML_ENDS_AT[case], linestyle="--", color="grey", label="pty-chi, LSQML, its end")
        _finish(axes, case, "R-factor" if case.startswith("star") else "phase SSIM")
    if transfers:
        axes = sheet.add_subplot(1, sheets, sheets)
        for start, label in ((CHANCE, "network alone"), (TRAINED, "network alone, init_from")):
            made = [(one.cpu_seconds, one.phase_ssim) for one in transfers if one.start == start]
            axes.plot(*zip(*made, strict=True), "o-", label=label)
        axes.set_ylim(0)
        _finish(axes, "another scan", "phase SSIM")
    sheet.savefig(file, dpi=110)


def _finish(axes: Axes, title: str, figure: str) -> None:
    axes.set(xlabel="CPU-seconds", title=title, ylabel=figure)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small")


def _draw_refinements(axes: Axes, rows: Sequence[Row]) -> None:
    for start in dict.fromkeys(row.start for row in rows):
        begun = [] if start.training is None else [(start.cpu_seconds, start.training.phase_ssim)]
        made = sorted((start.cpu_seconds + row.cpu_seconds, row.figure) for row in rows if row.start == start)
        axes.plot(*zip(*begun, *made, strict=True), ".-", label=f"{start.name}, then refined")


def _draw_networks(axes: Axes, networks: Sequence[Training]) -> None:
    lengths = [
        [one for one in networks if one.epochs == epochs]
        for epochs in sorted({one.epochs for one in networks})
    ]
    means = [
        (fmean(one.cpu_seconds for one in runs), fmean(one.phase_ssim for one in runs)) for runs in lengths
    ]
    (line,) = axes.plot(*zip(*means, strict=True), "-", label="network alone")
    seen = [(one.cpu_seconds, one.phase_ssim) for one in networks]
    axes.plot(*zip(*seen, strict=True), "o", color=line.get_color(), markersize=3)
    first = min(one.cpu_seconds for one in networks)
    axes.hlines(PEER_AT_MOST, first, PEER_UNTIL, "black", "dashed", label="the peer's network, at most")


def starts(case: str, image: Path | None, networks: Sequence[Training], epochs: Sequence[int]) -> list[Start]:
    """Return what a case is refined from: a flat object, and what was named besides."""
    found = [Start("flat")] if image is None else [Start("flat"), Start("network", image)]
    if case != NETWORK_CASE:
        return found
    for length in epochs:
        one = min((one for one in networks if one.epochs == length), key=lambda one: one.seed)
        image = one.folder / "products" / "reconstruction.npz"
        found.append(Start(f"{length} epochs", image, one))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE")
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("HARNESS_DATA"))
    parser.add_argument("--passes", type=int, nargs="+", default=[20])
    parser.add_argument("--image", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--network", type=Path, metavar="FOLDER", help="runs of benchmarks.network")
    parser.add_argument("--refine", type=int, nargs="+", default=[], metavar="EPOCHS")
    parser.add_argument("--transfer", type=Path, metavar="FOLDER", help="the same of another scan")
    given = parser.parse_args()
    if given.data_dir is None or (unknown := sorted(set(given.cases) - set(CASES))):
        parser.error(
            "name the folder of the data with --data-dir or HARNESS_DATA"
            if given.data_dir is None
            else f"there is no case {unknown[0]!r} (legal: {', '.join(CASES)})"
        )
    wanted = environment("portable", 1)
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        # The profile must stand before torch is loaded: this process begins again with it.
        os.execve(
            sys.executable, [sys.executable, "-m", "benchmarks.quality", *sys.argv[1:]], os.environ | wanted
        )
    networks = [] if given.network is None else trainings(given.network)
    if missing := set(given.refine) - {one.epochs for one in networks}:
        parser.error(f"--network holds no training of {min(missing)} epochs to refine")
    title = f"{'case':<14}{'start':<11}{'trained':>8}{'passes':>8}  {'CPU-seconds':>11}  "
    print(title + "  ".join(SHOWN), flush=True)
    rows = []
    for case in given.cases:
        for passes in given.passes:
            for start in starts(case, given.image, networks, given.refine):
                rows.append(measure(case, Path(given.data_dir), passes, start))
                print(rows[-1], flush=True)
    if given.plot is not None:
        plot(rows, networks, [] if given.transfer is None else trainings(given.transfer), given.plot)


if __name__ == "__main__":
    main()
