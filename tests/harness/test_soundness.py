"""A run that was altered is never called bitwise: its own files contradict it, or training again does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.manifest import DamagedError
from harness.recorded import AlteredError, load
from harness.soundness import contradictions, refuse_contradictions, remarks
from harness.verification import verdict_on
from tests.harness.conftest import Bench, make_bench_in
from tests.harness.doctoring import (
    CHECKPOINT,
    FOUND_BY_TRAINING,
    FOUND_IN_THE_RECORD,
    alter_part,
    of_an_earlier_version,
    rewrite_spec,
    vouch_for,
)
from tests.harness.test_road import SPEC, harness, only_run

Doctor = Callable[[Path], object]
LOGGED = "execution.logger_backend=csv"


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory, planted: Path) -> tuple[Path, Path]:
    """A run, and its honest repetition."""
    bench = make_bench_in(tmp_path_factory.mktemp("bench"), planted)
    first, second = (bench.run("complete", LOGGED).path for _ in range(2))
    return first, second


@pytest.fixture
def copied(twice: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(twice[0], tmp_path / "run"))


def is_called_bitwise(run: Path, repetition: Path) -> bool:
    recorded, again = load(run), load(repetition)
    both = ((one.path, one.manifest) for one in (recorded, again))
    return verdict_on(*both, contradictions=contradictions(recorded)).is_bitwise


def test_a_run_that_nobody_touched_is_sound_and_bitwise(twice: tuple[Path, Path]) -> None:
    assert contradictions(load(twice[0])) == ()
    assert is_called_bitwise(*twice)


def test_a_run_of_an_earlier_version_is_sound(copied: Path) -> None:
    of_an_earlier_version(copied)
    recorded = load(copied)
    assert recorded.manifest.attempts[0].cpu_seconds is None
    assert contradictions(recorded) == ()


def test_what_the_worker_printed_decides_nothing(copied: Path, twice: tuple[Path, Path]) -> None:
    name = "logs/worker.log"
    (copied / name).write_text("another output")
    vouch_for(copied, name)
    assert is_called_bitwise(copied, twice[1])


WRITTEN = "loss: poisson, stage_factors: [1, 0.5], stage_epochs: [1], epochs: 2"
EXECUTION = "execution: {scheduler: MultiStage, persistent_workers: false}\n"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("poisson", "mae", "training.loss is recorded as 'poisson', in spec.yaml it is 'mae'"),
        (r"\[1, 0.5\]", "[1, 0.25]", "training.stage_factors is recorded as"),
        ("persistent_workers: false", "persistent_workers: true", "execution.persistent_workers is recorded"),
        ("loss: poisson, ", "", "training.loss is recorded as 'poisson', in spec.yaml it is not"),
        ("loss: poisson", "loss: null", "training.loss is recorded as 'poisson', in spec.yaml it is not"),
        (r"\[1\]", "null", "training.stage_epochs is recorded as [1], in spec.yaml it is None"),
        ("scheduler", "gradient_clip_val: 1.0, scheduler", "execution.gradient_clip_val is in spec.yaml 1.0"),
        ("poisson", '"poisson"', None),
        ("0.5", "5.0e-1", None),
        ("epochs: 2", "epochs: 0x2", None),
    ],
)
def test_the_spec_is_held_against_what_was_resolved_value_by_value_and_not_letter_by_letter(
    bench: Bench, old: str, new: str, said: str | None
) -> None:
    bench.spec.write_text(bench.spec.read_text().replace("epochs: 2", WRITTEN) + EXECUTION)
    path = bench.run().path
    assert contradictions(load(path)) == ()
    rewrite_spec(path, old, new)
    found = contradictions(load(path))
    assert found == () if said is None else len(found) == 1 and found[0].startswith(said)


HIDDEN = """\
name: small
data: {train: {file: scan.npz, units: normalized_amplitude, positions: center, sha256: null}}
training: {n_groups: 10, nepochs: 2, loss: poisson}
execution: {accelerator: auto, gradient_clip_val: null, inference_batch_size: null, middle_trim: 32}
exactness: {profile: auto}
"""


def test_what_options_defaults_and_this_machine_hide_of_the_spec_is_held_against_it_too(bench: Bench) -> None:
    bench.spec.write_text(HIDDEN)
    path = bench.run("complete", "training.loss=mae", "data.units=count_amplitude", "seed=7").path
    assert contradictions(load(path)) == ()
    rewrite_spec(path, "poisson", "mae")
    assert contradictions(load(path)) == ("training.loss is recorded as 'poisson', in spec.yaml it is 'mae'",)


UNFINISHED = ("products/.weights.safetensors.0123abcd.tmp", ".manifest.json.89abcdef.tmp")


def test_what_a_death_left_of_a_file_being_written_is_remarked_and_no_alteration(copied: Path) -> None:
    assert remarks(load(copied)) == ()
    for name in UNFINISHED:
        (copied / name).write_bytes(b"half of it")
    assert contradictions(load(copied)) == ()
    assert [remark.split()[0] for remark in remarks(load(copied))] == sorted(UNFINISHED)


def test_a_run_that_was_broken_off_may_hold_states_and_unfinished_files(bench: Bench) -> None:
    path = bench.run("killed").path
    for name in ("resume-000000002.ckpt", "resume-000000002.ckpt.sha256", ".resume-000000003.ckpt.tmp"):
        (path / "checkpoints" / name).write_bytes(b"a state")
    assert contradictions(load(path)) == ()


@pytest.mark.parametrize("behaviour", ["collapse", "fail", "crash", "nonsense", "killed"])
def test_runs_of_every_status_are_sound(bench: Bench, behaviour: str) -> None:
    path = bench.run(behaviour).path
    found = contradictions(load(path))
    assert found == () if behaviour != "nonsense" else "is not an outcome" in found[0]


@pytest.mark.parametrize("doctor", FOUND_IN_THE_RECORD.values(), ids=FOUND_IN_THE_RECORD)
def test_what_the_runs_own_files_contradict_is_found_before_training(doctor: Doctor, copied: Path) -> None:
    doctor(copied)
    try:
        found = contradictions(load(copied))
    except (DamagedError, HarnessError) as refusal:
        found = (str(refusal),)
    assert found
    assert not (copied.parent / "it ran").exists()


@pytest.mark.parametrize("doctor", FOUND_BY_TRAINING.values(), ids=FOUND_BY_TRAINING)
def test_what_was_altered_everywhere_is_found_by_training_again(
    doctor: Doctor, copied: Path, twice: tuple[Path, Path]
) -> None:
    doctor(copied)
    assert contradictions(load(copied)) == ()
    assert not is_called_bitwise(copied, twice[1])


def test_a_checkpoints_state_beyond_its_weights_is_found_by_training_again(
    copied: Path, twice: tuple[Path, Path]
) -> None:
    alter_part(copied, lambda name: name.endswith("data.pkl"), lambda text: text.replace(b"kept", b"Kept"))
    vouch_for(copied, CHECKPOINT)
    assert contradictions(load(copied)) == ()
    recorded, again = load(copied), load(twice[1])
    verdict = verdict_on((recorded.path, recorded.manifest), (again.path, again.manifest))
    assert verdict.results == ("checkpoints/last.ckpt: Kept", "checkpoints/last.ckpt: kept")


def test_every_contradiction_is_told_in_the_refusal_and_in_a_note_where_one_goes_on(copied: Path) -> None:
    FOUND_IN_THE_RECORD["a figure among the metrics only"](copied)
    recorded = load(copied)
    with pytest.raises(AlteredError, match=r"metrics\.train_loss is recorded as 0\.01, .* it is 0\.1"):
        refuse_contradictions(recorded, regardless=False, warn=lambda sentence: None)
    notes: list[str] = []
    assert refuse_contradictions(recorded, regardless=True, warn=notes.append)
    assert "metrics.train_loss" in notes[0]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of the real worker, and its honest repetition."""
    folder = tmp_path_factory.mktemp("real")
    spec = folder / "road.yaml"
    spec.write_text(SPEC)
    for name in ("one", "other"):
        assert harness("run", spec, "--set", LOGGED, runs=folder / name).returncode in {0, 1}
    return only_run(folder / "one"), only_run(folder / "other")


