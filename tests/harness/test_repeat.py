"""A run once more, from its folder alone, and what makes it refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.environment import Gpu
from harness.fetch import Fetcher
from harness.listing import list_json, list_lines
from harness.lookup import run_folders
from harness.manifest import DamagedError
from harness.recorded import RefusedError, differences, load, locate_data
from harness.repeat import repeat, rerun_exit_code
from harness.run import Finished
from harness.store import file_digest
from harness.verdict import judge
from harness.verification import verdict_on
from tests.harness.conftest import Bench, StandInExecutor, commit, write_scan
from tests.harness.test_manifest import flip


def again(
    bench: Bench,
    path: Path,
    *,
    behaviour: str = "complete",
    folders: tuple[Path, ...] = (),
    regardless: bool = False,
    kind: str = "rerun",
    notes: list[str] | None = None,
    fetcher: Fetcher | None = None,
    own_environment: bool = False,
) -> Finished:
    executor = StandInExecutor(bench.root, behaviour, is_environment_shared=not own_environment)
    recorded = load(path)
    return repeat(
        recorded,
        kind,  # type: ignore[arg-type]
        executor,
        runs_dir=bench.runs,
        root=bench.root,
        found=locate_data(recorded, folders, fetcher),
        regardless=regardless,
        look=lambda run_dir: None,
        warn=(notes if notes is not None else []).append,
    )


def plant_package(root: Path, version: str) -> None:
    """Install a package where the worker finds it: beside the source tree's packages."""
    for old in root.glob("dummy-*.dist-info"):
        shutil.rmtree(old)
    info = root / f"dummy-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: dummy\nVersion: {version}\n")
    (info / "RECORD").write_text(
        f"dummy.py,sha256=abc,1\ndummy-{version}.dist-info/METADATA,sha256=x{version},9\n"
    )


def test_the_list_marks_what_repeats_another_run(bench: Bench) -> None:
    first = bench.run()
    second = again(bench, first.path)
    lines = {line.split()[2]: line for line in list_lines(bench.runs)}
    assert lines[second.path.name].endswith(f"(rerun of {first.path.name})")
    assert "(" not in lines[first.path.name]
    listed = {Path(run["path"]).name: run["rerun_of"] for run in json.loads(list_json(bench.runs))}
    assert listed == {first.path.name: None, second.path.name: {"run": first.path.name, "kind": "rerun"}}


def test_a_rerun_needs_no_spec_and_gives_the_same_compared_facts(bench: Bench) -> None:
    first = bench.run()
    bench.spec.unlink()
    second = again(bench, first.path)
    assert second.manifest.compared == first.manifest.compared
    assert second.manifest.spec == first.manifest.spec
    assert second.path != first.path
    assert second.manifest.rerun_of is not None
    assert second.manifest.rerun_of.kind == "rerun"
    assert second.manifest.rerun_of.run == first.path.name
    assert second.manifest.rerun_of.manifest == first.manifest.manifest_digest


def test_a_rerun_can_be_rerun(bench: Bench) -> None:
    first = bench.run()
    third = again(bench, again(bench, first.path).path, kind="verify")
    assert judge(first.manifest.compared, third.manifest.compared).headline == "bitwise"


def test_a_run_folder_that_was_moved_finds_its_data_by_digest(bench: Bench, tmp_path: Path) -> None:
    first = bench.run()
    elsewhere = tmp_path / "far" / "away" / "run"
    shutil.copytree(first.path, elsewhere)
    store = tmp_path / "store" / "deep"
    store.mkdir(parents=True)
    bench.data.rename(store / "renamed.npz")
    with pytest.raises(RefusedError, match="train: no file with sha256"):
        again(bench, elsewhere)
    second = again(bench, elsewhere, folders=(tmp_path / "store",))
    assert second.manifest.compared == first.manifest.compared


def downloads(bench: Bench, tmp_path: Path) -> Path:
    """Put the data where a download would have put them, and nowhere else."""
    place = tmp_path / "cache" / file_digest(bench.data) / "scan.npz"
    place.parent.mkdir(parents=True)
    bench.data.rename(place)
    return tmp_path / "cache"


def test_the_data_of_a_moved_run_are_found_among_the_downloads(bench: Bench, tmp_path: Path) -> None:
    first = bench.run()
    elsewhere = Path(shutil.copytree(first.path, tmp_path / "far" / "away" / "run"))
    fetcher = Fetcher(downloads(bench, tmp_path), may_download=False)
    with pytest.raises(RefusedError, match="--data-dir"):
        again(bench, elsewhere)
    assert again(bench, elsewhere, fetcher=fetcher).manifest.compared == first.manifest.compared


