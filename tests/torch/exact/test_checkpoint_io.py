from __future__ import annotations

import os
import resource
import signal
import stat
import zipfile
from pathlib import Path

import pytest
import torch

from ptycho_torch.errors import CheckpointError
from ptycho_torch.exact.checkpoint_io import DurableCheckpointIO, resume_position
from tests.disk_calls import file_sync, folder_sync, note_disk_calls, rename_to

CHECKPOINT = {"state_dict": {"weight": torch.arange(5000.0)}, "epoch": 3, "names": ["a", "b"]}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    DurableCheckpointIO().save_checkpoint(CHECKPOINT, tmp_path / "checkpoints" / "last.ckpt")
    return tmp_path / "checkpoints" / "last.ckpt"


def test_a_checkpoint_comes_back_and_leaves_nothing_beside_it(saved: Path):
    loaded = DurableCheckpointIO().load_checkpoint(saved)
    assert torch.equal(loaded["state_dict"]["weight"], torch.arange(5000.0))
    assert (loaded["epoch"], loaded["names"]) == (3, ["a", "b"])
    assert [path.name for path in saved.parent.iterdir()] == ["last.ckpt"]


def test_a_checkpoint_gets_its_name_after_its_bytes_are_on_the_disk_and_before_its_folder_is(
    saved: Path, monkeypatch: pytest.MonkeyPatch
):
    calls = note_disk_calls(monkeypatch)
    DurableCheckpointIO().save_checkpoint(CHECKPOINT, saved)
    assert calls == [file_sync(saved), rename_to(saved), folder_sync(saved.parent)]


def test_a_checkpoint_that_is_removed_stays_removed(saved: Path, monkeypatch: pytest.MonkeyPatch):
    calls = note_disk_calls(monkeypatch)
    DurableCheckpointIO().remove_checkpoint(saved)
    assert calls == [folder_sync(saved.parent)]


def test_the_same_state_gives_the_same_bytes_under_any_name(saved: Path):
    other = saved.with_name("another-name.ckpt")
    DurableCheckpointIO().save_checkpoint(CHECKPOINT, other)
    assert other.read_bytes() == saved.read_bytes()


def test_a_checkpoint_is_as_readable_as_any_new_file(saved: Path):
    plain = saved.with_name("plain")
    plain.touch()
    assert stat.S_IMODE(saved.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_save_that_fails_keeps_the_old_file_and_no_other(saved: Path):
    before = saved.read_bytes()
    with pytest.raises(Exception, match="pickle"):
        DurableCheckpointIO().save_checkpoint({"function": lambda: None}, saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.999])
def test_a_torn_file_is_refused(saved: Path, kept: float):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError, match=r"last\.ckpt"):
        DurableCheckpointIO().load_checkpoint(saved)


def test_one_flipped_bit_of_a_tensor_is_found(saved: Path):
    content = bytearray(saved.read_bytes())
    content[len(content) // 2] ^= 4
    saved.write_bytes(content)
    with pytest.raises(CheckpointError, match="checksum"):
        DurableCheckpointIO().load_checkpoint(saved)


def test_a_file_of_another_kind_is_refused(saved: Path):
    saved.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="not a whole torch checkpoint"):
        DurableCheckpointIO().load_checkpoint(saved)
    with zipfile.ZipFile(saved, "w") as archive:
        archive.writestr("readme.txt", "a zip, but no checkpoint")
    with pytest.raises(CheckpointError, match="cannot be read"):
        DurableCheckpointIO().load_checkpoint(saved)
    torch.save([1, 2], saved)
    with pytest.raises(CheckpointError, match="holds a list"):
        DurableCheckpointIO().load_checkpoint(saved)


class Explosive:
    def __reduce__(self):
        return os._exit, (66,)


def test_pickled_code_is_never_run_whatever_is_asked_for(saved: Path):
    torch.save({"state_dict": Explosive()}, saved)
    with pytest.raises(CheckpointError, match="cannot be read"):
        DurableCheckpointIO().load_checkpoint(saved, weights_only=False)


def test_an_absent_checkpoint_is_an_error_to_load_but_not_to_remove(saved: Path):
    DurableCheckpointIO().remove_checkpoint(saved)
    DurableCheckpointIO().remove_checkpoint(saved)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        DurableCheckpointIO().load_checkpoint(saved)


def test_storage_options_are_refused(tmp_path: Path):
    with pytest.raises(CheckpointError, match="storage_options"):
        DurableCheckpointIO().save_checkpoint({}, tmp_path / "last.ckpt", storage_options={"a": 1})


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"last\.ckpt: the checkpoint cannot be written"):
        DurableCheckpointIO().save_checkpoint({}, tmp_path / "file" / "last.ckpt")


@pytest.mark.parametrize("heals", [False, True], ids=["for good", "once"])
def test_a_disk_that_takes_no_more_is_named(saved: Path, heals: bool):
    before = saved.read_bytes()
    large = {"state_dict": {name: torch.zeros(1 << 18) for name in "abcd"}}  # four MiB
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)

    def heal(*_: object) -> None:
        if heals:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)

    ignored = signal.signal(signal.SIGXFSZ, heal)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, unlimited[1]))
    try:
        with pytest.raises(CheckpointError, match=r"last\.ckpt: .* cannot be written .*File too large"):
            DurableCheckpointIO().save_checkpoint(large, saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        signal.signal(signal.SIGXFSZ, ignored)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["last.ckpt"]


def test_a_checkpoint_without_progress_has_no_position():
    with pytest.raises(CheckpointError, match="where it stands"):
        resume_position(CHECKPOINT)
