from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest

from harness.errors import HarnessError, SpecError
from harness.golden import read_goldens
from harness.inventory import Inventory
from harness.resolve import resolve
from harness.resolved import ResolvedRun
from harness.run_sources import FileSource, SimulatedSource
from harness.sources import data_folders
from harness.spec import read_spec
from tests.harness.spec_kit import LOCAL, ROOT, SMALL, WITH_GPU, resolved, write_scan

FROM_FILE = "name: x\ndata: {{train: {{file: {file}}}}}\ntraining: {{n_groups: 8}}\n"


def complaint(folder: Path, text: str, *sets: str, inventory: Inventory = LOCAL) -> str:
    with pytest.raises(SpecError) as caught:
        resolved(folder, text, *sets, inventory=inventory)
    return str(caught.value)


def test_a_resolved_run_survives_json_exactly(tmp_path: Path) -> None:
    run = resolved(tmp_path, SMALL, "learning_rate=0.1", "nphotons=3.3e7").run
    text = json.dumps(run.to_json())
    again = ResolvedRun.from_json(text)
    assert again == run
    assert json.dumps(again.to_json()) == text
    assert ResolvedRun.from_json(json.loads(text)) == run


def test_an_altered_resolved_run_is_refused(tmp_path: Path) -> None:
    plain = resolved(tmp_path, SMALL).run.to_json()
    plain["payload"]["training"]["n_groups"] = 65
    with pytest.raises(HarnessError, match="altered"):
        ResolvedRun.from_json(plain)
    plain["seed"] = "no"
    with pytest.raises(HarnessError, match="seed"):
        ResolvedRun.from_json(plain)


def test_the_digest_is_of_the_decisions_not_of_names_or_places(tmp_path: Path) -> None:
    digest = resolved(tmp_path, SMALL).run.digest
    other = tmp_path / "elsewhere"
    other.mkdir()
    assert resolved(other, "# moved\n" + SMALL, "name=y").run.digest == digest
    assert resolved(tmp_path, SMALL, "seed=43").run.digest != digest
    assert resolved(tmp_path, SMALL, "exactness.threads=2").run.digest != digest
    assert resolved(tmp_path, SMALL, "data.train.simulate.seed=9").run.digest != digest


def test_no_path_of_the_machine_stands_in_the_resolved_run(tmp_path: Path) -> None:
    write_scan(tmp_path / "scan.npz")
    resolution = resolved(tmp_path, FROM_FILE.format(file=tmp_path / "scan.npz"))
    assert str(tmp_path) not in json.dumps(resolution.run.to_json())
    assert resolution.inputs == {"train": str(tmp_path / "scan.npz")}


def test_a_file_is_found_beside_the_spec_then_in_the_data_folders(tmp_path: Path) -> None:
    beside, first, second = tmp_path / "specs", tmp_path / "first", tmp_path / "second"
    for folder in (beside, first, second):
        folder.mkdir()
        write_scan(folder / "scan.npz")
    text = FROM_FILE.format(file="deep/scan.npz")
    assert resolved(beside, text, data_dirs=(first, second)).inputs["train"] == str(first / "scan.npz")
    text = FROM_FILE.format(file="scan.npz")
    assert resolved(beside, text, data_dirs=(first,)).inputs["train"] == str(beside / "scan.npz")


def test_data_folders_are_the_options_before_the_environment() -> None:
    environ = {"HARNESS_DATA": os.pathsep.join(["b", "c"])}
    assert data_folders(["a"], environ) == (Path("a"), Path("b"), Path("c"))
    assert data_folders((), {}) == ()


def test_a_file_is_recorded_with_digest_size_header_and_conventions(tmp_path: Path) -> None:
    digest = write_scan(tmp_path / "scan.npz")
    source = resolved(tmp_path, FROM_FILE.format(file="scan.npz")).run.sources["train"]
    assert isinstance(source, FileSource)
    assert (source.name, source.sha256) == ("scan.npz", digest)
    assert source.size == (tmp_path / "scan.npz").stat().st_size
    assert (source.header.N, source.header.n_frames, source.header.file) == (64, 40, "scan.npz")
    assert (source.units, source.positions) == ("count_amplitude", "ptychopinn")