def test_the_data_are_fetched_from_their_recorded_address_when_no_place_has_them(
    bench: Bench, tmp_path: Path, served: tuple[Path, str]
) -> None:
    folder, address = served
    shutil.copy(bench.data, folder / "scan.npz")
    digest = file_digest(bench.data)
    source = f"{{file: scan.npz, source: '{address}/scan.npz', sha256: {digest}}}"
    bench.spec.write_text(bench.spec.read_text().replace("{file: scan.npz}", source))
    first = bench.run()
    bench.data.unlink()
    with pytest.raises(RefusedError, match=r"--data-dir or HARNESS_DATA; .* downloads it from http"):
        again(bench, first.path, fetcher=Fetcher(tmp_path / "cache", may_download=False))
    second = again(bench, first.path, fetcher=Fetcher(tmp_path / "cache"))
    assert second.manifest.compared == first.manifest.compared
    (folder / "scan.npz").unlink()
    with pytest.raises(RefusedError, match="cannot be fetched"):
        again(bench, first.path, fetcher=Fetcher(tmp_path / "another cache"))


@pytest.mark.parametrize("content", ["{", "[]", '{"train": 3}', '{"train": "no/such/place"}'])
def test_a_damaged_table_of_places_does_not_matter_where_the_data_are_found(
    bench: Bench, content: str
) -> None:
    first = bench.run()
    (first.path / "inputs.json").write_text(content)
    second = again(bench, first.path, folders=(bench.data.parent,))
    assert second.manifest.compared == first.manifest.compared
    with pytest.raises(RefusedError, match="no file with sha256"):
        again(bench, first.path)


def test_other_data_are_taken_on_demand_and_the_new_run_says_which(bench: Bench) -> None:
    bench.spec.write_text(
        bench.spec.read_text().replace("scan.npz}", f"scan.npz, sha256: {file_digest(bench.data)}}}")
    )
    first = bench.run()
    write_scan(bench.data, n_frames=24)
    with pytest.raises(RefusedError, match=r"scan\.npz has sha256"):
        again(bench, first.path)
    second = again(bench, first.path, regardless=True).manifest
    digest = file_digest(bench.data)
    assert second.status == "completed"
    assert [(record.sha256, record.size) for record in second.data] == [(digest, bench.data.stat().st_size)]
    leaf = second.resolved["data.train.sha256"]
    assert (leaf.value, leaf.source, leaf.note) == (digest, "explicit override", "--regardless")
    assert leaf.shadowed[0].value == first.manifest.data[0].sha256
    verdict = judge(first.manifest.compared, second.compared)
    assert verdict.conditions == ("data.train", "inputs")


def test_a_run_on_other_data_can_itself_be_rerun(bench: Bench) -> None:
    first = bench.run()
    write_scan(bench.data, n_frames=24)
    second = again(bench, first.path, regardless=True)
    source = load(second.path).resolved.sources["train"]
    assert source.kind == "file"
    assert source.header.n_frames == 24
    assert again(bench, second.path).manifest.compared == second.manifest.compared


def test_data_with_one_bit_flipped_is_refused_and_named(bench: Bench) -> None:
    first = bench.run()
    flip(bench.data, 4000)
    with pytest.raises(RefusedError, match=r"data: train: .*scan\.npz has sha256"):
        again(bench, first.path)


def test_an_altered_copy_is_named_when_the_recorded_file_is_found_elsewhere(
    bench: Bench, tmp_path: Path
) -> None:
    first = bench.run()
    altered = tmp_path / "copies" / "scan.npz"
    altered.parent.mkdir()
    shutil.copy(bench.data, altered)
    flip(altered, 4000)
    notes: list[str] = []
    second = again(bench, first.path, folders=(altered.parent,), notes=notes)
    assert second.manifest.compared == first.manifest.compared
    assert notes == [f"data: train: {altered} is not the recorded file, {bench.data} is and is used"]


@pytest.mark.parametrize("name", ["checkpoints/last.ckpt", "products/weights.safetensors"])
def test_a_run_folder_with_a_bit_flipped_is_refused_and_the_file_named(bench: Bench, name: str) -> None:
    first = bench.run()
    flip(first.path / name, 5)
    with pytest.raises(RefusedError, match=f"run folder: {name} is damaged"):
        again(bench, first.path)
    assert again(bench, first.path, regardless=True).manifest.compared == first.manifest.compared


@pytest.mark.parametrize("name", ["manifest.json", "resolved.json"])
def test_a_recipe_with_a_bit_flipped_is_never_run(bench: Bench, name: str) -> None:
    first = bench.run()
    flip(first.path / name, 5000)
    with pytest.raises(DamagedError, match=name):
        again(bench, first.path, regardless=True)


