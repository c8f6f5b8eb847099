"""The build id: it follows every file that an image is made from, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness.build_id import BuildRecord, build_id, ingredients, parse_record, read_build_record, stale

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of everything that images are made from."""
    root = tmp_path / "checkout"
    unwanted = shutil.ignore_patterns("__pycache__", "*.md")
    for folder in ("docker", "harness", "ptycho_torch", "tools"):
        shutil.copytree(ROOT / folder, root / folder, ignore=unwanted)
    for name in ("Dockerfile", "pyproject.toml"):
        shutil.copy(ROOT / name, root / name)
    return root


@pytest.mark.parametrize(
    "name",
    [
        "Dockerfile",
        "docker/entrypoint.sh",
        "docker/requirements-cpu.lock",
        "harness/worker.py",
        "ptycho_torch/physics/forward.py",
        "pyproject.toml",
        "tools/install.sh",
    ],
)
def test_one_byte_more_in_a_file_of_the_recipe_is_another_build_id(checkout: Path, name: str) -> None:
    before = build_id(checkout, "cpu")
    with (checkout / name).open("ab") as file:
        file.write(b"\n")
    assert build_id(checkout, "cpu") != before


def test_a_new_source_file_and_a_mode_are_another_build_id(checkout: Path) -> None:
    ids = {build_id(checkout, "cpu")}
    (checkout / "docker" / "entrypoint.sh").chmod(0o644)
    ids.add(build_id(checkout, "cpu"))
    (checkout / "harness" / "fresh.py").touch()
    ids.add(build_id(checkout, "cpu"))
    assert len(ids) == 3


def test_byte_code_other_locks_and_the_group_s_rights_are_no_part_of_it(checkout: Path) -> None:
    before = build_id(checkout, "cpu")
    (checkout / "harness" / "__pycache__").mkdir()
    (checkout / "harness" / "__pycache__" / "spec.cpython-311.pyc").write_bytes(b"0")
    (checkout / "docker" / "requirements-cuda.lock").write_text("")
    (checkout / "pyproject.toml").chmod(0o664)
    assert build_id(checkout, "cpu") == before
    assert build_id(checkout, "cuda") != before


def test_the_image_of_the_tests_follows_its_environment_not_the_code_that_it_is_shown(checkout: Path) -> None:
    before = build_id(checkout, "test")
    (checkout / "harness" / "fresh.py").touch()
    assert build_id(checkout, "test") == before
    with (checkout / "docker" / "requirements-dev.lock").open("ab") as lock:
        lock.write(b"\n")
    assert build_id(checkout, "test") != before


def test_a_target_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'gpu': write one of cpu, cuda, test"):
        ingredients(ROOT, "gpu")


def test_the_written_record_is_read_back_and_holds_the_build_id(checkout: Path, tmp_path: Path) -> None:
    written = tmp_path / "build.json"
    command = [sys.executable, "-m", "harness.build_id", "write", str(checkout), "cuda", str(written)]
    subprocess.run(command, cwd=ROOT, check=True)
    record = parse_record(written.read_bytes())
    assert record.build_id == build_id(checkout, "cuda")
    assert record.target == json.loads(written.read_text())["target"] == "cuda"
    assert record.files["docker/entrypoint.sh"].endswith(" x")


@pytest.mark.parametrize(("target", "service"), [("cpu", "train"), ("cuda", "train-cuda"), ("test", "test")])
def test_an_image_of_other_sources_is_told_by_the_file_and_the_service_that_rebuilds_it_alone(
    checkout: Path, target: str, service: str
) -> None:
    built = BuildRecord(build_id(checkout, target), target, ingredients(checkout, target))
    assert stale(built, checkout) is None
    with (checkout / "tools" / "install.sh").open("ab") as file:
        file.write(b"\n")
    assert stale(built, checkout) == (
        "this image is older or newer than the checkout (tools/install.sh differs): rebuild it with "
        f"`docker-compose build {service}`, or `harness image build --target {target}`"
    )
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert compose["services"][service]["build"]["target"] == target


def test_outside_an_image_there_is_no_record_and_nothing_to_compare() -> None:
    assert read_build_record() is None
    command = [sys.executable, "-m", "harness.build_id", "check", str(ROOT)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "harness: this is no image\n")


def test_where_an_image_holds_no_record_there_is_none(tmp_path: Path) -> None:
    inside = tmp_path / "src" / "harness" / "build_id.py"
    inside.parent.mkdir(parents=True)
    shutil.copy(ROOT / "harness" / "build_id.py", inside)
    text = inside.read_text().replace('Path("/opt/ptychopinn")', f'Path("{tmp_path}")')
    inside.write_text(text)
    ask = "from build_id import read_build_record; print(read_build_record())"
    command = [sys.executable, "-S", "-c", ask]
    done = subprocess.run(command, cwd=inside.parent, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("None\n", "")


def test_it_runs_with_the_standard_library_alone() -> None:
    command = [sys.executable, "-S", "-m", "harness.build_id", "write"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.startswith("usage: ")