def test_a_digest_that_differs_is_refused_at_its_place(tmp_path: Path) -> None:
    write_scan(tmp_path / "scan.npz")
    text = (
        f"name: x\ndata:\n  train:\n    file: scan.npz\n    sha256: {'0' * 64}\ntraining: {{n_groups: 8}}\n"
    )
    assert "spec.yaml:5:13 data.train.sha256: scan.npz has the sha256" in complaint(tmp_path, text)


def test_a_near_name_is_suggested_for_a_missing_file(tmp_path: Path) -> None:
    write_scan(tmp_path / "siemens.npz")
    assert "did you mean 'siemens.npz'?" in complaint(tmp_path, FROM_FILE.format(file="siemen.npz"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"BZh9 no bz2", b"hello"])
def test_a_file_that_is_no_scan_is_refused_with_the_place_in_the_spec(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "scan.npz").write_bytes(content)
    assert "spec.yaml:2:22 data.train.file: scan.npz" in complaint(
        tmp_path, FROM_FILE.format(file="scan.npz")
    )


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "scan.npz")
    assert "no regular file" in complaint(tmp_path, FROM_FILE.format(file="scan.npz"))


def test_the_conventions_of_the_training_file_are_layer_one(tmp_path: Path) -> None:
    write_scan(tmp_path / "scan.npz")
    text = "name: x\ndata: {train: {file: scan.npz, positions: center}}\ntraining: {n_groups: 8}\n"
    run = resolved(tmp_path, text).run
    assert run.payload.data.positions == "center"
    origin = run.payload.origins["data.positions"]
    assert (origin.layer, origin.place and origin.place.line) == ("explicit override", 2)


def test_a_test_file_has_conventions_of_its_own(tmp_path: Path) -> None:
    write_scan(tmp_path / "a.npz", 40)
    write_scan(tmp_path / "b.npz", 30)
    data = "{train: {file: a.npz}, test: {file: b.npz, positions: center}}"
    text = f"name: x\ndata: {data}\ntraining: {{n_groups: 40}}\n"
    sources = resolved(tmp_path, text).run.sources
    assert isinstance(sources["train"], FileSource)
    assert isinstance(sources["test"], FileSource)
    assert (sources["train"].positions, sources["test"].positions) == ("ptychopinn", "center")


def test_the_training_file_cannot_validate_itself(tmp_path: Path) -> None:
    write_scan(tmp_path / "a.npz")
    shutil.copy(tmp_path / "a.npz", tmp_path / "b.npz")
    text = "name: x\ndata: {train: {file: a.npz}, test: {file: b.npz}}\ntraining: {n_groups: 8}\n"
    assert "validates nothing" in complaint(tmp_path, text)


def test_an_optional_reference_that_is_absent_is_noted(tmp_path: Path) -> None:
    text = SMALL.replace("{}}}", "{}}, reference: {file: truth.npz, required: false}}")
    run = resolved(tmp_path, text).run
    assert set(run.sources) == {"train"}
    assert "data.reference is left out" in run.notes[0]


def test_an_optional_reference_that_is_wrong_is_refused(tmp_path: Path) -> None:
    write_scan(tmp_path / "truth.npz", with_object=False)
    text = SMALL.replace("{}}}", "{}}, reference: {file: truth.npz, required: false}}")
    assert "holds no reference object" in complaint(tmp_path, text)


def test_simulated_data_are_described_not_stored(tmp_path: Path) -> None:
    resolution = resolved(tmp_path, SMALL, "data.train.simulate.scan.rows=9")
    source = resolution.run.sources["train"]
    assert isinstance(source, SimulatedSource)
    assert source.simulate.scan.rows == 9
    assert resolution.inputs == {}
    assert resolution.run.payload.data.units == "count_amplitude"
    value, origin = resolution.run.leaves()["data.train.simulate.scan.rows"]
    assert (value, str(origin.place)) == (9, "--set:1:31")


def test_more_groups_than_training_frames_are_refused_unless_oversampled(tmp_path: Path) -> None:
    assert "lower it to 547" in complaint(tmp_path, SMALL, "n_groups=548")
    assert resolved(tmp_path, SMALL, "n_groups=547").run.payload.training.n_groups == 547
    assert (
        resolved(tmp_path, SMALL, "n_groups=576", "validation_fraction=0").run.payload.training.n_groups
        == 576
    )
    oversampled = resolved(tmp_path, SMALL, "n_groups=999", "oversample=true", "gridsize=2").run
    assert oversampled.payload.training.n_groups == 999
    assert "form only 547 different groups" in complaint(tmp_path, SMALL, "n_groups=999", "oversample=true")


