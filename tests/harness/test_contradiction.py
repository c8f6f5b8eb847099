"""Scans that their objects or references contradict: said before there is a run, with the cure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.cli import main
from harness.errors import ExitCode, SpecError
from harness.store import file_digest
from ptycho_torch.data.simulate import simulate_scan
from ptycho_torch.orientation import asked_rows
from ptycho_torch.readers import Scan, save_scan
from ptycho_torch.simulate_config import DeadLeaves, RasterScan, SimulateConfig
from tests.harness.spec_kit import resolved

Wrong = Callable[[Scan], Scan]


@pytest.fixture(scope="module")
def right() -> Scan:
    config = SimulateConfig(object=DeadLeaves(size_px=130), scan=RasterScan(rows=5, columns=8), seed=2)
    return simulate_scan(config)


def with_frames(change: Callable[[np.ndarray], np.ndarray]) -> Wrong:
    return lambda scan: replace(scan, diffraction=change(scan.diffraction).astype(np.float32))


WRONG: dict[str, tuple[Wrong, str]] = {
    "coordinates": (
        lambda scan: replace(scan, corners_px=scan.corners_px[:, ::-1]),
        r"as they are read, but of 0\.0\d+ with xcoords and ycoords exchanged",
    ),
    "detector": (
        with_frames(lambda frames: frames.swapaxes(1, 2)),
        r"as they are read, but of 0\.0\d+ with the detector transposed",
    ),
    "quarter turn": (
        with_frames(lambda frames: np.rot90(frames, 1, (1, 2))),
        r"as they are read, but of 0\.0\d+ with the detector turned by a quarter turn, clockwise, about",
    ),
    "intensities": (
        with_frames(np.square),
        r"as they are read, but of 0\.0\d+ with the roots of the values \(the file holds intens",
    ),
    "corner": (
        with_frames(lambda frames: np.fft.ifftshift(frames, (1, 2))),
        r"R-factor of [1-9]\.\d+ as they are read, but of 0\.0\d+ with the zero frequency moved from",
    ),
    "foreign": (
        with_frames(lambda frames: np.roll(frames, (9, -13), (1, 2))),
        r"R-factor of \d\.\d+, the mean of the other frames with 0\.\d+, and no other reading that was tried",
    ),
}
STRETCHED = (
    lambda scan: replace(scan, corners_px=scan.corners_px * (1, 1.1)),
    "the reference's positions differ from the scan's by up to",
)
FEWER = (
    lambda scan: replace(scan, diffraction=scan.diffraction[1:], corners_px=scan.corners_px[1:]),
    "the reference has 40 frames and the scan 39",
)


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_an_object_that_contradicts_the_frames_is_bad_input(
    name: str,
    command: str,
    right: Scan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make, message = WRONG[name]
    monkeypatch.chdir(tmp_path)
    save_scan(tmp_path / "scan.npz", make(right))
    (tmp_path / "spec.yaml").write_text("name: x\ndata: {train: {file: scan.npz}}\ntraining: {n_groups: 8}\n")
    assert (
        main([command, "spec.yaml", "--runs-dir", "runs"][: 2 if command == "plan" else 4])
        == ExitCode.BAD_INPUT
    )
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("spec.yaml:2:22 data.train.file: scan.npz: ")
    assert re.search(message, said[0])
    assert said[0].endswith(", or go on all the same by data.train.check_object: false")
    assert len(said) == 3
    assert not (tmp_path / "runs").exists()


def test_units_that_the_files_do_not_state_are_cured_by_the_keys_that_are_named(
    right: Scan, tmp_path: Path
) -> None:
    save_scan(tmp_path / "right.npz", right)
    with np.load(tmp_path / "right.npz") as archive:
        members = {name: archive[name] for name in archive.files if name not in {"units", "diffraction"}}
    for role, gain in {"train": 7, "test": 5}.items():  # no whole numbers, so nothing but the object tells
        counts = right.diffraction.astype(np.float64) ** 2 / gain
        np.savez(tmp_path / f"{role}.npz", diffraction=counts.astype(np.float32), **members)
    text = "name: x\ndata: {train: {file: train.npz}, test: {file: test.npz}}\ntraining: {n_groups: 8}\n"
    with pytest.raises(SpecError) as caught:
        resolved(tmp_path, text)
    for key in ("data.units", "data.test.units"):
        assert f"intensities): correct the file (its units: {key}: count_intensity), or" in str(caught.value)
    cures = [f"{key}=count_intensity" for key in ("data.units", "data.test.units")]
    assert resolved(tmp_path, text, *cures).run.notes == ()


def test_no_units_are_asked_for_that_the_file_contradicts(right: Scan, tmp_path: Path) -> None:
    save_scan(tmp_path / "scan.npz", WRONG["intensities"][0](right))
    with pytest.raises(SpecError, match=r": correct the file, or go on"):
        resolved(tmp_path, "name: x\ndata: {train: {file: scan.npz}}\ntraining: {n_groups: 8}\n")


def of_reference(folder: Path, scan: Scan, reference: Scan, *sets: str) -> tuple[str, ...]:
    roles = []
    for role, one in {"train": scan, "reference": reference}.items():
        save_scan(folder / f"{role}.npz", one)
        roles.append(f"{role}: {{file: {role}.npz, sha256: {file_digest(folder / f'{role}.npz')}}}")
    text = f"name: x\ndata: {{{', '.join(roles)}}}\ntraining: {{n_groups: 8}}\n"
    return resolved(folder, text, *sets).run.notes


@pytest.mark.parametrize("name", [*WRONG, "stretched", "fewer"])
def test_so_is_a_reference(name: str, right: Scan, tmp_path: Path) -> None:
    assert of_reference(tmp_path, replace(right, object=None), right) == ()
    make, message = {**WRONG, "stretched": STRETCHED, "fewer": FEWER}[name]
    with pytest.raises(SpecError, match=message):
        of_reference(tmp_path, replace(make(right), object=None), right)


def test_who_asks_for_it_goes_on_and_is_told(right: Scan, tmp_path: Path) -> None:
    make, message = WRONG["corner"]
    [note] = of_reference(tmp_path, replace(make(right), object=None), right, "data.train.check_object=false")
    assert note.startswith("data.train: train.npz: ")
    assert re.search(message, note)


def test_a_test_scan_is_held_against_its_own_object(right: Scan, tmp_path: Path) -> None:
    save_scan(tmp_path / "train.npz", right)
    save_scan(tmp_path / "test.npz", WRONG["corner"][0](right))
    text = "name: x\ndata: {train: {file: train.npz}, test: {file: test.npz}}\ntraining: {n_groups: 8}\n"
    with pytest.raises(SpecError, match=rf"data\.test\.file: test\.npz: .*{WRONG['corner'][1]}"):
        resolved(tmp_path, text)


def test_an_object_of_one_value_is_no_contradiction_but_a_note(right: Scan, tmp_path: Path) -> None:
    assert right.object is not None
    save_scan(tmp_path / "train.npz", replace(right, object=np.ones_like(right.object)))
    [note] = resolved(
        tmp_path, "name: x\ndata: {train: {file: train.npz}}\ntraining: {n_groups: 8}\n"
    ).run.notes
    assert "the reference object" in note


def test_what_only_the_worker_sees_ends_the_run_and_offers_no_resume(
    right: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = right.corners_px.copy()
    moved[min(set(range(40)) - set(asked_rows(40).tolist()))] += 3
    monkeypatch.chdir(tmp_path)
    save_scan(tmp_path / "train.npz", replace(right, object=None, corners_px=moved))
    save_scan(tmp_path / "reference.npz", right)
    (tmp_path / "spec.yaml").write_text(
        "name: x\ndata: {train: {file: train.npz}, reference: {file: reference.npz}}\n"
        "training: {n_groups: 8, batch_size: 9}\n"
    )
    assert main(["run", "spec.yaml", "--runs-dir", "runs"]) == ExitCode.RUN_FAILED
    told = capsys.readouterr()
    assert (
        "note: training.batch_size is 9, but training.n_groups 8: every step takes all 8 groups" in told.err
    )
    assert "the reference's positions differ from the scan's by up to 3.00 px" in told.out
    assert not re.search("^(continue|again)", told.out, re.MULTILINE)


def test_whether_it_is_asked_moves_no_digest(right: Scan, tmp_path: Path) -> None:
    save_scan(tmp_path / "scan.npz", right)
    text = "name: x\ndata: {train: {file: scan.npz}}\ntraining: {n_groups: 8}\n"
    asked, unasked = (
        resolved(tmp_path, text, f"data.train.check_object={value}").run for value in ("true", "false")
    )
    assert unasked.digest == asked.digest
    assert unasked.to_json() == asked.to_json()
