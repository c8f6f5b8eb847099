"""What the knobs of data loading change, noted where the samples are made: in which process, and when."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from ptycho_torch.data.datamodule import PtychoDataModule
from ptycho_torch.data.dataset import GroupDataset
from ptycho_torch.errors import ConfigError
from ptycho_torch.readers import Scan
from tests.torch.small_training import ONE_STEP, SMALL, MakePayload, fit
from tests.waiting import until

EPOCHS, BATCHES = 3, 4
SETTINGS = SMALL | {"epochs": EPOCHS, "n_groups": 4 * BATCHES, "validation_fraction": 0.0}
BARE = {"enable_checkpointing": False}
WORKERS = pytest.mark.skipif(
    not os.access("/dev/shm", os.W_OK),
    reason="worker processes need a writable /dev/shm, and there is none",
)


@dataclass(frozen=True)
class Made:
    """A batch of samples: the process that made it, and the epoch it is of."""

    process: int
    epoch: int


class Journal:
    """A file to which every process adds a line for each batch that it makes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def note(self, keys: Sequence[Any]) -> None:
        with self.path.open("a") as file:
            file.write(f"{os.getpid()} {keys[0][0]}\n")

    def read(self) -> list[Made]:
        return [Made(*map(int, line.split())) for line in self.path.read_text().splitlines()]

    def processes(self, epoch: int) -> set[int]:
        return {made.process for made in self.read() if made.epoch == epoch}


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    """Let the dataset note each batch that it is asked for; it makes it as ever."""
    noted = Journal(tmp_path / "journal")
    make = GroupDataset.__getitems__

    def noting(dataset: GroupDataset, keys: Sequence[Any]) -> Any:
        noted.note(keys)
        return make(dataset, keys)

    monkeypatch.setattr(GroupDataset, "__getitems__", noting)
    return noted


def test_without_workers_the_training_process_makes_the_batches_itself(
    make_payload: MakePayload, scan: Scan, journal: Journal
) -> None:
    fit(make_payload(SETTINGS, **BARE), scan)
    assert {made.process for made in journal.read()} == {os.getpid()}
    assert len(journal.read()) == EPOCHS * BATCHES


@WORKERS
@pytest.mark.parametrize("number", [1, 2])
def test_so_many_other_processes_make_the_batches_anew_in_every_epoch(
    make_payload: MakePayload, scan: Scan, journal: Journal, number: int
) -> None:
    fit(make_payload(SETTINGS, num_workers=number, **BARE), scan)
    epochs = [journal.processes(epoch) for epoch in range(EPOCHS)]
    assert [len(processes) for processes in epochs] == [number] * EPOCHS
    assert os.getpid() not in set.union(*epochs)
    assert len(set.union(*epochs)) == number * EPOCHS
    assert len(journal.read()) == EPOCHS * BATCHES


@WORKERS
def test_persistent_workers_live_through_all_epochs(
    make_payload: MakePayload, scan: Scan, journal: Journal
) -> None:
    payload = make_payload(SETTINGS, num_workers=2, persistent_workers=True, **BARE)
    fit(payload, scan)
    first = journal.processes(0)
    assert len(first) == 2
    assert all(journal.processes(epoch) == first for epoch in range(EPOCHS))


@WORKERS
@pytest.mark.parametrize("depth", [1, 3])
def test_a_worker_makes_so_many_batches_before_the_first_is_taken(
    make_payload: MakePayload, scan: Scan, journal: Journal, depth: int
) -> None:
    payload = make_payload(SETTINGS, num_workers=1, prefetch_factor=depth)
    loader = PtychoDataModule(payload, scan, None, seed=1).train_dataloader()
    batches = iter(loader)
    assert settled(journal, depth) == depth
    next(batches)
    more = min(depth + 1, BATCHES)
    assert settled(journal, more) == more


def settled(journal: Journal, expected: int) -> int:
    """Wait until so many batches are made, and a moment longer; return how many there are then."""
    until(lambda: len(journal.read()) >= expected, f"{expected} batches")
    time.sleep(0.5)
    return len(journal.read())


def test_pinned_memory_is_refused_on_a_processor_by_name(make_payload: MakePayload) -> None:
    with pytest.raises(ConfigError, match="pin_memory.*accelerator 'cpu', which has no pinned memory"):
        make_payload(ONE_STEP, pin_memory=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="only a graphics card has use for pinned memory")
@pytest.mark.parametrize("pin_memory", [True, False])
def test_batches_for_a_graphics_card_are_pinned_when_asked_for(
    make_payload: MakePayload, scan: Scan, pin_memory: bool
) -> None:
    payload = make_payload(ONE_STEP, accelerator="cuda", pin_memory=pin_memory)
    batch = next(iter(PtychoDataModule(payload, scan, None, seed=1).train_dataloader()))
    assert batch.input_amplitude.is_pinned() is pin_memory
