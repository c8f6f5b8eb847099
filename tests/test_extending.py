"""The page on extending is true: each of its examples is one file and one line, and then a run of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "extending.md"
PACKAGES = ("harness", "ptycho_torch")
SIMULATED = "{simulate: {object: {size_px: 90}, scan: {rows: 5, columns: 5}}}"


@dataclass(frozen=True)
class Example:
    """What the page says: a file, its text, and the line of a table in another file."""

    path: str
    text: str
    table_file: str
    table: str
    line: str


def examples() -> dict[str, Example]:
    blocks = re.findall(r"```python\n# (\S+)(?:, in (\w+))?\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    files, lines = blocks[::2], blocks[1::2]
    return {
        line.split('"')[1]: Example(path, text, table_file, table, line.strip())
        for (path, _, text), (table_file, table, line) in zip(files, lines, strict=True)
    }


def plant(example: Example, root: Path) -> None:
    """Copy the packages, write the example's file and put its line into the table."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    assert not (root / example.path).exists()
    (root / example.path).write_text(example.text)
    table = root / example.table_file
    text, count = re.subn(
        rf'({example.table} = Registry\(\s*"[\w ]+",\s*\{{)', rf"\1{example.line}", table.read_text()
    )
    assert count == 1, f"{example.table} does not begin as expected"
    table.write_text(text)


def harness(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )


def spec(root: Path, data: str = SIMULATED, training: str = "", model: str = "generator: cnn") -> None:
    (root / "small.yaml").write_text(
        f"name: small\ndata: {{train: {data}, validation_fraction: 0.1}}\n"
        f"model: {{{model}, n_filters_scale: 1, attention: false, probe_big: false}}\n"
        f"training: {{n_groups: 8, epochs: 1, batch_size: 4{training}}}\nproducts: {{pictures: false}}\n"
    )


def manifest_of_the_run(root: Path, *more: str) -> dict[str, Any]:
    done = harness(root, "run", "small.yaml", "--runs-dir", "runs", *more)
    assert done.returncode in {0, 1}, done.stderr
    [path] = (root / "runs").glob("*/manifest.json")
    found: dict[str, Any] = json.loads(path.read_text())
    assert found["status"] in {"completed", "collapsed"}, found["error"]
    return found


def test_the_page_adds_one_variant_at_every_seam_that_has_a_file_of_its_own() -> None:
    assert {example.table for example in examples().values()} == {
        "EXECUTORS",
        "GENERATORS",
        "LOSSES",
        "READERS",
    }


@pytest.mark.parametrize(("name", "key"), [("squared", "training.loss"), ("plain", "model.generator")])
def test_the_legal_names_the_hint_and_the_schema_follow_the_table(
    tmp_path: Path, name: str, key: str
) -> None:
    plant(examples()[name], tmp_path)
    spec(tmp_path)
    explained = harness(tmp_path, "explain", "small.yaml", key, "--set", f"{key}={name}")
    assert explained.stdout.startswith(f'{key} = "{name}"'), explained.stderr
    refused = harness(tmp_path, "plan", "small.yaml", "--set", f"{key}={name}x")
    assert refused.returncode == 2
    assert f"did you mean '{name}'?" in refused.stderr
    program = "from harness.spec_schema import render_schema; print(render_schema())"
    schema = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    section, field = key.split(".")
    leaf = json.loads(schema.stdout)["properties"][section]["properties"][field]
    assert name in leaf["enum"]


@pytest.mark.slow
def test_a_loss_is_a_file_and_a_line(tmp_path: Path) -> None:
    plant(examples()["squared"], tmp_path)
    spec(tmp_path, training=", loss: squared")
    assert manifest_of_the_run(tmp_path)["overrides_applied"]["loss"] == "squared"


@pytest.mark.slow
def test_a_network_is_a_file_and_a_line(tmp_path: Path) -> None:
    plant(examples()["plain"], tmp_path)
    spec(tmp_path, model="generator: plain")
    assert manifest_of_the_run(tmp_path)["overrides_applied"]["generator"] == "plain"
    weights = next((tmp_path / "runs").glob("*/products/weights.safetensors")).read_bytes()
    assert b"generator.layers.0.weight" in weights


@pytest.mark.slow
def test_a_data_format_is_a_file_and_a_line(tmp_path: Path) -> None:
    plant(examples()["raw"], tmp_path)
    rng = np.random.default_rng(1)
    facts = json.dumps({"N": 64, "frames": 20}).encode()
    parts = [
        rng.poisson(30.0, (20, 64, 64)).astype("<f4"),
        rng.uniform(0, 30, (20, 2)).astype("<f8"),
        (rng.normal(size=(64, 64)) + 1j).astype("<c8"),
    ]
    content = b"raw stack " + facts + b"\n" + b"".join(part.tobytes() for part in parts)
    (tmp_path / "scan.raw").write_bytes(content)
    spec(tmp_path, data="{file: scan.raw}")
    [record] = manifest_of_the_run(tmp_path)["data"]
    assert (record["name"], record["facts"]["shape"]) == ("scan.raw", [20, 64, 64])
    (tmp_path / "scan.raw").write_bytes(content[:-1])
    refused = harness(tmp_path, "plan", "small.yaml")
    assert refused.returncode == 2
    assert "scan.raw: is not as long" in refused.stderr


@pytest.mark.slow
def test_a_place_to_run_is_a_file_and_a_line(tmp_path: Path) -> None:
    plant(examples()["polite"], tmp_path)
    spec(tmp_path)
    found = manifest_of_the_run(tmp_path, "--executor", "polite")
    assert found["recorded"]["executor"] == "polite"
    assert [attempt["exit_status"] for attempt in found["attempts"]] in ([0], [1])
