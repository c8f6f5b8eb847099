from __future__ import annotations

from pathlib import Path

import pytest

from harness.spec_template import spec_text, suggested_name
from ptycho_torch.headers import ScanHeader, read_header
from tests.harness.spec_kit import resolved, write_scan


@pytest.mark.parametrize("file", ["scan.npz", "my scan: 1.npz", "no", "1e3.npz", "ä'\"\\.npz", "# x.npz"])
def test_the_spec_for_a_data_file_resolves_as_it_is(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_bytes(b"")
    digest = write_scan(tmp_path / "made.npz")
    (tmp_path / "made.npz").replace(tmp_path / file)
    text = spec_text(read_header(tmp_path / file), file=file, sha256=digest, spec="scan.yaml")
    run = resolved(tmp_path, text).run
    assert run.sources["train"].sha256 == digest
    assert run.payload.training.n_groups == 38


@pytest.mark.parametrize("epochs", [1, 3, 500])
def test_the_spec_still_resolves_with_any_number_of_epochs(tmp_path: Path, epochs: int) -> None:
    digest = write_scan(tmp_path / "scan.npz")
    text = spec_text(read_header(tmp_path / "scan.npz"), file="scan.npz", sha256=digest, spec="scan.yaml")
    training = resolved(tmp_path, text, f"training.epochs={epochs}").run.payload.training
    assert (training.epochs, training.lr_warmup_epochs, training.lr_warmup_fraction) == (epochs, 0.0, 0.03)


@pytest.mark.parametrize("n_frames", [1, 2, 19, 20, 30, 39, 516, 100_000])
def test_the_suggested_groups_are_the_frames_that_are_trained_on(n_frames: int) -> None:
    header = ScanHeader(file="x.npz", N=64, n_frames=n_frames, format="npz")
    text = spec_text(header, file="x.npz", sha256="0" * 64, spec="x.yaml")
    n_groups = int(text.split("n_groups: ")[1].split()[0])
    assert 1 <= n_groups <= max(1, n_frames - 1)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a/star.npz", "star"),
        ("siemens.npz.bz2", "siemens"),
        ("my scan.npz", "my-scan"),
        ("…", "run"),
        (".x", "x"),
    ],
)
def test_the_run_is_named_after_the_file(file: str, name: str) -> None:
    assert suggested_name(file) == name


def test_a_tike_file_gets_no_conventions_that_it_fixes_itself() -> None:
    header = ScanHeader(file="x", N=128, n_frames=516, units="count_intensity", format="tike")
    text = spec_text(header, file="x.npz.bz2", sha256="0" * 64, spec="x.yaml")
    assert "positions:" not in text
    assert "units:" not in text
