"""A simulated scan whose probe stands in a file, from the spec to the worker's inputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.errors import SpecError
from harness.plan import worker_environment
from harness.resolve import Resolution, resolve
from harness.run import Job, lay_out
from harness.simulations import find_simulation
from harness.spec import read_spec
from harness.store import file_digest, is_refused
from harness.worker_inputs import read_data
from ptycho_torch.data.simulate import simulate_scan
from ptycho_torch.errors import DataError
from ptycho_torch.raster import num_raster_squares
from ptycho_torch.readers import scan_digest
from tests.harness.spec_kit import LOCAL, ROOT, SMALL, write


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    (tmp_path / "probes").mkdir()
    path = tmp_path / "probes" / "p.npz"
    window = np.hanning(64)
    np.savez(path, probeGuess=(window[:, None] * window).astype(np.complex64))
    return path


def resolved(folder: Path, file: str, sha256: str, *sets: str) -> Resolution:
    block = f"probe: {{kind: file, file: {file}, sha256: {sha256}}}, scan: {{rows: 3, columns: 3}}"
    spec = SMALL.replace("64", "8").replace("simulate: {}", f"simulate: {{{block}}}")
    return resolve(read_spec(write(folder, spec), sets), LOCAL)


def test_the_probe_is_an_input_of_the_run_and_its_folder_is_not_recorded(tmp_path: Path, probe: Path) -> None:
    digest = file_digest(probe)
    relative = resolved(tmp_path, "probes/p.npz", digest)
    assert relative.inputs == {"train_probe": str(probe)}
    source = relative.run.sources["train_probe"]
    assert (source.name, source.sha256, source.size) == ("p.npz", digest, probe.stat().st_size)
    absolute = resolved(tmp_path, str(probe), digest)
    assert str(tmp_path) not in str(absolute.run.to_json())
    assert absolute.run.digest == relative.run.digest


def test_the_worker_lights_the_object_with_the_probe_and_refuses_another(tmp_path: Path, probe: Path) -> None:
    found = resolved(tmp_path, "probes/p.npz", file_digest(probe))
    (tmp_path / "run").mkdir()
    lay_out(Job(found.run, "", found.inputs), tmp_path / "run")
    scans, facts = read_data(found.run, tmp_path / "run")
    assert set(scans) == {"train"}
    again = simulate_scan(found.run.sources["train"].simulate, probe_file=probe)
    assert facts["train"]["sha256"] == scan_digest(again)
    probe.write_bytes(probe.read_bytes() + b"\0")
    with pytest.raises(DataError, match="the train_probe data changed after the run was resolved"):
        read_data(found.run, tmp_path / "run")


@pytest.mark.slow  # a worker of its own
def test_a_run_whose_input_changed_can_be_continued_once_it_is_put_back(tmp_path: Path, probe: Path) -> None:
    found = resolved(tmp_path, "probes/p.npz", file_digest(probe))
    (tmp_path / "run").mkdir()
    lay_out(Job(found.run, "", found.inputs), tmp_path / "run")
    probe.write_bytes(probe.read_bytes() + b"\0")
    exactness = found.run.exactness
    environment = worker_environment(exactness.profile, exactness.threads, os.environ, str(ROOT))
    worker = [sys.executable, "-m", "harness.worker", str(tmp_path / "run")]
    subprocess.run(worker, env=environment, capture_output=True, check=False)
    outcome = json.loads((tmp_path / "run" / "outcome.json").read_text())
    assert "the train_probe data changed after the run was resolved" in outcome["error"]
    assert not is_refused(tmp_path / "run")


@pytest.mark.parametrize(
    ("file", "sha256", "sets", "said"),
    [
        ("probes/q.npz", "0" * 64, (), "there is no file probes/q.npz"),
        ("probes/p.npz", "0" * 64, (), "it is another file, or damaged"),
        ("probes/p.npz", "", ("N=128",), "has shape (64, 64)"),
        ("probes/p.npz", "abc", (), "must be 64 lower-case hexadecimal digits"),
        ("probes/text.npz", "", (), "is no NPZ archive"),
    ],
)
def test_a_probe_that_cannot_be_is_refused_at_planning(
    file: str, sha256: str, sets: tuple[str, ...], said: str, tmp_path: Path, probe: Path
) -> None:
    probe.with_name("text.npz").write_text("no archive")
    given = sha256 or file_digest(tmp_path / file)
    options = [f"data.train.simulate.probe.{one}" for one in sets]
    with pytest.raises(SpecError) as caught:
        resolved(tmp_path, file, given, *options)
    [problem] = caught.value.problems
    assert said in problem.render()
    assert problem.key.startswith("data.train.simulate.probe")


def test_a_probe_of_a_file_needs_file_and_digest_and_is_told_the_digest(tmp_path: Path, probe: Path) -> None:
    base = "data.train.simulate.probe"
    for options, said in (
        ([], "is file, which needs probe.file, an NPZ file with probeGuess, and its sha256"),
        ([f"{base}.file=probes/p.npz"], f"add sha256: {file_digest(probe)}"),
        ([f"{base}.file=probes/q.npz"], "there is no file probes/q.npz"),
    ):
        with pytest.raises(SpecError) as caught:
            resolve(read_spec(write(tmp_path, SMALL), [f"{base}.kind=file", *options]), LOCAL)
        [problem] = caught.value.problems
        assert said in problem.render()


@pytest.mark.parametrize(
    ("block", "sets", "key"),
    [
        ("object: {size_px: 100}", (), "object.size_px"),
        ("scan: {rows: 100}", (), "scan.rows"),
        ("scan: {rows: 100}, object: {size_px: 200}", (), "object.size_px"),
        ("scan: {rows: 3}, object: {size_px: 166}", ("scan.columns=99",), "scan.columns"),
        ("object: {size_px: 166}", ("probe.N=256", "scan.rows=3"), "probe.N"),
        ("scan: {rows: 99}", ("object.size_px=99", "scan.columns=3"), "object.size_px"),
        ("scan: {kind: fermat, n_positions: 9999}", (), "scan.n_positions"),
        ("scan: {step_px: 20, square_px: 4}", (), "scan.step_px"),
        ("scan: {position_error_px: 2}", (), "scan.position_error_px"),
        ("scan: {rows: 4, columns: 4}", ("scan.position_error_px=9.5",), "scan.position_error_px"),
    ],
)
def test_an_object_that_is_too_small_is_told_at_the_value_that_makes_it_so(
    block: str, sets: tuple[str, ...], key: str, tmp_path: Path
) -> None:
    spec = write(tmp_path, SMALL.replace("simulate: {}", f"simulate: {{{block}}}"))
    with pytest.raises(SpecError, match="the scan needs an object of") as caught:
        resolve(read_spec(spec, sets, block="data.train.simulate"), LOCAL)
    assert caught.value.problems[0].key == f"data.train.simulate.{key}"


@pytest.mark.parametrize(("count", "square_px"), [(1, 0), (2, 0), (3, 1.5)])
def test_what_planning_knows_of_objects_side_by_side_is_what_is_simulated(
    count: int, square_px: float, tmp_path: Path
) -> None:
    block = (
        f"object: {{kind: lines, size_px: 92, count: {count}}}, "
        f"scan: {{rows: 4, columns: 4, jitter_px: 0, square_px: {square_px}}}"
    )
    spec = read_spec(write(tmp_path, SMALL.replace("simulate: {}", f"simulate: {{{block}}}")))
    known = find_simulation(spec, "data.train", ())
    assert known is not None
    scan = simulate_scan(known.source.simulate)
    assert scan.object is not None
    header = known.header
    assert (header.n_frames, header.object_shape) == (len(scan.diffraction), scan.object.shape)
    assert header.n_squares == num_raster_squares(scan.corners_px) > 0


def test_a_size_that_is_refused_itself_is_not_called_too_small_as_well(tmp_path: Path) -> None:
    text = SMALL.replace("simulate: {}", "simulate: {object: {size_px: 9999}, scan: {step_px: 99}}")
    with pytest.raises(SpecError) as caught:
        resolve(read_spec(write(tmp_path, text)), LOCAL)
    assert [problem.sentence for problem in caught.value.problems] == ["must be at most 4096, not 9999"]


@pytest.mark.parametrize("kind", ["dead_leaves", "gaussian_field", "siemens_star", "picture"])
def test_amplitudes_that_end_below_where_they_begin_are_refused(kind: str, tmp_path: Path) -> None:
    block = f"object: {{kind: {kind}, min_amplitude: 0.9, max_amplitude: 0.1}}"
    with pytest.raises(SpecError, match=r"object\.min_amplitude: is 0\.9, above max_amplitude 0\.1"):
        resolve(read_spec(write(tmp_path, SMALL.replace("simulate: {}", f"simulate: {{{block}}}"))), LOCAL)
