"""The whole road with the real worker: spec, training, manifest, the same bits, and what a death leaves."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch

from harness.gate import METRICS
from harness.plan import worker_environment
from ptycho_torch.alignment import align_with_truth
from ptycho_torch.data.simulate import simulate_scan
from ptycho_torch.object_config import DeadLeaves
from ptycho_torch.plotting import save_pictures
from ptycho_torch.simulate_config import RasterScan, SimulateConfig
from ptycho_torch.stitching import Reconstruction
from tests.waiting import until

ROOT = Path(__file__).parents[2]
SPEC = """\
name: road
seed: 3
data:
  train:
    simulate:
      object: {size_px: 96}
      scan: {rows: 6, columns: 6}
  validation_fraction: 0.1
model: {gridsize: 1, n_filters_scale: 1, attention: false, probe_big: false}
training: {n_groups: 30, epochs: 1, batch_size: 8}
"""
COMPLETED_OR_COLLAPSED = {0, 1}
PRODUCTS = {"weights.safetensors", "reconstruction.npz", "phase.png", "amplitude.png", "comparison.png"}


def harness(
    *arguments: str | Path, runs: Path | None, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    where = [] if runs is None else ["--runs-dir", str(runs)]
    return subprocess.run(
        [sys.executable, "-m", "harness", *map(str, arguments), *where],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def start(spec: Path, runs: Path, *options: str, verb: str = "run") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "harness", verb, str(spec), "--runs-dir", str(runs), *options],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def only_run(runs: Path) -> Path:
    [path] = [path for path in runs.iterdir() if path.is_dir()]
    return path


def manifest(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "manifest.json").read_text())
    return content


def listed(runs: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(harness("list", "--json", runs=runs).stdout)
    return found


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spec") / "road.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture(scope="module")
def first(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("first")
    answer = harness("run", spec, runs=runs)
    assert answer.returncode in COMPLETED_OR_COLLAPSED, answer.stderr
    return only_run(runs)


@pytest.fixture
def copied(first: Path, tmp_path: Path) -> Path:
    shutil.copytree(first, tmp_path / "kept" / first.name)
    return tmp_path / "kept" / first.name


def long_spec(tmp_path: Path) -> Path:
    path = tmp_path / "long.yaml"
    path.write_text(SPEC.replace("epochs: 1", "epochs: 5000"))
    return path


def is_training(runs: Path) -> bool:
    return any(json.loads(path.read_text()).get("step", 0) >= 3 for path in runs.glob("*/progress.json"))


def digest_by_the_definition(state: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].contiguous()
        dtype = str(tensor.dtype).removeprefix("torch.")
        digest.update(f"{key}|{dtype}|{','.join(map(str, tensor.shape))}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


class TestOneRun:
    def test_it_leaves_what_others_build_on(self, first: Path) -> None:
        for name in ("spec.yaml", "resolved.json", "outcome.json", "manifest.json", "metrics.csv"):
            assert (first / name).is_file(), name
        for name in ("weights.safetensors", "reconstruction.npz", "phase.png", "amplitude.png"):
            assert (first / "products" / name).is_file(), name
        assert (first / "checkpoints" / "last.ckpt").is_file()
        assert (first / "spec.yaml").read_text() == SPEC

    def test_its_comparison_says_that_the_network_collapsed_and_prints_no_resolution(
        self, first: Path, tmp_path: Path
    ) -> None:
        found = manifest(first)
        assert found["status"] == "collapsed"
        assert "frc_0.5_resolution_px" in found["metrics"]
        with np.load(first / "products" / "reconstruction.npz") as kept:
            image = Reconstruction(
                kept["object"], kept["coverage"], kept["frame_origin_px"], accepted=36, total=36
            )
        simulate = SimulateConfig(object=DeadLeaves(size_px=96), scan=RasterScan(rows=6, columns=6))
        truth = simulate_scan(simulate).object
        aligned = align_with_truth(image.object, image.coverage, image.frame_origin_px, truth)
        figures = {name: value for name, value in found["metrics"].items() if "resolution" not in name}
        drawn = {}
        for name, metrics in (("without", figures), ("with", found["metrics"])):
            (tmp_path / name).mkdir()
            title = "road: the network collapsed"
            save_pictures(image, tmp_path / name, aligned=aligned, metrics=metrics, title=title)
            drawn[name] = (tmp_path / name / "comparison.png").read_bytes()
        assert (first / "products" / "comparison.png").read_bytes() == drawn["without"] != drawn["with"]

    def test_its_manifest_follows_the_published_schema(self, first: Path) -> None:
        schema = json.loads((ROOT / "docs" / "schema" / "manifest.schema.json").read_text())
        jsonschema.validate(manifest(first), schema)

    def test_its_tensor_digests_can_be_recomputed_without_the_project(self, first: Path) -> None:
        found = manifest(first)
        assert found["checkpoints"]
        for kept in found["checkpoints"]:
            stored = torch.load(first / kept["path"], weights_only=True)
            assert digest_by_the_definition(stored["state_dict"]) == kept["tensor_digest"]
            assert hashlib.sha256((first / kept["path"]).read_bytes()).hexdigest() == kept["sha256"]

    def test_it_names_no_folder_of_this_machine(self, first: Path) -> None:
        parts = {str(first.parent), str(ROOT)}
        for path in first.rglob("*"):
            if path.is_file() and path.suffix in {".json", ".yaml", ".csv", ".ckpt", ".npz", ".safetensors"}:
                content = path.read_bytes()
                assert not [part for part in parts if part.encode() in content], path.name

    def test_the_profile_was_observed_in_the_training_process(self, first: Path) -> None:
        exactness = manifest(first)["exactness"]
        assert exactness["observed"]["num_threads"] == exactness["threads"] == 1
        assert exactness["observed"]["environment"]["PYTHONHASHSEED"] == "0"
        assert len(exactness["observed"]["known_answers"]) >= 20

    def test_a_worker_in_another_environment_than_its_profile_s_stops_before_the_first_step(
        self, first: Path, tmp_path: Path
    ) -> None:
        exactness = manifest(first)["exactness"]
        for name in ("resolved.json", "inputs.json"):
            shutil.copy(first / name, tmp_path / name)
        right = worker_environment(exactness["profile"], exactness["threads"], os.environ, str(ROOT))
        worker = [sys.executable, "-m", "harness.worker", str(tmp_path)]
        answer = subprocess.run(worker, env=right | {"OMP_DYNAMIC": "TRUE"}, capture_output=True, check=False)
        assert answer.returncode == 1
        outcome = json.loads((tmp_path / "outcome.json").read_text())
        assert outcome["status"] == "failed"
        assert "is not in force: OMP_DYNAMIC is 'TRUE' instead of 'FALSE'" in outcome["error"]
        left = {path.name for path in tmp_path.iterdir()}
        assert not left & {"trace.jsonl", "metrics.csv", "checkpoints", "products"}


class TestTheSameBits:
    def test_a_moved_run_repeats_without_its_spec_under_another_locale_zone_and_hash_seed(
        self, first: Path, tmp_path: Path
    ) -> None:
        subprocess.run(["tar", "-C", first.parent, "-cf", tmp_path / "run.tar", first.name], check=True)
        (tmp_path / "elsewhere").mkdir()
        subprocess.run(["tar", "-C", tmp_path / "elsewhere", "-xf", tmp_path / "run.tar"], check=True)
        moved = tmp_path / "elsewhere" / first.name
        answer = harness(
            "rerun", moved, runs=tmp_path / "again", PYTHONHASHSEED="77", LC_ALL="C", TZ="Asia/Tokyo"
        )
        assert answer.returncode in COMPLETED_OR_COLLAPSED, answer.stderr
        before, after = manifest(first), manifest(only_run(tmp_path / "again"))
        assert after["compared"] == before["compared"]
        assert after["rerun_of"]["manifest"] == before["manifest_digest"]

    def test_verify_trains_again_beside_the_run_and_says_bitwise(self, copied: Path, tmp_path: Path) -> None:
        (tmp_path / "here").mkdir()
        before = set(copied.parent.iterdir())
        answer = harness("verify", copied, runs=None, cwd=tmp_path / "here")
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert "bitwise" in answer.stdout
        [again] = set(copied.parent.iterdir()) - before
        assert f"repeated in {again}" in answer.stdout
        assert list((tmp_path / "here").iterdir()) == []


class TestOneBit:
    @pytest.mark.parametrize(
        "name", ["checkpoints/last.ckpt", "products/reconstruction.npz", "metrics.csv", "manifest.json"]
    )
    def test_of_a_stored_file_is_found_and_named(self, copied: Path, tmp_path: Path, name: str) -> None:
        content = bytearray((copied / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copied / name).write_bytes(content)
        for verb in (("verify",), ("rerun",), ("show",)):
            answer = harness(*verb, copied, runs=tmp_path / "runs")
            assert answer.returncode not in {0, 1}, verb
            assert Path(name).name in answer.stdout + answer.stderr, verb
            assert "Traceback" not in answer.stderr
        assert not list((tmp_path / "runs").glob("*"))


class TestTwoAtOnce:
    def test_two_runs_of_one_spec_make_two_complete_folders(self, spec: Path, tmp_path: Path) -> None:
        both = [start(spec, tmp_path) for _ in range(2)]
        assert {process.wait() for process in both} <= COMPLETED_OR_COLLAPSED
        folders = [path for path in tmp_path.iterdir() if path.is_dir()]
        assert len(folders) == 2
        one, other = map(manifest, folders)
        assert one["compared"] == other["compared"]
        assert one["status"] == other["status"]
        for folder, found in zip(folders, (one, other), strict=True):
            assert found["status"] in {"completed", "collapsed"}
            assert {Path(kept["path"]).name for kept in found["checkpoints"]} >= {"last.ckpt"}
            assert {Path(kept["path"]).name for kept in found["products"]} == PRODUCTS
            for kept in (*found["checkpoints"], *found["products"]):
                assert hashlib.sha256((folder / kept["path"]).read_bytes()).hexdigest() == kept["sha256"]
            assert all(len(kept["tensor_digest"]) == 64 for kept in found["checkpoints"])


class TestDeath:
    def test_a_killed_host_takes_its_worker_along_and_the_run_counts_as_interrupted(
        self, tmp_path: Path
    ) -> None:
        runs = tmp_path / "runs"
        process = start(long_spec(tmp_path), runs)
        until(lambda: is_training(runs))
        assert [run["status"] for run in listed(runs)] == ["running"]
        process.send_signal(signal.SIGKILL)
        process.wait()
        until(lambda: listed(runs)[0]["status"] == "interrupted")
        shown = harness("show", only_run(runs), runs=runs)
        assert shown.returncode == 0
        assert "interrupted" in shown.stdout

    def test_a_request_to_stop_while_reconstructing_is_heard(self, tmp_path: Path) -> None:
        path = tmp_path / "many.yaml"
        path.write_text(SPEC.replace("rows: 6, columns: 6", "rows: 26, columns: 26").replace("96", "180"))
        runs = tmp_path / "runs"
        process = start(path, runs)
        until(lambda: any("reconstructing" in file.read_text() for file in runs.glob("*/progress.json")))
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        found = manifest(only_run(runs))
        assert found["status"] == "interrupted"
        assert "reconstructing" in found["error"]
        assert [kept["path"] for kept in found["checkpoints"]][-1] == "checkpoints/last.ckpt"

    def test_a_request_to_stop_saves_the_state_and_writes_a_manifest(self, tmp_path: Path) -> None:
        runs = tmp_path / "runs"
        process = start(long_spec(tmp_path), runs)
        until(lambda: is_training(runs))
        process.terminate()
        assert process.wait() == 143
        found = manifest(only_run(runs))
        assert found["status"] == "interrupted"
        stored = torch.load(only_run(runs) / "checkpoints" / "last.ckpt", weights_only=True)
        assert stored["global_step"] >= 3


@pytest.mark.slow
class TestTenTimes:
    def test_ten_reruns_of_the_ci_spec_beside_another_job_have_one_digest(self, tmp_path: Path) -> None:
        spec = ROOT / "runs" / "ci.yaml"
        load = subprocess.Popen([sys.executable, "-c", "while True: sum(range(10**6))"])
        try:
            answer = harness("run", spec, runs=tmp_path / "first")
            assert answer.returncode == 0, answer.stdout + answer.stderr
            origin = only_run(tmp_path / "first")
            for _ in range(10):
                answer = harness("rerun", origin, runs=tmp_path / "again")
                assert answer.returncode == 0, answer.stdout + answer.stderr
        finally:
            load.kill()
            load.wait()
        facts = [manifest(path)["compared"] for path in (tmp_path / "again").iterdir()]
        assert len(facts) == 10
        assert all(one == manifest(origin)["compared"] for one in facts)


@pytest.mark.slow
def test_a_test_scan_is_reconstructed_besides_and_changes_nothing_that_is_trained(tmp_path: Path) -> None:
    test = "test: {simulate: {seed: 9, object: {size_px: 96}, scan: {rows: 5, columns: 5}}}"
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC.replace("validation_fraction: 0.1", test))
    run = harness("run", spec, runs=tmp_path / "with")
    assert run.returncode in COMPLETED_OR_COLLAPSED, run.stderr
    tested = manifest(only_run(tmp_path / "with"))
    spec.write_text(SPEC.replace("validation_fraction: 0.1", "validation_fraction: 0"))
    harness("run", spec, runs=tmp_path / "without")
    plain = manifest(only_run(tmp_path / "without"))

    assert tested["compared"]["final_tensor_digest"] == plain["compared"]["final_tensor_digest"]
    assert tested["metrics"]["test_patches_total"] == 25
    assert {name for name in tested["metrics"] if name.startswith("test_")} <= METRICS
    assert {name.removeprefix("test_") for name in tested["metrics"]} >= {
        name for name in plain["metrics"] if name.startswith(("upstream", "phase", "r_factor", "frc"))
    }
    made = {product["path"] for product in tested["products"]}
    assert {f"products/test/{name}" for name in PRODUCTS - {"weights.safetensors"}} <= made
    assert not any("test" in product["path"] for product in plain["products"])
