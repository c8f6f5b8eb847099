"""SIGKILL at every optimizer step: every resume ends in the bits of the run that nobody killed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.proof.conftest import Tally
from tests.proof.forked import UNHARMED, Death, Forks, Subject, continued_from, differing, facts
from tests.proof.specs import (
    EVERYTHING,
    EVERYTHING_STEPS,
    EVERYTHING_STEPS_AN_EPOCH,
    OWN_NETWORK,
    SMALL,
)

pytestmark = pytest.mark.proof
CHUNK = 10
POINTS = 12


def subject_of(forks: Forks, place: Path, name: str, text: str, *sets: str) -> Subject:
    folder = place / name
    folder.mkdir(exist_ok=True)
    spec = folder / "spec.yaml"
    spec.write_text(text)
    return Subject(forks, spec, folder / "runs", sets)


def everything_of(forks: Forks, place: Path, name: str, *sets: str) -> tuple[Subject, dict[str, Any]]:
    subject = subject_of(forks, place, name, EVERYTHING, *sets)
    unharmed = subject.run(UNHARMED, "checkpoints.every_steps=null")
    assert unharmed.manifest.metrics["steps"] == EVERYTHING_STEPS
    return subject, facts(unharmed.path)


@pytest.fixture(scope="module")
def everything(forks: Forks, place: Path) -> tuple[Subject, dict[str, Any]]:
    return everything_of(forks, place, "everything", *OWN_NETWORK)


@pytest.fixture(scope="module")
def everything_large(forks: Forks, place: Path) -> tuple[Subject, dict[str, Any]]:
    return everything_of(forks, place, "everything large")


@pytest.mark.parametrize("first", range(1, EVERYTHING_STEPS + 1, CHUNK))
def test_a_kill_inside_any_step_with_everything_on(
    everything: tuple[Subject, dict[str, Any]], tmp_path: Path, tally: Tally, first: int
) -> None:
    """SIGKILL inside every optimizer step, everything on."""
    subject, wanted = everything
    # The first of ten is killed once; from then on it is killed a step later each time, and each time a copy
    # of it goes on to the end.
    killed = subject.run(Death(step=first)).path
    for step in range(first, first + CHUNK):
        copy = Path(shutil.copytree(killed, tmp_path / str(step) / killed.name))
        finished = subject.resume(copy)
        stood = continued_from(finished.manifest)[-1]
        tally.point(
            f"step {step}", [*differing(facts(copy), wanted), *([f"from {stood}"] * (stood != step - 1))]
        )
        shutil.rmtree(copy)
        if step < min(first + CHUNK - 1, EVERYTHING_STEPS):
            subject.resume(killed, Death(step=2))
    shutil.rmtree(killed)
    tally.close()


@pytest.mark.parametrize("epoch", range(3))
def test_two_kills_within_one_epoch_with_everything_on(
    everything_large: tuple[Subject, dict[str, Any]], tally: Tally, epoch: int
) -> None:
    """SIGKILL twice within one epoch, everything on, default network."""
    subject, wanted = everything_large
    for first, second in ((1, 2), (7, 13), (19, 20)):
        begun = EVERYTHING_STEPS_AN_EPOCH * epoch
        # The second life begins after step first - 1.
        deaths = [Death(step=begun + first), Death(step=second - first + 1)]
        finished = subject.die_and_end(deaths)
        tally.point(f"steps {begun + first} and {begun + second}", differing(facts(finished.path), wanted))
        shutil.rmtree(finished.path)
    tally.close()


OPTIONS: dict[str, tuple[str, ...]] = {
    "workers 0": ("execution.num_workers=0", "execution.persistent_workers=false"),
    "workers 1, not persistent": ("execution.num_workers=1", "execution.persistent_workers=false"),
    "accumulation 1": ("execution.accum_steps=1",),
    "accumulation 3": ("execution.accum_steps=3", "training.epochs=4"),
    "constant rate": ("execution.scheduler=Default", "training.lr_warmup_epochs=0.0"),
    "Exponential": ("execution.scheduler=Exponential", "training.lr_warmup_epochs=0.0"),
    "MultiStage": ("execution.scheduler=MultiStage", "training.lr_warmup_epochs=0.0"),
    "ReduceLROnPlateau": (
        "execution.scheduler=ReduceLROnPlateau",
        "training.lr_warmup_epochs=0.0",
        "training.plateau_patience=0",
    ),
    "WarmupCosine, gridsize 1": (),
    "gridsize 2, patches merged": ("model.gridsize=2",),
    "MAE": ("training.loss=mae",),
    "early stopping about to fire": (
        "execution.scheduler=Default",
        "training.lr_warmup_epochs=0.0",
        "execution.learning_rate=0.03",
        "execution.early_stop_patience=2",
        "training.epochs=30",
        "training.n_groups=14",
    ),
    "no validation": ("data.validation_fraction=0.0", "execution.checkpoint_monitor_metric=train_loss"),
    "clipping, TensorBoard, three best kept": (
        "execution.gradient_clip_val=0.01",
        "execution.logger_backend=tensorboard",
        "execution.checkpoint_save_top_k=3",
    ),
    "probe trained, attention": ("model.probe_trainable=true", "model.attention=true"),
}
WITH_DEFAULT_NETWORK = {
    "ReduceLROnPlateau",
    "WarmupCosine, gridsize 1",
    "gridsize 2, patches merged",
    "MAE",
    "early stopping about to fire",
    "probe trained, attention",
}


@pytest.mark.parametrize("option", OPTIONS)
def test_a_kill_inside_twelve_steps_of_every_option(
    forks: Forks, tmp_path: Path, tally: Tally, option: str
) -> None:
    """SIGKILL inside twelve steps of every other option."""
    network = () if option in WITH_DEFAULT_NETWORK else OWN_NETWORK
    subject = subject_of(forks, tmp_path, "option", SMALL, *network, *OPTIONS[option])
    unharmed = subject.run(UNHARMED, "checkpoints.every_steps=null")
    wanted = facts(unharmed.path)
    steps = int(unharmed.manifest.metrics["steps"])
    assert steps >= POINTS
    if "early" in option:
        assert unharmed.manifest.metrics["epochs"] < 30
    for step in range(steps - POINTS + 1, steps + 1):
        twice = [Death(step=1)] if step % 4 == 0 else []
        finished = subject.die_and_end([Death(step=step), *twice])
        tally.point(f"{option}, step {step}", differing(facts(finished.path), wanted))
        assert len(finished.manifest.attempts) == 2 + len(twice)
        shutil.rmtree(finished.path)
    tally.close()
