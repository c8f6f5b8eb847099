"""The options of model and loss in whole runs, on the command line and with the real worker."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from harness.cli import main
from harness.errors import ExitCode
from tests.harness.conftest import write_scan

SPEC = """\
name: options
data: {{train: {{file: scan.npz}}, test: {{file: copy.npz}}}}
model: {{n_filters_scale: 1, attention: false, probe_big: false, probe_mask: true, {options}}}
training: {{n_groups: 16, epochs: 2, batch_size: 4, tv_weight: 0.01}}
execution: {{learning_rate: 0.01}}
{products}
"""
pytestmark = pytest.mark.slow  # each of half a dozen runs imports torch


def run(folder: Path, options: str, products: str = "products: {pictures: false}") -> Path:
    write_scan(folder / "scan.npz")
    with np.load(folder / "scan.npz") as arrays:
        np.savez_compressed(folder / "copy.npz", **arrays)
    (folder / "spec.yaml").write_text(SPEC.format(options=options, products=products))
    assert main(["run", str(folder / "spec.yaml"), "--runs-dir", str(folder / "runs")]) in {0, 1}
    [made] = (folder / "runs").iterdir()
    return made


@pytest.mark.parametrize("trained", ["intensity_scale_trainable", "probe_trainable"])
def test_the_test_scan_is_reconstructed_with_the_probe_and_the_scale_that_were_learnt(
    tmp_path: Path, trained: str
) -> None:
    made = run(tmp_path, f"{trained}: true")
    products = made / "products"
    image = (products / "reconstruction.npz").read_bytes()
    assert (products / "test" / "reconstruction.npz").read_bytes() == image
    with np.load(products / "reconstruction.npz") as stored:
        outside = np.hypot(*(np.mgrid[:64, :64] - 31.5)) >= 16
        assert not stored["probe"][:, outside].any()
        assert stored["probe"][:, ~outside].all()
    metrics = json.loads((made / "manifest.json").read_text())["metrics"]
    assert ("intensity_scale" in metrics) == (trained == "intensity_scale_trainable")
    assert main(["verify", made.name, "--runs-dir", str(tmp_path / "runs")]) == ExitCode.OK


def test_a_scale_that_was_learnt_is_taken_to_another_scan(tmp_path: Path) -> None:
    made = run(tmp_path, "intensity_scale_trainable: true")
    scan, runs = str(tmp_path / "scan.npz"), str(tmp_path / "runs")
    assert main(["reconstruct", made.name, scan, "--set", "products.pictures=false", "--runs-dir", runs]) == 0
    [again] = [path for path in Path(runs).iterdir() if path != made]
    image = (made / "products" / "reconstruction.npz").read_bytes()
    assert (again / "products" / "reconstruction.npz").read_bytes() == image


def test_a_refinement_holds_the_mask_of_the_run_whose_image_it_refines(tmp_path: Path) -> None:
    block = "products: {pictures: false, refine: {passes: 2, probe: true}}"
    made = run(tmp_path, "probe_mask_diameter_px: 24", block)
    runs = tmp_path / "runs"
    options = ("--set", "products.refine.modes=2", "--set", "products.refine.start=flat")
    assert main(["refine", made.name, *options, "--runs-dir", str(runs)]) == ExitCode.OK
    [later] = [path for path in runs.iterdir() if path != made]
    outside = np.hypot(*(np.mgrid[:64, :64] - 31.5)) >= 12
    for path, modes in ((made, 1), (later, 2)):
        with np.load(path / "products" / "refined" / "refined.npz") as stored:
            assert stored["probe"].shape == (modes, 64, 64)
            assert not stored["probe"][:, outside].any()
            assert stored["probe"][:, ~outside].all()
    assert main(["verify", later.name, "--runs-dir", str(runs)]) == ExitCode.OK
