"""Quality against CPU-seconds of a refinement: phase SSIM where there is a truth, else the R-factor.

``python -m benchmarks.quality --data-dir FOLDER [CASE ...]`` runs the named cases (all by default) under the
environment of the ``portable`` profile, one thread, and prints one table. ``--image FILE`` starts each case
from the network's image of a run (its ``products/reconstruction.npz``) besides.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

from ptycho_torch.profiles import environment

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


def measure(case: str, folder: Path, passes: int, image: Path | None) -> str:
    """Refine one case for so many passes and return its row."""
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
    figures = [made.metrics.get(f"refined_{figure}") for figure in SHOWN]
    cells = "  ".join("      -" if value is None else f"{value:7.4f}" for value in figures)
    return f"{case:<14}{config.start:<9}{passes:>6}  {spent[passes - 1]:>11.1f}  {cells}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE")
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("HARNESS_DATA"))
    parser.add_argument("--passes", type=int, nargs="+", default=[20])
    parser.add_argument("--image", type=Path)
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
    for case in given.cases:
        for passes in given.passes:
            for image in {None, given.image}:
                print(measure(case, Path(given.data_dir), passes, image), flush=True)


if __name__ == "__main__":
    main()
