"""``harness simulate``, with its real process."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.cli import main
from harness.errors import ExitCode, SpecError, UserError
from harness.executors.local import LocalExecutor
from harness.resolve import resolve
from harness.resolved import Exactness
from harness.run_sources import SimulatedSource
from harness.simulate import Order, differences_of_makers, order_of, read_record
from harness.simulator import simulated
from harness.spec import read_spec
from harness.store import file_digest
from ptycho_torch.data.simulate import simulate_scan
from ptycho_torch.headers import read_header
from ptycho_torch.readers import scan_digest
from ptycho_torch.simulate_config import KINDS, GaussianField, RasterScan, SimulateConfig
from tests.harness.spec_kit import LOCAL, SMALL, write

FEW = ("--set", "scan.rows=3", "--set", "scan.columns=4", "--set", "seed=5", "--set", "nphotons=1e5")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The record of a scan that was simulated on the command line."""
    folder = tmp_path_factory.mktemp("simulated")
    assert main(["simulate", "gaussian_field", "-o", str(folder / "field.npz"), *FEW]) == ExitCode.OK
    assert sorted(path.name for path in folder.iterdir()) == ["field.json", "field.npz"]
    return folder / "field.json"


def test_the_file_keeps_the_data_contract_and_the_record_tells_every_parameter(made: Path) -> None:
    record, header = read_record(made), read_header(made.with_suffix(".npz"))
    assert (header.n_frames, header.N, header.units, header.positions) == (
        12,
        64,
        "count_amplitude",
        "ptychopinn",
    )
    assert record.sha256 == file_digest(made.with_suffix(".npz"))
    assert record.simulate == SimulateConfig(
        object=GaussianField(), scan=RasterScan(rows=3, columns=4), seed=5, nphotons=1e5
    )
    with np.load(made.with_suffix(".npz")) as stored:
        counts = np.round(stored["diffraction"].astype(np.float64) ** 2)
    assert record.photons_per_frame == counts.sum() / 12 == pytest.approx(1e5, rel=5 / np.sqrt(12e5))


