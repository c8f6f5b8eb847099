"""A network that a training starts from: how it is found, what of it is decided, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from harness.errors import SpecError
from harness.resolved import INIT_FROM
from harness.store import file_digest
from ptycho_torch.config import ModelConfig
from ptycho_torch.exact.checkpoint_io import DurableCheckpointIO
from ptycho_torch.exact.digest import tensor_digest
from tests.harness.spec_kit import SMALL, resolved


def save(path: Path, value: float = 1.0, **model: object) -> Path:
    """Save a checkpoint of one weight and say that it belongs to this network."""
    facts = dataclasses.asdict(ModelConfig()) | model
    state = {"generator.weight": torch.full((3,), value)}
    path.parent.mkdir(exist_ok=True)
    DurableCheckpointIO().save_checkpoint({"state_dict": state, "hyper_parameters": {"model": facts}}, path)
    return path


def start_from(name: object) -> str:
    return f"{SMALL}init_from: {name}\n"


def refusal(folder: Path, name: object, *sets: str) -> str:
    with pytest.raises(SpecError) as caught:
        resolved(folder, start_from(name), *sets)
    [problem] = caught.value.problems
    assert problem.key == INIT_FROM
    return problem.sentence


def test_a_checkpoint_beside_the_spec_becomes_an_input_with_both_its_digests(tmp_path: Path) -> None:
    path = save(tmp_path / "before.ckpt")
    found = resolved(tmp_path, start_from("before.ckpt"))
    source = found.run.sources[INIT_FROM]
    assert (source.name, source.sha256, source.size) == (path.name, file_digest(path), path.stat().st_size)
    assert source.tensor_digest == tensor_digest({"generator.weight": torch.ones(3)})
    assert found.inputs[INIT_FROM] == str(path)


def test_where_it_lies_decides_nothing_and_its_weights_do(tmp_path: Path) -> None:
    save(tmp_path / "before.ckpt")
    save(tmp_path / "elsewhere" / "other.ckpt")
    save(tmp_path / "apart.ckpt", value=2.0)
    digests = [
        resolved(tmp_path, start_from(name)).run.digest
        for name in ("before.ckpt", tmp_path / "elsewhere" / "other.ckpt", "apart.ckpt", "null")
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_an_absolute_path_is_not_kept(tmp_path: Path) -> None:
    found = resolved(tmp_path, start_from(save(tmp_path / "before.ckpt")))
    value, origin = found.run.leaves()[INIT_FROM]
    assert (value, origin.note) == ("before.ckpt", "written with its absolute path")


def test_it_is_found_in_a_data_folder(tmp_path: Path) -> None:
    path = save(tmp_path / "data" / "before.ckpt")
    found = resolved(tmp_path, start_from("before.ckpt"), data_dirs=(tmp_path / "data",))
    assert found.inputs[INIT_FROM] == str(path)


def test_another_network_is_refused_and_every_field_that_differs_is_named(tmp_path: Path) -> None:
    save(tmp_path / "before.ckpt", n_filters_scale=1, attention=False)
    said = refusal(tmp_path, "before.ckpt")
    assert said == (
        "the weights of before.ckpt do not fit this network: "
        "model.n_filters_scale is 2 here and was 1, model.attention is True here and was False"
    )


def test_what_is_no_topology_may_differ(tmp_path: Path) -> None:
    save(tmp_path / "before.ckpt", probe_trainable=True, amplitude_level=0.25)
    assert INIT_FROM in resolved(tmp_path, start_from("before.ckpt")).run.sources


def test_what_is_not_there_is_refused_with_where_was_looked(tmp_path: Path) -> None:
    assert str(tmp_path) in refusal(tmp_path, "nowhere.ckpt")


def test_a_folder_that_is_no_run_and_a_file_that_is_no_checkpoint_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.ckpt").write_text("hello")
    assert "neither a run nor a checkpoint file" in refusal(tmp_path, "folder")
    assert "cannot be read as a checkpoint" in refusal(tmp_path, "text.ckpt")
    DurableCheckpointIO().save_checkpoint({"state_dict": {}}, tmp_path / "bare.ckpt")
    assert "does not say of which network" in refusal(tmp_path, "bare.ckpt")


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": {}, "hyper_parameters": None},
        {"state_dict": {}, "hyper_parameters": [1]},
        {"state_dict": {"generator.weight": 1.0}, "hyper_parameters": {"model": {}}},
        {"state_dict": None, "hyper_parameters": {"model": {}}},
    ],
)
def test_a_checkpoint_of_other_parts_is_refused_in_the_same_sentence(
    tmp_path: Path, content: dict[str, object]
) -> None:
    DurableCheckpointIO().save_checkpoint(content, tmp_path / "odd.ckpt")
    assert "does not say of which network" in refusal(tmp_path, "odd.ckpt")