@pytest.mark.parametrize(("inventory", "device"), [(LOCAL, "cpu"), (WITH_GPU, "cuda")])
def test_auto_takes_the_accelerator_that_is_there(tmp_path: Path, inventory: Inventory, device: str) -> None:
    run = resolved(tmp_path, SMALL, "accelerator=auto", inventory=inventory).run
    assert run.payload.execution_config.accelerator == device
    origin = run.payload.origins["execution.accelerator"]
    assert (origin.layer, origin.shadowed[0].value) == ("resolved", "auto")


@pytest.mark.parametrize(("inventory", "has_effect"), [(LOCAL, False), (WITH_GPU, True)])
def test_tf32_may_be_allowed_wherever_auto_leads_and_it_is_told_where_it_idles(
    tmp_path: Path, inventory: Inventory, has_effect: bool
) -> None:
    run = resolved(tmp_path, SMALL, "accelerator=auto", "allow_tf32=true", inventory=inventory).run
    assert run.payload.model.allow_tf32
    told = [note for note in run.notes if "model.allow_tf32 has no effect here" in note]
    assert len(told) == (0 if has_effect else 1)
    assert resolved(tmp_path, SMALL, "accelerator=auto", inventory=LOCAL).run.notes == ()


def test_the_cpu_is_used_unless_something_else_is_asked_for(tmp_path: Path) -> None:
    assert resolved(tmp_path, SMALL, inventory=WITH_GPU).run.payload.execution_config.accelerator == "cpu"


@pytest.mark.parametrize(
    ("inventory", "accelerator", "profile"),
    [
        (LOCAL, "cpu", "portable"),
        (dataclasses.replace(LOCAL, cpu_flags=frozenset()), "cpu", "strict"),
        (dataclasses.replace(LOCAL, machine="aarch64"), "cpu", "strict"),
        (WITH_GPU, "cuda", "strict"),
    ],
)
def test_the_auto_profile_is_portable_where_it_can_run(
    tmp_path: Path, inventory: Inventory, accelerator: str, profile: str
) -> None:
    run = resolved(tmp_path, SMALL, f"accelerator={accelerator}", inventory=inventory).run
    assert run.exactness.profile == profile
    assert run.own_origins["exactness.profile"].shadowed[0].value == "auto"


def test_a_profile_that_cannot_hold_is_refused(tmp_path: Path) -> None:
    old = dataclasses.replace(LOCAL, cpu_flags=frozenset())
    assert "exactness.profile" in complaint(tmp_path, SMALL, "exactness.profile=portable", inventory=old)


def test_threads_never_come_from_the_machine(tmp_path: Path) -> None:
    many = dataclasses.replace(LOCAL, cores=64)
    assert resolved(tmp_path, SMALL, inventory=many).run.exactness.threads == 1


def test_more_than_one_device_is_refused(tmp_path: Path) -> None:
    said = complaint(tmp_path, SMALL, "accelerator=cuda", "n_devices=2", inventory=WITH_GPU)
    assert "execution.n_devices: is 2, but a run is not divided among devices: set it to 1" in said


def test_a_logger_whose_package_is_there_is_accepted(tmp_path: Path) -> None:
    inventory = dataclasses.replace(LOCAL, packages=frozenset({"tensorboard"}))
    run = resolved(tmp_path, SMALL, "logger_backend=tensorboard", inventory=inventory).run
    assert run.payload.execution_config.logger_backend == "tensorboard"


def test_without_validation_data_the_monitored_metric_is_the_training_loss(tmp_path: Path) -> None:
    run = resolved(tmp_path, SMALL, "validation_fraction=0").run
    assert run.payload.execution_config.checkpoint_monitor_metric == "train_loss"
    assert run.payload.origins["execution.checkpoint_monitor_metric"].shadowed[0].value == "val_loss"


def test_an_override_shadows_the_file_and_both_are_on_record(tmp_path: Path) -> None:
    origin = resolved(tmp_path, SMALL, "n_groups=16").run.payload.origins["training.n_groups"]
    assert str(origin.place) == "--set:1:10"
    assert [(lost.value, lost.layer) for lost in origin.shadowed] == [(64, "explicit override")]


