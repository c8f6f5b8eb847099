"""A scan's image refined and judged: what a run keeps of it, beside the network's own image."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.alignment import Aligned
from ptycho_torch.evaluation import counts_of, judge_image
from ptycho_torch.half_data import HalfData, correlate_halves, probe_of_level_object
from ptycho_torch.products import reconstruction_file
from ptycho_torch.readers.scan import Scan
from ptycho_torch.refine_config import RefineConfig
from ptycho_torch.refine_record import Pass, Refined
from ptycho_torch.refinement import refine
from ptycho_torch.stitching import Reconstruction

__all__ = ["PREFIX", "RefinedScan", "refine_scan"]

PREFIX = "refined_"
"""Beginning of the name of every figure of a refined image: those without it are the network's."""


@dataclass(frozen=True, eq=False)
class RefinedScan:
    """What came out of a refinement.

    Parameters
    ----------
    image, aligned
        The refined object, and it beside its truth; None where there is none.
    metrics
        Its figures, each with :data:`PREFIX`.
    files
        Name to content: the object with its probe, every pass, and the ring correlation of the halves.
    facts
        What happened: passes, those taken back, and with which batches and steps it ended.
    """

    image: Reconstruction
    aligned: Aligned | None
    metrics: dict[str, float]
    files: dict[str, bytes]
    facts: dict[str, Any]


def refine_scan(
    scan: Scan,
    config: RefineConfig,
    *,
    counts_per_amplitude: float,
    seed: int,
    network_image: bytes,
    support: NDArray[np.bool_] | None = None,
    report: Callable[[Pass, int], None] = lambda done, total: None,
) -> RefinedScan:
    """Refine a scan's image as `config` says, and judge it.

    Parameters
    ----------
    scan
        All frames; its object, where there is one, is the truth, and is used to judge only.
    config
        How.
    counts_per_amplitude, seed, support
        As in :func:`ptycho_torch.refinement.refine`.
    network_image
        The network's image as :func:`ptycho_torch.products.reconstruction_file` wrote it. It is read only.
    report
        Called after every pass, with the pass and the number of passes in all, those of the halves included.
    """
    start = _read_image(network_image) if config.start == "network" else None
    total = config.passes * (3 if config.half_data else 1)
    done = 0

    def reported(one: Pass, _: int) -> None:
        nonlocal done
        done += 1
        report(dataclasses.replace(one, number=done), total)

    refined = refine(
        scan,
        config,
        counts_per_amplitude=counts_per_amplitude,
        seed=seed,
        start=start,
        support=support,
        report=reported,
    )
    judged, counts = dataclasses.replace(scan, probe=refined.probe), counts_of(scan, counts_per_amplitude)
    metrics, aligned = judge_image(refined.image, refined.image, judged, counts)
    metrics |= {"misfit": refined.passes[-1].misfit, "passes_taken_back": float(refined.num_taken_back)}
    files = {"refined.npz": reconstruction_file(refined.image, judged), "passes.csv": _table(refined.passes)}
    if config.half_data:
        halves = correlate_halves(
            scan,
            config,
            counts_per_amplitude=counts_per_amplitude,
            seed=seed,
            probe=(
                probe_of_level_object(refined.image, refined.probe)
                if config.half_data_probe == "whole"
                else None
            ),
            support=support,
            report=reported,
        )
        metrics |= halves.figures
        files["half_data.csv"] = _curve(halves)
    return RefinedScan(
        image=refined.image,
        aligned=aligned,
        metrics={f"{PREFIX}{name}": value for name, value in metrics.items()},
        files=files,
        facts=_facts(refined),
    )


def _read_image(content: bytes) -> tuple[Reconstruction, NDArray[np.complex64]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        image = Reconstruction(stored["object"], stored["coverage"], stored["frame_origin_px"], 0, 0)
        return image, stored["probe"]


def _facts(refined: Refined) -> dict[str, Any]:
    last = refined.passes[-1]
    return {
        "passes": last.number,
        "batches": last.batches,
        "rate": last.rate,
        **({} if refined.slope_rad_px is None else {"slope_rad_px": list(refined.slope_rad_px)}),
        "taken_back": [
            {"pass": one.number, "misfit": one.misfit, "batches": one.batches, "rate": one.rate}
            for one in refined.passes
            if one.is_taken_back
        ],
    }


def _rows(names: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(names)
    table.writerows(rows)
    return text.getvalue().encode()


def _table(passes: Iterable[Pass]) -> bytes:
    names = [field.name for field in dataclasses.fields(Pass)]
    return _rows(names, (dataclasses.astuple(one) for one in passes))


def _curve(halves: HalfData) -> bytes:
    columns = (halves.curve.frequency, halves.curve.correlation, halves.half_bit, halves.curve.num_pixels)
    names = ("cycles_per_px", "correlation", "half_bit", "fourier_pixels")
    return _rows(names, zip(*(column.tolist() for column in columns), strict=True))
