"""A training that starts from another run's weights, on the command line and with the real worker."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.cli import main
from harness.errors import ExitCode
from harness.store import file_digest
from ptycho_torch.exact.checkpoint_io import DurableCheckpointIO
from tests.harness.conftest import write_scan

SPEC = """\
name: {name}
seed: {seed}
data: {{train: {{file: {scan}}}, validation_fraction: 0}}
model: {{n_filters_scale: 1, attention: false, probe_big: false}}
training: {{n_groups: 8, epochs: 1, batch_size: 8}}
execution: {{learning_rate: 1e-12}}
products: {{reconstruction: false, pictures: false}}
"""
pytestmark = pytest.mark.slow  # each of half a dozen runs imports torch


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two scans, a run on the first, and a run that goes on from it on the second."""
    folder = tmp_path_factory.mktemp("shop")
    write_scan(folder / "scan.npz")
    write_scan(folder / "other.npz", n_frames=50)
    after = f"{SPEC.format(name='after', seed=2, scan='other.npz')}init_from: runs/before\n"
    for name, text in {"before": SPEC.format(name="before", seed=1, scan="scan.npz"), "after": after}.items():
        assert train(folder, text) == ExitCode.OK
        [run] = (folder / "runs").glob(f"{name}-*")
        run.rename(folder / "runs" / name)
    return folder


def train(folder: Path, text: str) -> int:
    spec = folder / "spec.yaml"
    spec.write_text(text)
    return main(["run", str(spec), "--runs-dir", str(folder / "runs")])


def manifest(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "manifest.json").read_text()))


def network(run: Path) -> dict[str, torch.Tensor]:
    state = DurableCheckpointIO().load_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]
    return {name: tensor for name, tensor in state.items() if name.startswith("generator.")}


def test_the_network_starts_from_the_weights_of_the_run_that_was_named(shop: Path) -> None:
    # The rate moves no weight by more than 1e-12 a step, and another seed alone gives other weights.
    before, after = network(shop / "runs" / "before"), network(shop / "runs" / "after")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-9)


def test_the_checkpoint_is_recorded_as_an_input(shop: Path) -> None:
    digests = {data["role"]: data["sha256"] for data in manifest(shop / "runs" / "after")["data"]}
    assert digests["init_from"] == file_digest(shop / "runs" / "before" / "checkpoints" / "last.ckpt")


def test_it_is_on_record_whether_that_network_had_collapsed(shop: Path) -> None:
    judged = SPEC.format(name="judged", seed=1, scan="scan.npz").replace("reconstruction: false, ", "")
    assert train(shop, judged) == ExitCode.RUN_FAILED
    [collapsed] = (shop / "runs").glob("judged-*")
    assert manifest(collapsed)["status"] == "collapsed"
    onward = f"{SPEC.format(name='onward', seed=2, scan='other.npz')}init_from: runs/{collapsed.name}\n"
    assert train(shop, onward) == ExitCode.OK
    [run] = (shop / "runs").glob("onward-*")
    for path, has_collapsed in ((run, True), (shop / "runs" / "after", False)):
        sources = json.loads((path / "resolved.json").read_text())["sources"]
        assert sources["init_from"]["has_collapsed"] is has_collapsed


def test_it_repeats_bit_by_bit(shop: Path) -> None:
    assert main(["verify", "after", "--runs-dir", str(shop / "runs")]) == ExitCode.OK


@contextlib.contextmanager
def to_be_spoilt(path: Path) -> Iterator[bytes]:
    """Give a file's bytes, and put them back in the end."""
    kept = path.read_bytes()
    try:
        yield kept
    finally:
        path.write_bytes(kept)


def test_a_repetition_is_refused_in_a_sentence_when_the_weights_are_others_or_gone(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shop / "runs" / "before" / "checkpoints" / "last.ckpt"
    with to_be_spoilt(path) as kept:
        path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        assert main(["rerun", "after", "--runs-dir", str(shop / "runs")]) == ExitCode.DIFFERS
        assert f"init_from: {path} has sha256" in capsys.readouterr().err
        path.unlink()
        assert main(["rerun", "after", "--runs-dir", str(shop / "runs")]) == ExitCode.BAD_INPUT
        assert "init_from: no file with sha256" in capsys.readouterr().err


def test_a_run_whose_checkpoint_was_altered_is_not_started_from(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shop / "runs" / "before" / "checkpoints" / "last.ckpt"
    with to_be_spoilt(path) as kept:
        path.write_bytes(kept[:-1])
        text = f"{SPEC.format(name='never', seed=2, scan='scan.npz')}init_from: runs/before\n"
        assert train(shop, text) == ExitCode.BAD_INPUT
        assert "last.ckpt is missing or damaged" in capsys.readouterr().err


def test_a_border_of_another_width_is_another_network(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide = SPEC.format(name="wide", seed=1, scan="scan.npz").replace(
        "probe_big: false", "probe_big: true, border_channels: {channels}"
    )
    assert train(shop, wide.replace("{channels}", "4")) == ExitCode.OK
    [run] = (shop / "runs").glob("wide-*")
    onward = f"{wide.replace('name: wide', 'name: onward')}init_from: runs/{run.name}\n"
    assert train(shop, onward.replace("{channels}", "1")) == ExitCode.BAD_INPUT
    assert "model.border_channels is 1 here and was 4" in capsys.readouterr().err
    assert train(shop, onward.replace("{channels}", "4")) == ExitCode.OK
