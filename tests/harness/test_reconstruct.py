"""A trained run turned on another scan, on the command line and with the real worker."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from harness.cli import main
from harness.errors import ExitCode
from harness.store import file_digest
from tests.harness.conftest import write_scan

SPEC = """\
name: source
data: {train: {file: scan.npz}, validation_fraction: 0}
model: {n_filters_scale: 1, attention: false, probe_big: false}
training: {n_groups: 16, epochs: 1, batch_size: 8}
products: {pictures: false}
"""
pytestmark = pytest.mark.slow  # each of half a dozen runs imports torch

FAST = ("--set", "products.pictures=false")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scan, another one, and a run that has trained on the first."""
    folder = tmp_path_factory.mktemp("shop")
    write_scan(folder / "scan.npz")
    write_scan(folder / "other.npz", n_frames=70)
    (folder / "spec.yaml").write_text(SPEC)
    assert main(["run", str(folder / "spec.yaml"), "--runs-dir", str(folder / "runs")]) in {0, 1}
    [run] = (folder / "runs").iterdir()
    run.rename(folder / "runs" / "source")
    return folder


def reconstruct(shop: Path, scan: str, *options: str, run: str = "source") -> int:
    return main(["reconstruct", run, str(shop / scan), *options, "--runs-dir", str(shop / "runs")])


def newest(shop: Path) -> Path:
    return max((path for path in (shop / "runs").iterdir()), key=lambda path: path.stat().st_ctime_ns)


def manifest(run: Path) -> dict:
    return dict(json.loads((run / "manifest.json").read_text()))


@pytest.fixture(scope="module")
def made(shop: Path) -> Path:
    """The reconstruction of the other scan."""
    assert reconstruct(shop, "other.npz", *FAST) == ExitCode.OK
    return newest(shop)


