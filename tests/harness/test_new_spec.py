"""A commented spec for a data file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.cli import main
from harness.errors import ExitCode, SpecError, UserError
from harness.new_spec import write_spec
from harness.resolve import resolve
from harness.run_sources import FileSource
from harness.spec import load_spec
from harness.store import file_digest
from ptycho_torch.data.simulate import simulate_scan
from ptycho_torch.errors import DataError
from ptycho_torch.readers import save_scan
from ptycho_torch.simulate_config import DeadLeaves, RasterScan, SimulateConfig
from tests.harness.conftest import write_scan
from tests.harness.spec_kit import LOCAL
from tests.torch.readers.cxi_files import pixel_m, save_cxi


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_spec_stands_in_the_current_folder_wherever_the_scan_is(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    scan = write_scan(tmp_path / "archive" / "scan.npz")
    assert write_spec(scan, None).resolve() == tmp_path / "scan.yaml"
    assert load_spec(tmp_path / "scan.yaml").get("data.train.file") == "archive/scan.npz"
    assert [path.name for path in scan.parent.iterdir()] == ["scan.npz"]


@pytest.mark.parametrize("n_frames", [2, 20, 41])
def test_the_spec_names_the_file_its_digest_and_as_many_groups_as_are_trained_on(
    tmp_path: Path, n_frames: int
) -> None:
    scan = write_scan(tmp_path / "my scan: 1.npz", n_frames)
    spec = load_spec(write_spec(scan, None))
    assert spec.get("data.train.file") == scan.name
    assert spec.get("data.train.sha256") == file_digest(scan)
    assert spec.get("data.train.units") == "count_amplitude"
    assert spec.get("model.N") == 64
    assert spec.get("name") == "my-scan-1"
    assert 1 <= spec.get("training.n_groups") < n_frames


@pytest.mark.parametrize(
    ("sets", "n_groups"),
    [
        (["gridsize=2"], 89 - 5),  # one in twenty is 4.45 frames
        (["gridsize=2", "neighbor_count=6"], 89 - 7),
        (["data.validation_fraction=0.2"], 89 - 18),
        (["data.validation_fraction=0"], 89),
        (["data.n_subsample=40"], 38),
        (["data.n_subsample=40", "data.validation_fraction=0.5", "gridsize=2"], 20),
        (["data.n_subsample=40", "data.validation_fraction=0"], 40),
        (["data.test.file=other.npz"], 89),
        (["data.validation_fraction=0.2", "n_groups=7"], 7),
    ],
)
def test_as_many_groups_are_written_as_the_given_values_leave(
    tmp_path: Path, sets: list[str], n_groups: int
) -> None:
    scan = write_scan(tmp_path / "scan.npz", 89)
    write_scan(tmp_path / "other.npz")
    spec = load_spec(write_spec(scan, None, sets=sets))
    assert spec.get("training.n_groups") == n_groups
    resolve(spec, LOCAL)


def test_the_scan_is_named_relative_to_the_spec(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "scan.npz")
    (tmp_path / "specs").mkdir()
    spec = load_spec(write_spec(scan, tmp_path / "specs" / "one.yaml"))
    assert spec.get("data.train.file") == "../scan.npz"


def test_a_scan_in_a_data_folder_is_named_as_it_is_found_there_on_any_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = write_scan(tmp_path / "scan.npz")
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    (tmp_path / "specs").mkdir()
    spec = load_spec(write_spec(scan, tmp_path / "specs" / "one.yaml"))
    assert spec.get("data.train.file") == "scan.npz"


@pytest.mark.parametrize("name", ["日本.npz", 'quo"te\\.npz', "#.npz"])
def test_a_file_of_any_name_is_named_so_that_it_is_found(tmp_path: Path, name: str) -> None:
    scan = write_scan(tmp_path / name)
    assert load_spec(write_spec(scan, tmp_path / "spec.yaml")).get("data.train.file") == name


def test_a_spec_is_never_overwritten_nor_put_where_there_is_no_folder(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "scan.npz")
    (tmp_path / "scan.yaml").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        write_spec(scan, None)
    with pytest.raises(UserError, match="there is no folder"):
        write_spec(scan, tmp_path / "absent" / "spec.yaml")
    assert (tmp_path / "scan.yaml").read_text() == "mine"


def test_a_file_that_is_no_scan_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scan.npz").write_text("no scan")
    with pytest.raises(DataError):
        write_spec(tmp_path / "scan.npz", None)
    assert not (tmp_path / "scan.yaml").exists()


def test_no_spec_is_written_for_a_scan_that_would_be_refused(tmp_path: Path) -> None:
    translation = np.zeros((12, 3))
    translation[:, 0] = np.arange(12) * 40 * pixel_m(64)
    scan = save_cxi(tmp_path / "near.cxi", translation=translation)
    with pytest.raises(
        UserError, match="would be refused, so no spec is written: .*these are near-field data"
    ):
        write_spec(scan, None)
    assert not (tmp_path / "near.yaml").exists()


@pytest.mark.parametrize(
    ("n_frames", "side", "sentence"),
    [
        (20, 60, r"model\.N: must be 64, 128 or 256, not 60"),
        (1, 64, r"data\.validation_fraction: .* 1 frames are too few to hold out 1"),
    ],
)
def test_no_spec_is_written_that_plan_would_refuse(
    tmp_path: Path, n_frames: int, side: int, sentence: str
) -> None:
    scan = write_scan(tmp_path / "scan.npz", n_frames, side)
    with pytest.raises(UserError, match=f"so no spec is written: {sentence}"):
        write_spec(scan, None)
    assert [path.name for path in tmp_path.iterdir()] == ["scan.npz"]


def test_a_scan_is_judged_by_where_the_spec_will_stand(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "scan.npz")
    (tmp_path / "specs").mkdir()
    written = write_spec(scan, tmp_path / "specs" / "one.yaml")
    run = resolve(load_spec(written), LOCAL).run
    source = run.sources["train"]
    assert isinstance(source, FileSource)
    assert source.sha256 == file_digest(scan)


def test_a_contradicted_object_leaves_a_next_step_that_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = SimulateConfig(object=DeadLeaves(size_px=110), scan=RasterScan(rows=4, columns=6), seed=2)
    scan = simulate_scan(config)
    save_scan(tmp_path / "scan.npz", replace(scan, diffraction=scan.diffraction.swapaxes(1, 2).copy()))
    assert main(["new", "scan.npz"]) == ExitCode.BAD_INPUT
    said = capsys.readouterr().err
    assert said.endswith(
        "data.train.check_object: false; a value that is named here is written by --set KEY=VALUE\n"
    )
    assert main(["new", "scan.npz", "--set", "data.train.check_object=false"]) == ExitCode.OK
    assert load_spec("scan.yaml").get("data.train.check_object") is False
    assert main(["plan", "scan.yaml"]) == ExitCode.OK


def test_values_that_are_given_are_written_where_they_belong(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "scan.npz")
    plain = load_spec(write_spec(scan, tmp_path / "plain.yaml"))
    given = {
        "name": "two-words",
        "data.train.positions": "center",
        "data.train.check_object": False,
        "data.nphotons": 1e7,
        "training.epochs": 3,
        "training.stage_factors": [1, 0.5],
        "container.memory": "2g",
        "products.refine.passes": 4,
    }
    sets = ["name=two-words", "data.positions=center", "data.train.check_object=false", "nphotons=1e7"]
    sets += ["nepochs=3", "stage_factors=[1, 0.5]", "memory=2g", "products.refine.passes=4"]
    notes: list[str] = []
    spec = load_spec(write_spec(scan, tmp_path / "given.yaml", notes.append, sets))
    assert notes == []
    assert {key: value.value for key, value in spec.written.items()} == {
        **{key: value.value for key, value in plain.written.items()},
        **given,
    }


def test_values_that_are_wrong_are_told_and_nothing_is_written(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "scan.npz")
    with pytest.raises(SpecError, match="did you mean 'training.epochs'"):
        write_spec(scan, None, sets=["epoch=3"])
    with pytest.raises(UserError, match=r"no spec is written: training\.n_groups: is 99999"):
        write_spec(scan, None, sets=["n_groups=99999"])
    assert [path.name for path in tmp_path.iterdir()] == ["scan.npz"]
