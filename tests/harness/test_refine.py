"""A run's image refined in a folder of its own: what it starts from, what it records, what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.errors import SpecError, UserError
from harness.listing import show_lines
from harness.recorded import AlteredError, RefusedError, load, locate_data
from harness.refine import refine_run
from harness.repeat import repeat
from harness.run import Finished
from harness.soundness import contradictions
from harness.store import file_digest
from harness.verdict import judge
from tests.harness.conftest import Bench, write_scan
from tests.harness.test_manifest import flip

IMAGE = "products/reconstruction.npz"


def refined(bench: Bench, path: Path, *sets: str) -> Finished:
    recorded = load(path)
    return refine_run(
        recorded,
        sets,
        bench.executor(),
        runs_dir=bench.runs,
        root=bench.root,
        found=locate_data(recorded, ()),
        look=lambda run_dir: None,
    )


def test_it_is_a_run_of_its_own_that_names_the_run_and_its_image(bench: Bench) -> None:
    first = bench.run("image")
    second = refined(bench, first.path, "products.refine.passes=7")
    manifest = second.manifest
    assert second.path != first.path
    assert manifest.rerun_of is not None
    assert (manifest.rerun_of.kind, manifest.rerun_of.run) == ("refine", first.path.name)
    [image] = [record for record in manifest.data if record.role == "image"]
    assert image.sha256 == file_digest(first.path / IMAGE)
    assert any(line.split() == ["refines", first.path.name, "(refine)"] for line in show_lines(second.path))


def test_the_run_that_is_refined_stays_as_it_was(bench: Bench) -> None:
    first = bench.run("image")
    before = {path: file_digest(path) for path in sorted(first.path.rglob("*")) if path.is_file()}
    refined(bench, first.path)
    assert before == {path: file_digest(path) for path in sorted(first.path.rglob("*")) if path.is_file()}


def test_options_come_from_the_command_line_over_the_spec_over_the_defaults(bench: Bench) -> None:
    bench.spec.write_text(bench.spec.read_text() + "products: {refine: {batches: 5, passes: 6}}\n")
    leaves = refined(bench, bench.run("image").path, "products.refine.passes=7").manifest.resolved
    found = {name: leaves[f"products.refine.{name}"] for name in ("passes", "batches", "gradient")}
    assert {name: leaf.value for name, leaf in found.items()} == {
        "passes": 7,
        "batches": 5,
        "gradient": "amplitude",
    }
    assert found["passes"].place is not None
    assert found["passes"].place.startswith("--set")
    assert found["passes"].shadowed[0].value == 6
    assert found["batches"].place is not None
    assert found["batches"].place.startswith("spec.yaml:5:")
    assert found["gradient"].source == "entry point"


def test_options_that_the_run_was_given_count_where_none_is_given_now(bench: Bench) -> None:
    bench.spec.write_text(bench.spec.read_text() + "products: {refine: {passes: 6, batches: 5}}\n")
    told = ("passes=7", "probe=true", "modes=2")
    first = bench.run("image", *(f"products.refine.{one}" for one in told))
    second = refined(bench, first.path, "products.refine.modes=3")
    third = refined(bench, second.path, "products.refine.batches=4")
    leaves = [
        {name: one.manifest.resolved[f"products.refine.{name}"] for name in ("passes", "modes", "batches")}
        for one in (second, third)
    ]
    values = [{name: leaf.value for name, leaf in one.items()} for one in leaves]
    assert values == [{"passes": 7, "modes": 3, "batches": 5}, {"passes": 7, "modes": 3, "batches": 4}]
    passes = leaves[0]["passes"]
    assert (passes.source, passes.note) == ("explicit override", f"as in {first.path.name}")
    assert passes.shadowed[0].value == 6
    assert leaves[0]["modes"].shadowed[0].value == 2
    for one in (second, third):
        assert contradictions(load(one.path)) == ()


def test_an_option_that_contradicts_one_the_run_was_given_is_refused(bench: Bench) -> None:
    first = bench.run("image", "products.refine.probe=true", "products.refine.modes=2")
    with pytest.raises(SpecError, match="modes: needs a probe that is refined"):
        refined(bench, first.path, "products.refine.probe=false")


def test_a_run_whose_spec_was_completed_by_an_option_is_refined(bench: Bench) -> None:
    text = bench.spec.read_text()
    bench.spec.write_text(text.replace("n_groups: 10, ", ""))
    first = bench.run("image", "training.n_groups=10")
    assert refined(bench, first.path).manifest.status == "completed"


def test_a_rerun_finds_the_image_where_the_refined_run_is_gone(bench: Bench) -> None:
    first = bench.run("image")
    second = refined(bench, first.path)
    shutil.rmtree(first.path)
    recorded = load(second.path)
    again = repeat(
        recorded,
        "verify",
        bench.executor(),
        runs_dir=bench.runs,
        root=bench.root,
        found=locate_data(recorded, ()),
        regardless=False,
        look=lambda run_dir: None,
        warn=[].append,
    )
    assert judge(second.manifest.compared, again.manifest.compared).headline == "bitwise"


def test_another_image_is_another_input(bench: Bench) -> None:
    first, other = bench.run("image"), bench.run("image", "seed=7")
    digests = [refined(bench, run.path).manifest.compared["data.image"] for run in (first, other)]
    assert digests[0] != digests[1]


def test_a_run_without_an_image_is_refused(bench: Bench) -> None:
    with pytest.raises(UserError, match=rf"is completed and has no {IMAGE} to refine"):
        refined(bench, bench.run().path)


def test_an_altered_image_is_refused(bench: Bench) -> None:
    first = bench.run("image")
    flip(first.path / IMAGE, 9)
    with pytest.raises(AlteredError, match=rf"{IMAGE} is damaged"):
        refined(bench, first.path)


def test_other_data_are_refused(bench: Bench) -> None:
    first = bench.run("image")
    write_scan(bench.data, n_frames=21)
    with pytest.raises(RefusedError, match="cannot be refined with other data"):
        refined(bench, first.path)


def test_an_override_of_something_else_is_refused(bench: Bench) -> None:
    with pytest.raises(UserError, match="--set training.epochs is no option of the refinement"):
        refined(bench, bench.run("image").path, "training.epochs=3")


def test_an_illegal_option_is_refused_where_it_was_given(bench: Bench) -> None:
    with pytest.raises(SpecError) as caught:
        refined(bench, bench.run("image").path, "products.refine.passes=0")
    [problem] = caught.value.problems
    assert problem.key == "products.refine.passes"
    assert problem.place is not None
    assert problem.place.file == "--set"


def test_a_spec_without_the_block_resolves_to_no_refinement(bench: Bench) -> None:
    resolved = json.loads((bench.run().path / "resolved.json").read_text())
    assert resolved["refine"] is None
    assert not any(key.startswith("products.refine") for key in resolved["own_values"])
