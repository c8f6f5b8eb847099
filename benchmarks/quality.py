"""Quality against CPU-seconds of a refinement: phase SSIM where there is a truth, else the R-factor.

``python -m benchmarks.quality --data-dir FOLDER [CASE ...]`` runs the named cases (all by default) under the
environment of the ``portable`` profile, one thread, and prints one table. ``--image FILE`` starts each case
from the network's image of a run (its ``products/reconstruction.npz``) besides. ``--plot FILE`` draws figure
against time, beside what pty-chi's LSQML reached and, of ``leaves-1e9``, what the network alone reached in
the runs of ``--network FOLDER`` (:mod:`benchmarks.network`), and the peer's.
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

from benchmarks.network import Training, trainings
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
class Row:
    """One refinement: what it started from, its passes, its CPU-seconds and what came of it."""

    case: str
    start: str
    passes: int
    cpu_seconds: float
    figures: Mapping[str, float]

    def __str__(self) -> str:
        cells = "  ".join(
            f"{self.figures[name]:7.4f}" if name in self.figures else "      -" for name in SHOWN
        )
        return f"{self.case:<14}{self.start:<9}{self.passes:>6}  {self.cpu_seconds:>11.1f}  {cells}"

    @property
    def figure(self) -> float:
        """The phase's SSIM where there is a truth, else the R-factor."""
        return self.figures["r_factor" if self.case.startswith("star") else "phase_ssim"]


def measure(case: str, folder: Path, passes: int, image: Path | None) -> Row:
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
    config = RefineConfig(passes=passes, start="flat" if image is None else "network", **options)
    began, spent = time.process_time(), []

    def note(one: Pass, total: int) -> None:
        spent.append(time.process_time() - began)

    made = refine_scan(
        scan,
        config,
        counts_per_amplitude=1.0,
        seed=0,
        network_image=b"" if image is None else image.read_bytes(),
        report=note,
    )
    found = {name: made.metrics[f"refined_{name}"] for name in SHOWN if f"refined_{name}" in made.metrics}
    return Row(case, config.start, passes, spent[passes - 1], found)


def plot(rows: Sequence[Row], networks: Sequence[Training], file: Path) -> None:
    """Draw every case's figure against the CPU-seconds that it took."""
    from matplotlib.figure import Figure

    cases = list(dict.fromkeys(row.case for row in rows))
    sheet = Figure(figsize=(4.2 * len(cases), 3.6), layout="constrained")
    for place, case in enumerate(cases):
        axes = sheet.add_subplot(1, len(cases), place + 1)
        for start in dict.fromkeys(row.start for row in rows if row.case == case):
            points = sorted(
                (row.cpu_seconds, row.figure) for row in rows if (row.case, row.start) == (case, start)
            )
            axes.plot(*zip(*points, strict=True), "o-", label=f"refined, {start} start")
        if case in LSQML:
            axes.plot(*zip(*LSQML[case], strict=True), "s--", color="grey", label="pty-chi, LSQML")
        else:
            axes.axhline(LSQML_ENDS_AT[case], linestyle="--", color="grey", label="pty-chi, LSQML, its end")
        if networks and case == NETWORK_CASE:
            _draw_networks(axes, networks)
            axes.set_xscale("log")
        axes.set(xlabel="CPU-seconds", title=case)
        axes.set_ylabel("R-factor" if case.startswith("star") else "phase SSIM")
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize="small")
    sheet.savefig(file, dpi=110)


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
    parser.add_argument("--network", type=Path, help="runs of benchmarks.network, for the plot")
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
    print(f"{'case':<14}{'start':<9}{'passes':>6}  {'CPU-seconds':>11}  " + "  ".join(SHOWN), flush=True)
    rows = []
    for case in given.cases:
        for passes in given.passes:
            for image in {None, given.image}:
                rows.append(measure(case, Path(given.data_dir), passes, image))
                print(rows[-1], flush=True)
    if given.plot is not None:
        plot(rows, [] if given.network is None else trainings(given.network), given.plot)


if __name__ == "__main__":
    main()
