"""What two runs differ in is named, area by area, down to the batch where their trainings part."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.comparison import Comparison, compare_runs, parting_sentence
from harness.manifest import DamagedError, damaged_files, read_manifest
from harness.report import comparison_lines
from ptycho_torch.trace import TraceLine
from tests.harness.conftest import Bench, commit
from tests.harness.test_manifest import flip
from tests.harness.test_road import SPEC, harness, only_run


def compared(*paths: Path) -> Comparison:
    first, second = ((path, read_manifest(path)) for path in paths)
    return compare_runs(first, second)


def test_a_run_and_its_repetition_differ_in_nothing(bench: Bench) -> None:
    found = compared(bench.run().path, bench.run().path)
    assert found == Comparison((), (), (), (), (), (), (), is_bitwise=True)
    assert found.headline == "bitwise"


def test_a_changed_value_is_named_with_the_places_where_it_was_written(bench: Bench) -> None:
    found = compared(bench.run().path, bench.run("complete", "training.epochs=3").path)
    assert found.inputs == ("training.epochs 2 (spec.yaml:4:34) -> 3 (--set:1:17)",)
    assert not found.is_bitwise
    assert found.headline.startswith("the results differ")


def test_changed_code_and_exactness_are_named(own_bench: Bench) -> None:
    first = own_bench.run()
    with (own_bench.root / "harness" / "plan.py").open("a") as file:
        file.write("# another line\n")
    commit(own_bench.root)
    second = own_bench.run("drift", "exactness.threads=2")
    found = compared(first.path, second.path)
    assert any("harness/plan.py (changed)" in sentence for sentence in found.code)
    assert any(sentence.startswith("threads 1 -> 2") for sentence in found.environment)
    assert "known answers matmul: the processes compute with other kernels" in found.environment
    assert any(sentence.startswith("final_tensor_digest") for sentence in found.results)


def test_runs_whose_files_were_altered_are_never_called_bitwise(bench: Bench) -> None:
    one, other = bench.run().path, bench.run().path
    flip(other / "products" / "weights.safetensors", 5)
    found = compared(one, other)
    assert found.damage == tuple(
        f"{other.name}: {sentence}" for sentence in damaged_files(other, read_manifest(other))
    )
    assert not found.is_bitwise
    assert "altered" in found.headline


def test_an_altered_file_is_told_before_anything_is_read_from_it(bench: Bench) -> None:
    one, other = bench.run().path, bench.run().path
    lines = (other / "trace.jsonl").read_text().replace('"data":"d"', '"data":"d","tensors":5')
    (other / "trace.jsonl").write_text(lines)
    assert compared(one, other).headline.startswith(
        f"nothing is proven, files were altered: {other.name}: trace.jsonl is damaged"
    )


def test_of_runs_that_were_broken_off_nothing_is_proven(bench: Bench) -> None:
    whole, broken, other = (bench.run(how).path for how in ("complete", "killed", "killed"))
    found = compared(broken, other)
    assert not found.is_bitwise
    assert found.headline == "nothing is proven: neither run has come to its end"
    assert compared(whole, other).headline == "nothing is proven: the second run has not come to its end"
    assert compared(broken, whole).headline == "nothing is proven: the first run has not come to its end"


def test_a_trace_that_is_no_trace_is_an_error_with_its_place(tmp_path: Path) -> None:
    write_trace(tmp_path / "a", ["0x1p+0", "0x1p-1"])
    write_trace(tmp_path / "b", ["0x1p+0", "0x1p-1"])
    (tmp_path / "b" / "trace.jsonl").write_text("{}\n{}\n")
    with pytest.raises(DamagedError, match="trace.jsonl:1"):
        parting_sentence(tmp_path / "a", tmp_path / "b")


def write_trace(path: Path, losses: list[str]) -> None:
    lines = [TraceLine(step + 1, 0, step, "d", loss).to_json() for step, loss in enumerate(losses)]
    path.mkdir()
    (path / "trace.jsonl").write_text("".join(f"{line}\n" for line in lines))


def test_the_first_step_where_two_trainings_part_is_named(tmp_path: Path) -> None:
    write_trace(tmp_path / "a", ["0x1p+0", "0x1p-1", "0x1p-2"])
    write_trace(tmp_path / "b", ["0x1p+0", "0x1.8p-1", "0x1p-3"])
    sentence = parting_sentence(tmp_path / "a", tmp_path / "b")
    assert sentence is not None
    assert sentence.startswith("the trainings part at step 2 (epoch 1, batch 2): loss 0x1p-1 -> 0x1.8p-1")
    assert parting_sentence(tmp_path / "a", tmp_path / "a") is None
    assert parting_sentence(tmp_path / "a", tmp_path) is None


def test_the_rows_are_explained_once_and_the_parting_only_where_there_is_one(bench: Bench) -> None:
    one, other = bench.run().path, bench.run("drift").path
    headline, rows, parting, first, *_ = comparison_lines(compared(one, other))
    assert headline.startswith("the results differ: the trainings part at step 1")
    assert "first run -> second" in rows
    assert "before that step and tensor the trainings are the same" in parting
    assert first.startswith("  environment")
    assert list(comparison_lines(compared(one, one))) == ["bitwise"]
    later = bench.run("complete", "name=other").path
    assert not any("before that step" in line for line in comparison_lines(compared(one, later)))


def test_the_command_line_names_value_step_and_results(tmp_path: Path) -> None:
    for name, rate in (("one", "1e-3"), ("other", "2e-3")):
        spec = tmp_path / f"{name}.yaml"
        spec.write_text(SPEC + f"execution: {{learning_rate: {rate}}}\nproducts: {{reconstruction: false}}\n")
        harness("run", spec, runs=tmp_path / name)
    paths = [only_run(tmp_path / name) for name in ("one", "other")]
    answer = harness("compare", *paths, runs=tmp_path)
    assert answer.returncode == 3, answer.stderr
    assert (
        "execution.learning_rate 0.001 (one.yaml:12:" in answer.stdout
        or "learning_rate 0.001" in answer.stdout
    )
    assert "the trainings part at step 1 (epoch 1, batch 1): rate" in answer.stdout
    told = json.loads(harness("compare", "--json", paths[0], paths[0], runs=tmp_path).stdout)
    assert told["is_bitwise"] is True
    assert told["inputs"] == []
