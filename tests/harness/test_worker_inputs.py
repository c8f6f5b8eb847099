"""A scan that its reference explains only when something is turned, on its way into the worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.run import Job, lay_out
from harness.store import file_digest
from harness.worker_inputs import read_data
from ptycho_torch.data.simulate import simulate_scan
from ptycho_torch.errors import DataError
from ptycho_torch.readers import Scan, save_scan
from ptycho_torch.simulate_config import DeadLeaves, RasterScan, SimulateConfig
from tests.harness.spec_kit import resolved


def read(folder: Path, scan: Scan, reference: Scan) -> None:
    roles = []
    for role, one in {"train": scan, "reference": reference}.items():
        save_scan(folder / f"{role}.npz", one)
        roles.append(f"{role}: {{file: {role}.npz, sha256: {file_digest(folder / f'{role}.npz')}}}")
    found = resolved(folder, f"name: x\ndata: {{{', '.join(roles)}}}\ntraining: {{n_groups: 8}}\n")
    (folder / "run").mkdir()
    lay_out(Job(found.run, "", found.inputs), folder / "run")
    read_data(found.run, folder / "run")


TURNED: dict[str, tuple[Callable[[Scan], Scan], str]] = {
    "coordinates": (
        lambda scan: replace(scan, corners_px=scan.corners_px[:, ::-1]),
        r"^train\.npz: .* as they are read, but of 0\.0\d+ with xcoords and ycoords exchanged",
    ),
    "detector": (
        lambda scan: replace(scan, diffraction=scan.diffraction.swapaxes(1, 2)),
        r"^train\.npz: .* as they are read, but of 0\.0\d+ with the detector transposed",
    ),
    "stretched": (
        lambda scan: replace(scan, corners_px=scan.corners_px * (1, 1.1)),
        "the reference's positions differ from the scan's by up to",
    ),
}


@pytest.mark.parametrize("name", TURNED)
def test_it_is_refused_before_anything_is_trained(name: str, tmp_path: Path) -> None:
    config = SimulateConfig(object=DeadLeaves(size_px=130), scan=RasterScan(rows=3, columns=5), seed=2)
    right = simulate_scan(config)
    read(tmp_path, replace(right, object=None), right)
    turn, message = TURNED[name]
    (tmp_path / "turned").mkdir()
    with pytest.raises(DataError, match=message):
        read(tmp_path / "turned", turn(replace(right, object=None)), right)
