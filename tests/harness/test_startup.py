"""What a command may load before it answers. Time itself is measured by ``benchmarks/startup.py``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.spec_kit import ROOT, write_scan

INVALID = ROOT / "tests" / "specs" / "invalid"
LOADED = (
    "import sys\n"
    "from harness.cli import main\n"
    "code = main(sys.argv[1:])\n"
    "sys.stderr.write('\\n' + ' '.join(sorted(sys.modules)))\n"
    "sys.exit(code)\n"
)


def loaded_by(*arguments: str, code: int = 0) -> set[str]:
    """Run the command line in a fresh process and name the modules that are loaded when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    return set(done.stderr.rpartition("\n")[2].split())


def test_help_loads_nothing_but_the_command_line() -> None:
    loaded = loaded_by("--help")
    heavy = {
        "pydantic",
        "numpy",
        "rich",
        "yaml",
        "tarfile",
        "zipfile",
        "tempfile",
        "docker",
        "requests",
        "logging",
        "socket",
    }
    assert heavy & loaded == set()
    assert "harness.commands" in loaded


def test_a_text_that_is_no_yaml_is_refused_before_anything_is_loaded_to_judge_it() -> None:
    loaded = loaded_by("plan", str(INVALID / "two_documents.yaml"), code=2)
    assert {"pydantic", "numpy", "harness.resolve"} & loaded == set()
    assert "yaml" in loaded


@pytest.mark.parametrize("command", ["plan", "run", "explain"])
def test_a_bad_spec_is_refused_without_manifest_screen_and_numpy(command: str) -> None:
    loaded = loaded_by(command, str(INVALID / "many_problems_at_once.yaml"), code=2)
    late = {
        "numpy",
        "rich",
        "tarfile",
        "requests",
        "pooch",
        "harness.manifest",
        "harness.run",
        "harness.report",
    }
    assert late & loaded == set()
    assert "pydantic_core" in loaded


@pytest.mark.parametrize("command", ["plan", "run", "explain"])
def test_a_bad_spec_is_refused_by_pydantics_core_alone(command: str) -> None:
    loaded = loaded_by(command, str(INVALID / "many_problems_at_once.yaml"), code=2)
    assert {"pydantic", "importlib.metadata", "importlib.resources"} & loaded == set()
    assert {"logging", "pickle", "socket", "zipfile"} & loaded == set()


def test_a_plan_of_simulated_data_loads_no_numpy() -> None:
    assert "numpy" not in loaded_by("plan", str(ROOT / "runs" / "ci.yaml"))


def test_a_plan_of_a_file_loads_numpy_and_nothing_heavier(tmp_path: Path) -> None:
    write_scan(tmp_path / "scan.npz")
    spec = tmp_path / "spec.yaml"
    spec.write_text("name: x\ndata: {train: {file: scan.npz}}\ntraining: {n_groups: 8}\n", encoding="utf-8")
    loaded = loaded_by("plan", str(spec))
    assert "numpy" in loaded
    assert {"torch", "lightning", "scipy", "matplotlib", "h5py", "rich", "requests"} & loaded == set()