@pytest.mark.slow
class TestWithTheRealWorker:
    def test_no_altered_run_is_called_bitwise(self, real: tuple[Path, Path], tmp_path: Path) -> None:
        doctors = {**FOUND_IN_THE_RECORD, **FOUND_BY_TRAINING}
        passed = []
        for number, (name, doctor) in enumerate(doctors.items()):
            copied = Path(shutil.copytree(real[0], tmp_path / str(number)))
            doctor(copied)
            try:
                passed += [name] if is_called_bitwise(copied, real[1]) else []
            except HarnessError:
                continue
        assert passed == []
        assert is_called_bitwise(*real)

    @pytest.mark.parametrize(
        ("doctored", "said"),
        [
            ("a tensor, and the file's digests", "does not hold the tensors"),
            ("the trace's line everywhere", "diverged at step 3, the loss"),
            ("a figure everywhere", "differs: metrics.train_loss"),
            ("the csv logger's file everywhere", "differs: logs/csv/metrics.csv"),
        ],
    )
    def test_verify_says_what_was_found(
        self, real: tuple[Path, Path], tmp_path: Path, doctored: str, said: str
    ) -> None:
        copied = Path(shutil.copytree(real[0], tmp_path / "run"))
        {**FOUND_IN_THE_RECORD, **FOUND_BY_TRAINING}[doctored](copied)
        answer = harness("verify", copied, runs=tmp_path / "runs")
        assert answer.returncode == 3
        assert said in answer.stdout + answer.stderr
        assert "bitwise" not in answer.stdout