def test_everything_that_changed_is_named_at_once(
    own_tree: Path, make_bench: Callable[[Path], Bench]
) -> None:
    bench = make_bench(own_tree)
    source = own_tree / "harness" / "verdict.py"
    plant_package(own_tree, "1.0")
    commit(own_tree)
    source.write_text(source.read_text() + "# an uncommitted edit\n")
    first = bench.run()
    assert first.manifest.code.dirty
    for number in range(10):
        source.write_text(source.read_text() + f"# {number}\n")
        commit(own_tree)
    plant_package(own_tree, "1.1")
    flip(bench.data, 4000)
    before = list(run_folders(bench.runs))
    with pytest.raises(RefusedError) as refusal:
        again(bench, first.path, own_environment=True)
    message = str(refusal.value)
    assert "10 commits later" in message
    assert "the recorded run had uncommitted changes: harness/verdict.py (changed)" in message
    assert "environment: package dummy 1.0 -> 1.1" in message
    assert "data: train:" in message
    assert list(run_folders(bench.runs)) == before


def test_going_on_regardless_says_what_differs_and_records_it(
    own_tree: Path, make_bench: Callable[[Path], Bench]
) -> None:
    bench = make_bench(own_tree)
    first = bench.run()
    source = own_tree / "ptycho_torch" / "registry.py"
    source.write_text(source.read_text() + "# later\n")
    notes: list[str] = []
    second = again(bench, first.path, regardless=True, notes=notes)
    assert any("ptycho_torch/registry.py (changed)" in note for note in notes)
    verdict = judge(first.manifest.compared, second.manifest.compared)
    assert verdict.is_bitwise
    assert verdict.conditions == ("code.source_digest",)


def test_a_run_made_on_another_graphics_card_is_not_repeated(bench: Bench) -> None:
    recorded = load(bench.run().path)
    was = replace(recorded.manifest.environment, gpu=(Gpu("Some card", "1.0"),))
    compared = {**recorded.manifest.compared, "environment.gpu": "Some card, driver 1.0"}
    recorded = replace(recorded, manifest=replace(recorded.manifest, environment=was, compared=compared))
    (one,) = differences(recorded, bench.executor(), bench.root, locate_data(recorded, ()))
    assert (one.sentence.partition(" ->")[0], one.matters) == ("graphics card Some card, driver 1.0", True)


def test_later_commits_outside_the_packages_are_noted_and_do_not_stop_a_rerun(
    own_tree: Path, make_bench: Callable[[Path], Bench]
) -> None:
    bench = make_bench(own_tree)
    first = bench.run()
    (own_tree / "README.md").write_text("text\n")
    commit(own_tree)
    notes: list[str] = []
    again(bench, first.path, notes=notes)
    assert len(notes) == 1
    assert notes[0].endswith("1 commit later")


def test_a_repetition_with_another_result_names_the_facts(bench: Bench) -> None:
    first = bench.run()
    second = again(bench, first.path, behaviour="drift", kind="verify")
    verdict = judge(first.manifest.compared, second.manifest.compared)
    assert not verdict.is_bitwise
    assert verdict.results == (
        "checkpoints/last.ckpt",
        "final_tensor_digest",
        "optimizer_digest",
        "products/weights.safetensors",
        "trace.jsonl",
    )


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        ("complete", "complete", 0),
        ("complete", "drift", 3),
        ("complete", "collapse", 3),
        ("collapse", "collapse", 1),
        ("fail", "complete", 0),
        ("complete", "fail", 1),
    ],
)
def test_a_rerun_that_ends_with_another_result_than_the_run_has_an_exit_code_of_its_own(
    bench: Bench, first: str, second: str, code: int
) -> None:
    run = bench.run(first)
    repeated = again(bench, run.path, behaviour=second)
    verdict = verdict_on((run.path, run.manifest), (repeated.path, repeated.manifest))
    assert rerun_exit_code(run.manifest, repeated, verdict) == code


def test_a_rerun_that_differs_in_what_a_checkpoint_keeps_beside_the_weights_differs(bench: Bench) -> None:
    run = bench.run()
    repeated = again(bench, run.path)
    verdict = verdict_on((run.path, run.manifest), (repeated.path, repeated.manifest))
    part = "checkpoints/last.ckpt: callbacks/EarlyStopping/patience"
    other = replace(verdict, results=(part,))
    assert (verdict.is_bitwise, other.is_bitwise) == (True, False)
    assert rerun_exit_code(run.manifest, repeated, other) == 3
