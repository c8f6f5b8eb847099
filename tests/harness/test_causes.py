"""The cause of a parting acts where the runs part, and is put first."""

from __future__ import annotations

import fnmatch

import pytest

from harness.causes import ACTS, place_of, rank
from harness.code_capture import source_files, source_root
from harness.suspects import Suspect
from ptycho_torch.config import SECTIONS

DECOYS = (
    Suspect("inputs", "name", "name a -> b"),
    Suspect("inputs", "execution.num_workers", "execution.num_workers 0 -> 2"),
    Suspect("inputs", "inference.sync_rounds", "inference.sync_rounds 8 -> 9"),
    Suspect("code", "harness/listing.py", "harness/listing.py changed"),
    Suspect("code", "ptycho_torch/plotting.py", "ptycho_torch/plotting.py changed"),
    Suspect("environment", "lock", "lock a -> b"),
)


@pytest.mark.parametrize(
    ("tensor", "step", "place"),
    [
        ("before/generator.encoder.weight", 0, "weights"),
        ("before/forward_model.probe_parts", 0, "constants"),
        ("before/generator.encoder.weight", 4, "between"),
        ("batch/index", 0, "order"),
        ("batch/measured_intensity", 0, "values"),
        ("data", 0, "values"),
        ("activation/generator.encoder.0#2", 3, "network"),
        ("activation/forward_model", 3, "physics"),
        ("loss", 0, "loss"),
        ("gradient/generator.x", 0, "gradient"),
        ("rate", 6, "rate"),
        ("after/optimizer/exp_avg/x", 0, "update"),
        ("weights", 9, "update"),
        ("length", 9, "end"),
        ("checkpoints/last.ckpt: callbacks/EarlyStopping/patience", 0, "kept"),
        ("batch", 9, "end"),
        ("products", 0, "products"),
    ],
)
def test_a_tensor_has_its_place_in_the_computation_of_a_step(tensor: str, step: int, place: str) -> None:
    assert place_of(tensor, step) == place


@pytest.mark.parametrize(
    ("tensor", "cause"),
    [
        ("checkpoints/last.ckpt: callbacks/x", ("inputs", "execution.early_stop_patience")),
        ("batch/index", ("inputs", "training.batch_size")),
        ("batch/input_amplitude", ("data", "train")),
        ("before/generator.x", ("inputs", "seed")),
        ("before/generator.x", ("inputs", "init_from")),
        ("before/generator.x", ("data", "init_from")),
        ("activation/generator.x", ("code", "ptycho_torch/models/cnn.py")),
        ("activation/forward_model", ("code", "ptycho_torch/physics/forward.py")),
        ("activation/forward_model", ("inputs", "model.object_rim")),
        ("loss", ("inputs", "training.loss")),
        ("loss", ("code", "ptycho_torch/losses/poisson.py")),
        ("gradient/x", ("inputs", "execution.accum_steps")),
        ("rate", ("inputs", "training.stage_factors")),
        ("after/generator.x", ("inputs", "execution.gradient_clip_val")),
        ("length", ("inputs", "training.epochs")),
        ("products", ("inputs", "inference.sync_rounds")),
        ("activation/generator.x", ("inputs", "exactness.threads")),
        ("loss", ("environment", "torch")),
        ("loss", ("environment", "some-package")),
    ],
)
def test_what_acts_where_the_runs_part_comes_first(tensor: str, cause: tuple[str, str]) -> None:
    suspect = Suspect(*cause, sentence="it changed")  # type: ignore[arg-type]
    first, *others = rank((*DECOYS, suspect), tensor, 0)
    assert (first.suspect.area, first.suspect.name) == cause
    assert first.likelihood in {"likely", "possible"}
    assert "where the runs part" in first.reason
    assert {cause.suspect for cause in others} == {*DECOYS, suspect} - {first.suspect}


def test_what_acts_only_later_is_unlikely() -> None:
    [one] = rank([Suspect("inputs", "training.stage_factors", "changed")], "batch/index", 0)
    assert (one.likelihood, one.reason) == (
        "unlikely",
        "it acts on the learning rate, and the runs part before",
    )


def test_a_state_from_which_a_run_went_on_is_the_cause_at_its_own_step_only() -> None:
    attempt = Suspect("attempt", "attempt 2", "it went on", step=7)
    torch = Suspect("environment", "torch", "torch 2 -> 3")
    assert rank([torch, attempt], "before/generator.x", 7)[0].suspect is attempt
    assert rank([torch, attempt], "before/generator.x", 8)[0].suspect is torch


def test_what_does_not_happen_again_is_the_cause() -> None:
    event = Suspect("event", "some run", "it does not do again what it has recorded", step=7)
    assert rank([*DECOYS, event], "before/generator.x", 7)[0].suspect is event


def test_what_a_replay_has_shown_goes_before_what_is_only_likely() -> None:
    package = Suspect("environment", "some-package", "some-package 1 -> 2")
    loss = Suspect("code", "ptycho_torch/losses/poisson.py", "changed")
    assert rank([package, loss], "loss", 0)[0].suspect is loss
    assert rank([package, loss], "loss", 0, shown=("environment",))[0].suspect is package


def test_every_value_of_a_spec_and_every_source_file_is_weighed_on_purpose() -> None:
    values = [
        ("inputs", f"{section}.{name}")
        for section, config in SECTIONS.items()
        for name in config.__dataclass_fields__
    ]
    files = [("code", path) for path in source_files(source_root())]
    unknown = [
        name
        for area, name in (*values, *files)
        if not any(area == one and fnmatch.fnmatchcase(name, pattern) for one, pattern, _ in ACTS)
    ]
    assert unknown == []
    every_pattern = [(area, pattern) for area, pattern, _ in ACTS if area == "code"]
    assert [pair for pair in every_pattern if not fnmatch.filter([name for _, name in files], pair[1])] == []
