"""Checkpoints are read without torch: the same tensors that torch wrote, and nothing that runs."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.checkpoint_file import UnreadableError, differing_parts, read_checkpoint, weights_digest
from ptycho_torch.exact.checkpoint_io import DurableCheckpointIO
from ptycho_torch.exact.digest import tensor_digest
from tests.harness.torch_archive import write_checkpoint

TYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128]
TYPES += [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]


def tensors() -> dict[str, torch.Tensor]:
    numbers = torch.arange(24).reshape(2, 3, 4)
    made = {str(dtype): numbers.to(dtype) for dtype in TYPES}
    return {
        **made,
        "transposed": numbers.float().permute(2, 0, 1),
        "a part": numbers.float()[:, 1:, ::2],
        "a scalar": torch.tensor(2.5),
        "nothing": torch.zeros(0, 3),
        "spread out": torch.ones(1).expand(5),
        "a parameter": torch.nn.Parameter(torch.ones(3)),
    }


def saved(path: Path, **more: object) -> Path:
    DurableCheckpointIO().save_checkpoint({"state_dict": tensors(), **more}, path)
    return path


def test_every_tensor_has_the_bytes_that_torch_wrote(tmp_path: Path) -> None:
    content = read_checkpoint(saved(tmp_path / "a.ckpt"))
    for name, tensor in tensors().items():
        read = content["state_dict"][name]
        assert (read.dtype, read.shape) == (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        if tensor.dtype != torch.bfloat16:
            assert read.content == np.ascontiguousarray(tensor.detach().numpy()).tobytes()
    assert weights_digest(content) == tensor_digest(tensors())


def test_what_differs_is_named_by_its_place(tmp_path: Path) -> None:
    first = read_checkpoint(saved(tmp_path / "a.ckpt", epoch=1, optimizer=[{"lr": 0.1, "m": torch.ones(2)}]))
    other = [{"lr": 0.2, "m": torch.ones(3)}]
    second = read_checkpoint(saved(tmp_path / "b.ckpt", epoch=1, optimizer=other, extra=None))
    assert list(differing_parts(first, second)) == ["optimizer/0/lr", "optimizer/0/m", "extra"]
    assert list(differing_parts(first, first)) == []


def test_a_number_of_another_type_or_sign_differs() -> None:
    assert list(differing_parts({"a": 1, "b": 0.0}, {"a": 1.0, "b": -0.0})) == ["a", "b"]


def test_torch_reads_what_the_tests_write_without_it(tmp_path: Path) -> None:
    digest = write_checkpoint(tmp_path / "a.ckpt", {"w": [1.0, 2.5], "b": [-3.0]}, epoch=4)
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert content["state_dict"]["w"].tolist() == [1.0, 2.5]
    assert content["epoch"] == 4
    assert digest == tensor_digest(content["state_dict"])
    assert digest == weights_digest(read_checkpoint(tmp_path / "a.ckpt"))


def repacked(path: Path, name: str, content: bytes) -> Path:
    with zipfile.ZipFile(path) as archive:
        parts = {part: archive.read(part) for part in archive.namelist()}
    (whole,) = (part for part in parts if part.endswith(name))
    parts[whole] = content
    with zipfile.ZipFile(path, "w") as archive:
        for part, kept in parts.items():
            archive.writestr(part, kept)
    return path


class Program:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1 + 1",)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pickle.dumps(Program()), "asks for builtins.eval"),
        (pickle.dumps([1]), "holds a list"),
        (b"", "cannot be read"),
        (b"\x80\x02.", "cannot be read"),
    ],
)
def test_a_pickle_that_is_no_checkpoint_is_refused_and_runs_nothing(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    with pytest.raises(UnreadableError, match=reason):
        read_checkpoint(repacked(saved(tmp_path / "a.ckpt"), "data.pkl", content))


def test_values_that_are_cut_short_are_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a.ckpt", {"w": [1.0, 2.5]})
    with pytest.raises(UnreadableError, match="have 3 bytes, not 8"):
        read_checkpoint(repacked(tmp_path / "a.ckpt", "data/0", b"abc"))


@pytest.mark.parametrize("size", [0, 10, 400])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, size: int) -> None:
    path = saved(tmp_path / "a.ckpt")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UnreadableError, match=r"a\.ckpt cannot be read"):
        read_checkpoint(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_parts_of_one_name_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.ckpt")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(archive.namelist()[0], b"another")
    with pytest.raises(UnreadableError, match="two parts of one name"):
        read_checkpoint(path)