def peak_bytes(shop: Path, scan: str) -> int:
    """Turn the network on a scan in processes of its own, and return the most memory that one held."""
    command = [sys.executable, "-m", "harness", "reconstruct", "source", str(shop / scan), *FAST]
    process = subprocess.Popen([*command, "--runs-dir", str(shop / "runs")], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == ExitCode.OK
    return usage.ru_maxrss * 1024


def test_a_reconstruction_is_a_run_of_its_own_and_names_scan_and_network(made: Path, shop: Path) -> None:
    record = manifest(made)
    assert (record["status"], record["name"]) == ("completed", "source-on-other")
    digests = {data["role"]: data["sha256"] for data in record["data"]}
    assert digests == {
        "scan": file_digest(shop / "other.npz"),
        "model": file_digest(shop / "runs" / "source" / "checkpoints" / "last.ckpt"),
    }
    assert record["metrics"]["patches_total"] == 70
    with h5py.File(made / "products" / "reconstruction.cxi") as file:
        image = file["entry_1/image_1/data"][()]
    with np.load(made / "products" / "reconstruction.npz") as stored:
        assert np.array_equal(stored["object"], image)
    assert not [path for path in made.iterdir() if path.is_file() and path.suffix == ""][1:]


def test_it_is_on_record_that_the_network_collapsed(made: Path, shop: Path) -> None:
    assert manifest(shop / "runs" / "source")["status"] == "collapsed"
    assert manifest(made)["collapse"] == {"is_collapsed": True, "reasons": ["the network of source did"]}


def test_it_repeats_bit_by_bit_from_its_folder_alone(made: Path, shop: Path) -> None:
    assert main(["verify", made.name, "--runs-dir", str(shop / "runs")]) == ExitCode.OK


def test_what_follows_a_run_stands_beside_it_unless_it_is_said_where(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "archive"
    run = shutil.copytree(shop / "runs" / "source", archive / "source")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["reconstruct", str(run), str(shop / "other.npz"), *FAST]) == ExitCode.OK
    [image] = [path for path in archive.iterdir() if path != run]
    assert main(["verify", str(image)]) == ExitCode.OK
    [again] = [path for path in archive.iterdir() if path not in {run, image}]
    assert manifest(again)["rerun_of"]["run"] == image.name
    assert list(Path().iterdir()) == []
    assert main(["verify", str(image), "--runs-dir", "elsewhere"]) == ExitCode.OK
    assert [len(list(folder.iterdir())) for folder in (archive, Path("elsewhere"))] == [3, 1]


def test_both_ways_to_an_image_stitch_it_from_the_windows_that_are_asked_for(
    shop: Path, tmp_path: Path
) -> None:
    flat = ["--set", "inference.window=flat", "--runs-dir", str(tmp_path)]
    assert main(["run", str(shop / "spec.yaml"), *flat]) in {ExitCode.OK, ExitCode.RUN_FAILED}
    [own] = tmp_path.iterdir()
    assert main(["reconstruct", str(own), str(shop / "other.npz"), *FAST, *flat]) == ExitCode.OK
    for run in tmp_path.iterdir():
        with np.load(run / "products" / "reconstruction.npz") as stored:
            coverage = stored["coverage"]
        assert coverage.max() > 1
        assert np.array_equal(coverage, np.round(coverage))


def test_the_record_tells_what_each_phase_took_of_the_processor(made: Path) -> None:
    timings = manifest(made)["timings"]
    preparing, predicting = (timings[f"{phase}_cpu_seconds"] for phase in ("preparing", "reconstructing"))
    assert min(preparing, predicting) > 0
    assert preparing + predicting < timings["cpu_seconds"]


def test_a_longer_scan_takes_no_more_memory(shop: Path) -> None:
    few, many = 400, 2000
    for n_frames in (few, many):
        write_scan(shop / f"{n_frames}.npz", n_frames=n_frames)
    frames_bytes = (many - few) * 64 * 64 * np.dtype(np.float32).itemsize
    assert peak_bytes(shop, f"{many}.npz") - peak_bytes(shop, f"{few}.npz") < frames_bytes / 2


def test_the_training_scan_comes_out_as_it_did_in_the_training(shop: Path) -> None:
    assert reconstruct(shop, "scan.npz", *FAST) == ExitCode.OK
    again, trained = newest(shop) / "products", shop / "runs" / "source" / "products"
    assert (again / "reconstruction.npz").read_bytes() == (trained / "reconstruction.npz").read_bytes()


def test_the_batch_is_the_trainings_and_may_be_set(made: Path, shop: Path) -> None:
    assert manifest(made)["resolved"]["execution.inference_batch_size"]["value"] == 8
    assert reconstruct(shop, "other.npz", *FAST, "--set", "inference_batch_size=35") == ExitCode.OK
    assert manifest(newest(shop))["metrics"]["inference_batches"] == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--set", "model.n_filters_scale=2"], "the model was trained with 1: drop it"),
        (["--set", "training.epochs=2"], "has no part in a reconstruction: drop it"),
        (["--set", "data.train.file=x.npz"], "names another scan"),
        (["--set", "data.units=normalized_amplitude"], "never mixed"),
        (["--set", "sync_rounds=0"], "must be at least 1"),
        (["--set", "no_such_key=1"], "there is no key"),
        (["--device", "cuda"], "asks for a GPU"),
    ],
)
def test_what_cannot_be_is_refused_before_there_is_a_run(
    options: list[str], said: str, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted((shop / "runs").iterdir())
    assert reconstruct(shop, "other.npz", *options) == ExitCode.BAD_INPUT
    assert said in capsys.readouterr().err
    assert sorted((shop / "runs").iterdir()) == before


def test_frames_of_another_side_and_an_absent_scan_are_refused(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    side = 128
    np.savez(
        shop / "wide.npz",
        diffraction=np.sqrt(np.random.default_rng(0).poisson(9.0, (5, side, side))).astype(np.float32),
        xcoords=np.arange(5.0),
        ycoords=np.arange(5.0),
        probeGuess=np.ones((side, side), np.complex64),
    )
    assert reconstruct(shop, "wide.npz") == ExitCode.BAD_INPUT
    assert "the frames of wide.npz have 128 x 128 pixels" in capsys.readouterr().err
    assert reconstruct(shop, "absent.npz") == ExitCode.BAD_INPUT
    assert "there is no file" in capsys.readouterr().err


def test_a_network_that_was_altered_and_a_run_without_one_are_refused(
    made: Path, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    altered = shop / "runs" / "altered"
    shutil.copytree(shop / "runs" / "source", altered)
    with (altered / "checkpoints" / "last.ckpt").open("ab") as file:
        file.write(b"x")
    assert reconstruct(shop, "other.npz", run="altered") == ExitCode.DIFFERS
    assert "its sha256 is not the manifest's" in capsys.readouterr().err
    shutil.rmtree(altered)
    assert reconstruct(shop, "other.npz", run=made.name) == ExitCode.BAD_INPUT
    assert "trained nothing" in capsys.readouterr().err