def test_it_comes_out_bitwise_from_its_record_alone(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = Path(shutil.copy(made, tmp_path))
    assert main(["simulate", "--verify", str(alone)]) == ExitCode.OK
    assert f"bitwise: field.npz comes out with the recorded sha256 {read_record(made).sha256}" in (
        capsys.readouterr().out
    )
    assert [path.name for path in tmp_path.iterdir()] == ["field.json"]


def test_a_record_that_does_not_describe_its_file_differs(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads(made.read_text())
    record["simulate"]["seed"] += 1
    (tmp_path / "field.json").write_text(json.dumps(record))
    assert main(["simulate", "--verify", str(tmp_path / "field.json")]) == ExitCode.DIFFERS
    assert "differs: " in capsys.readouterr().out


def test_an_altered_file_is_named(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(made, tmp_path)
    (tmp_path / "field.npz").write_bytes(made.with_suffix(".npz").read_bytes() + b"\0")
    assert main(["simulate", "--verify", str(tmp_path / "field.json")]) == ExitCode.BAD_INPUT
    assert "is no longer what field.json records" in capsys.readouterr().err


def test_what_the_process_refuses_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dark = ("--set", "nphotons=1e-9")
    assert main(["simulate", "dead_leaves", "-o", str(tmp_path / "x.npz"), *FEW, *dark]) == ExitCode.BAD_INPUT
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert said.startswith("simulated scan: ")
    assert list(tmp_path.iterdir()) == []


def test_the_record_has_the_digest_by_which_a_run_knows_the_same_simulation(tmp_path: Path) -> None:
    config = SimulateConfig(object=GaussianField(size_px=90), scan=RasterScan(rows=2, columns=3))
    facts = simulated(Order(config, Exactness("strict", 1), str(tmp_path / "scan.npz")))
    assert facts["scan_digest"] == scan_digest(simulate_scan(config))
    assert list(tmp_path.iterdir()) == [tmp_path / "scan.npz"]


def test_a_specs_scan_is_the_one_that_its_run_would_simulate(tmp_path: Path) -> None:
    spec = write(tmp_path, SMALL)
    order = order_of(str(spec), "train", ["probe.kind=disk", "probe.radius_px=9"], [], LocalExecutor())
    sets = ["data.train.simulate.probe.kind=disk", "data.train.simulate.probe.radius_px=9"]
    source = resolve(read_spec(spec, sets), LOCAL).run.sources["train"]
    assert isinstance(source, SimulatedSource)
    assert order.simulate == source.simulate


def test_a_record_stands_for_all_of_its_parameters(made: Path) -> None:
    record = read_record(made)
    order = order_of(str(made), "train", [], [], LocalExecutor())
    assert (order.simulate, order.exactness) == (record.simulate, record.exactness)
    with pytest.raises(UserError, match="records every parameter"):
        order_of(str(made), "train", ["seed=1"], [], LocalExecutor())


def test_a_probe_of_a_file_is_found_again_from_the_record_and_its_absence_told(
    made: Path, tmp_path: Path
) -> None:
    probe = Path(shutil.copy(made.with_suffix(".npz"), tmp_path / "probe.npz"))
    options = [f"probe.{key}" for key in ("kind=file", f"file={probe}", f"sha256={file_digest(probe)}")]
    words = [*FEW, *(word for one in options for word in ("--set", one))]
    assert main(["simulate", "gaussian_field", "-o", str(tmp_path / "x.npz"), *words]) == ExitCode.OK
    record = read_record(tmp_path / "x.json")
    assert record.simulate.probe.file == "probe.npz"
    with np.load(probe) as lit, np.load(tmp_path / "x.npz") as now:
        assert np.allclose(now["probeGuess"], lit["probeGuess"], rtol=0.01, atol=1e-3)
    again = order_of(str(tmp_path / "x.json"), "train", [], [], LocalExecutor())
    assert (again.simulate, again.probe) == (record.simulate, str(probe))
    probe.rename(made.parent / "probe.npz")
    with pytest.raises(SpecError, match=r"there is no file probe\.npz") as refused:
        order_of(str(tmp_path / "x.json"), "train", [], [], LocalExecutor())
    assert "^" not in str(refused.value)
    assert order_of(str(tmp_path / "x.json"), "train", [], [made.parent], LocalExecutor()).probe is not None


def test_code_and_packages_that_differ_are_named(made: Path) -> None:
    record = read_record(made)
    packages = {**record.packages, "numpy": "0.1"}
    again = dataclasses.replace(record, packages=packages, source_digest="other")
    assert differences_of_makers(record, record) == []
    assert differences_of_makers(record, again) == [
        f"numpy {record.packages['numpy']} -> 0.1",
        "source files",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dead_leafs", "-o", "x.npz"], "there is no object 'dead_leafs', did you mean 'dead_leaves'?"),
        (["nowhere.yaml", "-o", "x.npz"], "nowhere.yaml: there is no such spec"),
        (["lines", "-o", "x.h5"], "x.h5 is no .npz file"),
        (["lines", "-o", "there.npz"], "there.npz exists already"),
        (["lines", "-o", "recorded.npz"], "recorded.json exists already"),
        (["lines", "-o", "absent/x.npz"], "absent is no folder that can be written into"),
        (["lines", "-o", "x.npz", "--set", "probe.radius_px=3"], "is no option of the kind annular"),
        (["lines", "-o", "x.npz", "--set", "scan.rows=99"], "the scan needs an object of 462 px"),
        (["lines", "-o", "x.npz", "--set", "probe.kimd=disk"], "did you mean 'kind'?"),
        (["file.yaml", "-o", "x.npz"], "file.yaml does not simulate data.test"),
        (["lines"], "give either -o FILE.npz, or --verify"),
        (["--verify", "lines"], "lines is no record of a simulated scan"),
        (["--verify", "lines", "-o", "x.npz"], "give either -o FILE.npz, or --verify"),
        ([], "name a spec, an object or a record"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.npz").touch()
    (tmp_path / "recorded.json").touch()
    write(tmp_path, SMALL, "file.yaml")
    words = [*words, "--role", "test"] if words[:1] == ["file.yaml"] else words
    assert main(["simulate", *words]) == ExitCode.BAD_INPUT
    assert said in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    ("options", "told", "number", "column"),
    [
        (["scan.rows=100"], "simulate.scan.rows: is 100, so the scan needs an object of 466 px", 1, 11),
        (["object.size_px=100"], "simulate.object.size_px: is 100, but the scan needs", 1, 16),
        (
            ["scan.position_error_px=2"],
            "simulate.scan.position_error_px: is 2, so the scan needs an object of 178 px",
            1,
            24,
        ),
        (["seed=3", "probe.kind=dsk"], "simulate.probe.kind: must be 'annular'", 2, 12),
        (["probe.nope=1"], "there is no key 'nope'", 1, 1),
        (["object.n_spokes=3"], "n_spokes is no option of the kind lines", 1, 17),
        (["data.train.simulate.nphotons=-2"], "must be above 0.0", 1, 30),
        (["data.test.simulate.seed=3"], "data.test.simulate.seed: is of another scan than data.train", 1, 25),
        (["exactness.profile=best"], "exactness.profile: must be 'auto'", 1, 19),
        (["scan.rows=3", "scan.columns=[3"], "is not closed", 2, 14),
        (["object.kind=dead_leaves", "object.min_amplitude=2"], "must be at most 1.0", 2, 22),
        (["scan.rows=100", "object.number=-1"], "simulate.object.number: must be at least 0", 2, 15),
    ],
)
def test_what_is_refused_is_told_with_the_option_as_it_was_typed(
    options: list[str],
    told: str,
    number: int,
    column: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [word for option in options for word in ("--set", option)]
    assert main(["simulate", "lines", "-o", str(tmp_path / "x.npz"), *words]) == ExitCode.BAD_INPUT
    head, line, caret = capsys.readouterr().err.splitlines()
    assert head.startswith(f"--set:{number}:{column}")
    assert told in head
    assert line == f"    {options[number - 1]}"
    assert caret == f"{' ' * (column + 3)}^"


@pytest.mark.parametrize("is_spec", [False, True])
def test_a_value_of_the_other_scan_is_refused_with_the_role_that_simulates_it(
    is_spec: bool, tmp_path: Path
) -> None:
    name = "lines"
    if is_spec:
        name = str(tmp_path / "spec.yaml")
        scans = "train: {simulate: {object: {kind: lines}}}, test: {simulate: {object: {kind: lines}}}"
        Path(name).write_text(f"name: x\ndata: {{{scans}}}\ntraining: {{n_groups: 8}}\n")
    sets = {role: [f"data.{role}.simulate.seed=3"] for role in ("train", "test")}
    for role, other in (("train", "test"), ("test", "train")):
        with pytest.raises(SpecError, match=f"--role {other} simulates that one"):
            order_of(name, role, sets[other], [], LocalExecutor())
        assert order_of(name, role, sets[role], [], LocalExecutor()).simulate.seed == 3


def test_the_list_names_every_kind_and_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--list"]) == ExitCode.OK
    listed = capsys.readouterr().out
    for kinds in KINDS.values():
        for kind, block in kinds.items():
            assert f"\n  {kind} " in listed
            options = {field.name for field in dataclasses.fields(block)} - {"kind"}
            assert all(f"{option}=" in listed for option in options)
