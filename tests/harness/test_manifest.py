"""The manifest: its schema, its integrity, and what it lets one find."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
from pathlib import Path

import jsonschema
import pytest

from harness.errors import ExitCode, UserError
from harness.listing import summary
from harness.manifest import DamagedError, damaged_files, manifest_json_schema, read_manifest
from harness.store import BEGUN, MANIFEST, hold_run, render_json
from tests.harness.conftest import Bench

SCHEMA = Path(__file__).parents[2] / "docs" / "schema" / "manifest.schema.json"
REMAKE = "python -m harness.manifest > docs/schema/manifest.schema.json"


@pytest.fixture
def run_dir(bench: Bench) -> Path:
    return bench.run().path


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_the_published_schema_is_the_one_in_force() -> None:
    assert json.loads(SCHEMA.read_text()) == manifest_json_schema(), f"remake it: {REMAKE}"


@pytest.mark.parametrize("behaviour", ["complete", "collapse", "fail", "crash"])
def test_manifests_of_runs_of_every_status_follow_the_schema(bench: Bench, behaviour: str) -> None:
    manifest = json.loads((bench.run(behaviour).path / MANIFEST).read_text())
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(manifest)


def test_the_schema_refuses_a_manifest_with_a_key_more_or_less(run_dir: Path) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    manifest = json.loads((run_dir / MANIFEST).read_text())
    assert not validator.is_valid({**manifest, "extra": 1})
    assert not validator.is_valid({key: value for key, value in manifest.items() if key != "compared"})
    attempts = [{**manifest["attempts"][0], "extra": 1}]
    assert not validator.is_valid({**manifest, "attempts": attempts})


def test_any_bit_flipped_in_the_manifest_is_found(run_dir: Path) -> None:
    path = run_dir / MANIFEST
    size = path.stat().st_size * 8
    for bit in random.Random(1).sample(range(size), 400):
        flip(path, bit)
        with pytest.raises(DamagedError, match=r"manifest\.json"):
            read_manifest(run_dir)
        flip(path, bit)
    assert read_manifest(run_dir).status == "completed"


def test_a_damaged_manifest_is_named_by_status_and_exit_code(run_dir: Path) -> None:
    flip(run_dir / MANIFEST, 1000)
    assert summary(run_dir)["status"] == "damaged"
    assert DamagedError("x").exit_code is ExitCode.DIFFERS


def test_an_edited_manifest_is_found_even_when_it_is_valid_json(run_dir: Path) -> None:
    manifest = json.loads((run_dir / MANIFEST).read_text())
    (run_dir / MANIFEST).write_bytes(render_json({**manifest, "name": "other"}))
    with pytest.raises(DamagedError, match="does not match the digest it carries"):
        read_manifest(run_dir)


@pytest.mark.parametrize(
    "name",
    ["checkpoints/last.ckpt", "products/weights.safetensors", "spec.yaml", "resolved.json", "outcome.json"],
)
def test_a_bit_flipped_in_any_file_of_the_run_is_found_and_named(run_dir: Path, name: str) -> None:
    manifest = read_manifest(run_dir)
    assert damaged_files(run_dir, manifest) == ()
    flip(run_dir / name, 77)
    assert [problem.split(" is damaged")[0] for problem in damaged_files(run_dir, manifest)] == [name]
    (run_dir / name).unlink()
    assert damaged_files(run_dir, manifest) == (f"{name} is missing",)


def test_a_run_without_a_manifest_says_what_it_is_instead(run_dir: Path) -> None:
    (run_dir / MANIFEST).unlink()
    name = run_dir.name
    for is_held, has_begun, cure in (
        (True, True, f"it is running: wait for its end, `harness show {run_dir}` tells when it has come"),
        (False, True, f"it is interrupted: continue it by `harness resume {run_dir}`"),
        (False, False, "it is interrupted: run its spec again"),
    ):
        if not has_begun:
            (run_dir / BEGUN).unlink()
        with hold_run(run_dir) if is_held else contextlib.nullcontext(), pytest.raises(UserError) as refused:
            read_manifest(run_dir)
        assert str(refused.value) == f"{name} has no manifest, {cure}"


def test_a_manifest_of_a_later_version_is_refused_by_version(run_dir: Path) -> None:
    manifest = json.loads((run_dir / MANIFEST).read_text())
    later = {**manifest, "version": 2, "something": "new", "manifest_digest": ""}
    digest = hashlib.sha256(render_json(later)).hexdigest()
    (run_dir / MANIFEST).write_bytes(render_json({**later, "manifest_digest": digest}))
    with pytest.raises(UserError, match="newer than 1"):
        read_manifest(run_dir)
    assert summary(run_dir)["status"] == "unreadable"
