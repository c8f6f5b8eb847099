"""Goldens: keyed by what the same bits are promised for, readable, and able to say why a run has moved."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from harness.environment import Cpu, Gpu
from harness.errors import UserError
from harness.golden import (
    GoldenFile,
    Key,
    Published,
    golden_json_schema,
    golden_of,
    key_of,
    predecessor,
    publish,
    read_goldens,
    reasons,
    trace_of,
    write_goldens,
)
from harness.manifest import Leaf, Manifest
from harness.run import Finished
from harness.spreads import Spread, Task
from harness.store import file_digest
from ptycho_torch.trace import read_trace
from tests.harness.conftest import make_bench_in

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "docs" / "schema" / "golden.schema.json"
REMAKE = "python -m harness.golden > docs/schema/golden.schema.json"
ACCEPT = (
    "`make golden-accept`, and `harness golden accept runs/ci.yaml` in the environment of `make env`; "
    "delete the goldens of locks that are gone"
)
COMMITTED = sorted((ROOT / "runs" / "golden").glob("*.json"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, planted: Path) -> Finished:
    return make_bench_in(tmp_path_factory.mktemp("bench"), planted).run()


@pytest.fixture(scope="module")
def manifest(run: Finished) -> Manifest:
    lock = run.manifest.environment.lock
    assert lock is not None
    environment = replace(run.manifest.environment, lock=replace(lock, is_installed=True))
    return replace(run.manifest, environment=environment)


def on(manifest: Manifest, profile: str, *, cpu: str = "Some CPU", accelerator: str = "cpu") -> Manifest:
    environment = replace(
        manifest.environment,
        cpu=Cpu("vendor", cpu, (), 2),
        gpu=(Gpu("Some card", "1.0"), Gpu("Some card", "1.0")),
    )
    resolved = {**manifest.resolved, "execution.accelerator": Leaf(accelerator, "execution config")}
    exactness = replace(manifest.exactness, profile=profile)
    return replace(manifest, environment=environment, resolved=resolved, exactness=exactness)


class TestTheKey:
    @pytest.mark.parametrize(
        ("profile", "accelerator", "processor"),
        [
            ("portable", "cpu", "x86-64 with AVX2 and FMA"),
            ("portable-sse", "cpu", "x86-64"),
            ("strict", "cpu", "Some CPU"),
            ("strict", "cuda", "Some card, driver 1.0"),
        ],
    )
    def test_names_what_the_profile_promises_the_same_bits_on(
        self, manifest: Manifest, profile: str, accelerator: str, processor: str
    ) -> None:
        assert key_of(on(manifest, profile, accelerator=accelerator)).processor == processor

    def test_is_the_same_on_every_processor_under_portable_and_on_one_model_under_strict(
        self, manifest: Manifest
    ) -> None:
        for profile, number in (("portable", 1), ("strict", 2)):
            keys = {str(key_of(on(manifest, profile, cpu=cpu))) for cpu in ("Some CPU", "Another CPU")}
            assert len(keys) == number

    def test_says_lock_profile_threads_and_processor(self, manifest: Manifest) -> None:
        lock = manifest.environment.lock
        assert lock is not None
        expected = f"x86-64 with AVX2 and FMA, portable, 1 thread, lock {lock.sha256[:12]}"
        assert str(key_of(on(manifest, "portable"))) == expected

    def test_is_refused_where_the_environment_was_not_made_from_its_lock(self, manifest: Manifest) -> None:
        lock = manifest.environment.lock
        assert lock is not None
        for other in (None, replace(lock, is_installed=False)):
            environment = replace(manifest.environment, lock=other)
            with pytest.raises(UserError, match="`make env` makes one"):
                key_of(replace(manifest, environment=environment))


class TestTheFile:
    def test_holds_what_was_written_and_follows_its_schema(
        self, run: Finished, manifest: Manifest, tmp_path: Path
    ) -> None:
        golden = golden_of(run.path, manifest)
        kept = GoldenFile({"train_loss": Published(0.1, 0.02)}, {str(key_of(manifest)): golden})
        path = tmp_path / "golden" / "a.json"
        write_goldens(path, kept)
        assert read_goldens(path) == kept
        jsonschema.Draft202012Validator(golden_json_schema()).validate(json.loads(path.read_text()))
        assert str(run.path) not in path.read_text()

    def test_keeps_the_trace_without_its_states(self, run: Finished, manifest: Manifest) -> None:
        kept, whole = trace_of(golden_of(run.path, manifest)), read_trace(run.path / "trace.jsonl")
        assert [(line.step, line.loss, line.data) for line in kept] == [
            (line.step, line.loss, line.data) for line in whole
        ]
        assert all((line.state, line.tensors) == (None, None) for line in kept)

    def test_that_is_not_there_holds_nothing(self, tmp_path: Path) -> None:
        assert read_goldens(tmp_path / "none.json") == GoldenFile()

    @pytest.mark.parametrize("content", ["{", "[]", '{"goldens": 1}', '{"published": {"a": {"value": 1}}}'])
    def test_of_another_kind_is_refused(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(UserError, match="no golden file"):
            read_goldens(tmp_path / "a.json")

    def test_schema_that_is_published_is_the_one_in_force(self) -> None:
        assert json.loads(SCHEMA.read_text()) == golden_json_schema(), f"remake it: {REMAKE}"

    @pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.name)
    def test_that_is_committed_is_as_it_would_be_written(self, path: Path, tmp_path: Path) -> None:
        write_goldens(tmp_path / "again.json", read_goldens(path))
        assert (tmp_path / "again.json").read_bytes() == path.read_bytes()

    def test_of_the_spec_that_ci_runs_holds_a_golden_for_each_lock_that_it_is_run_with_and_for_no_other(
        self,
    ) -> None:
        kept = read_goldens(ROOT / "runs" / "golden" / "ci.json").goldens
        keys = {
            str(Key(file_digest(ROOT / "docker" / lock), "portable", 1, "x86-64 with AVX2 and FMA"))
            for lock in ("requirements-dev.lock", "requirements-cpu.lock")
        }
        assert set(kept) == keys, ACCEPT


def test_values_packages_and_code_that_were_changed_are_the_reasons(
    run: Finished, manifest: Manifest
) -> None:
    was = golden_of(run.path, manifest)
    packages = {**was.origin.packages, "numpy": "0.1"}
    code = {**was.origin.code, "harness/run.py": "0" * 12}
    values = {**was.origin.values, "training.epochs": 3}
    origin = replace(was.origin, packages=packages, code=code, values=values)
    now = replace(was, origin=origin, facts={**was.facts, "environment.libc": "glibc 9"})
    told = "\n".join(reasons(was, now))
    assert "value training.epochs 2 -> 3" in told
    assert f"package numpy {was.origin.packages['numpy']} -> 0.1" in told
    assert "1 source files differ: harness/run.py (changed)" in told
    assert told.endswith("-> glibc 9")
    assert list(reasons(was, was)) == []


def test_a_run_is_held_against_its_own_golden_and_else_against_that_of_another_lock(
    run: Finished, manifest: Manifest
) -> None:
    golden, key = golden_of(run.path, manifest), key_of(manifest)
    before, elsewhere = replace(key, lock="0" * 64), replace(key, threads=2)
    kept = {str(elsewhere): golden, str(before): golden}
    assert predecessor(GoldenFile(goldens=kept), key) == (str(before), golden)
    assert predecessor(GoldenFile(goldens={**kept, str(key): golden}), key) == (str(key), golden)
    assert predecessor(GoldenFile(goldens={str(elsewhere): golden}), key) is None


def test_figures_are_published_with_the_thresholds_that_were_measured(manifest: Manifest) -> None:
    spreads = {name: Spread(0.5, 0.1, 0.1, 1.0) for name in ("phase_correlation", "unknown")}
    task = Task("small", (1, 2), (), 1, "2", "cpu", spreads)
    assert publish(manifest, task) == {"phase_correlation": Published(0.9, 0.5)}