def test_an_override_of_a_knob_beats_the_execution_block(tmp_path: Path) -> None:
    text = SMALL + "execution: {num_workers: 1}\n"
    run = resolved(tmp_path, text, "execution.num_workers=2").run
    assert run.payload.execution_config.num_workers == 2
    assert run.payload.origins["execution.num_workers"].shadowed[0].layer == "execution config"


def test_every_leaf_of_the_spec_has_an_origin(tmp_path: Path) -> None:
    leaves = resolved(tmp_path, SMALL).run.leaves()
    assert {"name", "seed", "exactness.threads", "container.image", "products.pictures"} <= set(leaves)
    assert sum(key.startswith("execution.") for key in leaves) == 22


def test_pictures_are_dropped_with_the_reconstruction(tmp_path: Path) -> None:
    assert not resolved(tmp_path, SMALL, "products.reconstruction=false").run.products.pictures


@pytest.mark.parametrize("name", ["quickstart", "ci"])
def test_the_committed_specs_that_need_no_data_resolve(tmp_path: Path, name: str) -> None:
    text = (ROOT / "runs" / f"{name}.yaml").read_text(encoding="utf-8")
    assert resolved(tmp_path, text).run.name == name


def test_the_measured_siemens_star_resolves_where_its_data_are(tmp_path: Path) -> None:
    folders = data_folders()
    if not any((folder / "siemens-star-small.npz.bz2").is_file() for folder in folders):
        pytest.skip("the measured data are in no folder of HARNESS_DATA")
    text = (ROOT / "runs" / "published" / "siemens-star.yaml").read_text(encoding="utf-8")
    run = resolved(tmp_path, text, data_dirs=folders).run
    assert (run.payload.model.N, run.payload.data.units) == (128, "count_intensity")


def test_a_field_that_came_later_moves_no_digest_on_record_until_it_is_used() -> None:
    recorded = read_goldens(ROOT / "runs" / "golden" / "ci.json").goldens
    digest = resolve(read_spec(ROOT / "runs" / "ci.yaml"), LOCAL).run.digest
    assert {golden.facts["inputs"] for golden in recorded.values()} == {digest}
    assert all("model.probe_mask" not in golden.origin.values for golden in recorded.values())
    for use in ("model.probe_mask=true", "inference.window=flat", "data.train.simulate.scan.square_px=1"):
        assert resolve(read_spec(ROOT / "runs" / "ci.yaml", [use]), LOCAL).run.digest != digest


def test_a_run_from_before_a_field_came_is_read_as_it_was_recorded(tmp_path: Path) -> None:
    run = resolved(tmp_path, SMALL).run
    plain = run.to_json()
    for name in ("probe_mask", "probe_mask_diameter_px"):
        del plain["payload"]["model"][name], plain["payload"]["origins"][f"model.{name}"]
    old = ResolvedRun.from_json(plain)
    assert old.digest == run.digest
    assert "model.probe_mask" not in old.leaves()
    assert not old.training.model.probe_mask


def test_a_simulation_from_before_objects_lay_side_by_side_is_read_as_it_was_recorded(tmp_path: Path) -> None:
    text = SMALL.replace("simulate: {}", "simulate: {object: {kind: lines}}")
    run = resolved(tmp_path, text).run
    assert resolved(tmp_path, text.replace("lines", "lines, count: 1")).run.digest == run.digest
    assert resolved(tmp_path, text.replace("lines", "lines, count: 2")).run.digest != run.digest
    plain = run.to_json()
    del plain["sources"]["train"]["simulate"]["object"]["count"]
    old = ResolvedRun.from_json(plain)
    assert old.digest == run.digest
    assert old.sources["train"].simulate.n_frames == run.sources["train"].simulate.n_frames


def test_of_a_scan_that_is_not_there_nothing_else_is_said(tmp_path: Path) -> None:
    write_scan(tmp_path / "test.npz", N=128)
    text = "name: x\ndata: {train: {file: nowhere.npz}, test: {file: test.npz}}\ntraining: {n_groups: 8}\n"
    said = complaint(tmp_path, text)
    assert "there is no file nowhere.npz" in said
    assert "model.N" not in said
