from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from harness.cache import cache_folder
from harness.called import CALLED_AS, FETCHED_AS
from harness.cli import main
from harness.errors import SpecError, UserError
from harness.fetch import Fetcher
from harness.resolve import resolve
from harness.spec import read_spec
from tests.harness.spec_kit import LOCAL, write, write_scan


def test_a_file_is_downloaded_once_and_checked(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = served
    (folder / "scan.npz").write_bytes(b"frames")
    digest = hashlib.sha256(b"frames").hexdigest()
    fetch = Fetcher(tmp_path / "cache")
    path = fetch(f"{address}/scan.npz", digest, "scan.npz")
    assert path.read_bytes() == b"frames"
    (folder / "scan.npz").unlink()
    assert fetch(f"{address}/scan.npz", digest, "scan.npz") == path
    assert Fetcher(tmp_path / "cache", may_download=False)(f"{address}/scan.npz", digest, "scan.npz") == path


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_a_file_that_was_downloaded_is_for_those_whom_the_umask_lets_read(
    served: tuple[Path, str], tmp_path: Path, mask: int, mode: int
) -> None:
    folder, address = served
    (folder / "scan.npz").write_bytes(b"frames")
    digest = hashlib.sha256(b"frames").hexdigest()
    before = os.umask(mask)
    try:
        path = Fetcher(tmp_path / "cache")(f"{address}/scan.npz", digest, "scan.npz")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert list(path.parent.iterdir()) == [path]


def test_another_file_under_the_address_is_refused_and_not_kept(
    served: tuple[Path, str], tmp_path: Path
) -> None:
    folder, address = served
    (folder / "scan.npz").write_bytes(b"other frames")
    with pytest.raises(UserError, match="not the file that was asked for"):
        Fetcher(tmp_path / "cache")(f"{address}/scan.npz", "0" * 64, "scan.npz")
    assert list((tmp_path / "cache").rglob("*.npz")) == []


def test_an_address_that_does_not_answer_is_said_so(served: tuple[Path, str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be fetched"):
        Fetcher(tmp_path / "cache")(f"{served[1]}/absent.npz", "0" * 64, "absent.npz")


def test_nothing_is_downloaded_where_it_may_not_be(served: tuple[Path, str], tmp_path: Path) -> None:
    for spec, named in ((None, "SPEC"), (Path("my spec.yaml"), "'my spec.yaml'")):
        fetch = Fetcher(tmp_path / "cache", may_download=False, spec=spec)
        with pytest.raises(UserError, match=f"no data folder yet: `harness fetch {named}` downloads it"):
            fetch(f"{served[1]}/scan.npz", "0" * 64, "scan.npz")


def test_a_source_is_downloaded_when_no_folder_has_it(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = served
    digest = write_scan(folder / "scan.npz")
    train = f"{{source: '{address}/scan.npz', sha256: {digest}}}"
    text = f"name: x\ndata:\n  train: {train}\ntraining: {{n_groups: 8}}\n"
    spec = read_spec(write(tmp_path, text))
    with pytest.raises(SpecError, match=f"`harness fetch {spec.path}` downloads it from {address}"):
        resolve(spec, LOCAL)
    resolution = resolve(spec, LOCAL, fetch=Fetcher(tmp_path / "cache"))
    assert resolution.run.sources["train"].sha256 == digest
    assert Path(resolution.inputs["train"]).is_relative_to(tmp_path / "cache")


def test_the_fetch_command_brings_the_data_here_and_says_where_they_are(
    served: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, address = served
    digest = write_scan(folder / "scan.npz")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    train = f"{{source: '{address}/scan.npz', sha256: {digest}}}"
    spec = write(
        tmp_path,
        f"name: x\ndata:\n  train: {train}\n  test: {{simulate: {{}}}}\ntraining: {{n_groups: 8}}\n",
    )
    assert main(["fetch", str(spec)]) == 0
    kept = tmp_path / "cache" / "data" / digest / "scan.npz"
    assert capsys.readouterr().out.splitlines() == [
        f"train      {kept}",
        "test       simulated by the run, nothing to fetch",
    ]
    kept.unlink()
    (folder / "scan.npz").unlink()
    assert main(["fetch", str(spec)]) == 2
    by_hand = "get it on another machine, and name its folder by --data-dir or HARNESS_DATA\n"
    assert f"scan.npz cannot be fetched (HTTPError): {by_hand}" in capsys.readouterr().err


def test_what_cannot_be_fetched_is_said_as_it_is_inside_and_outside_a_container_with_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "http://127.0.0.1:1/scan.npz"  # where nothing listens

    def said() -> str:
        with pytest.raises(UserError) as refused:
            Fetcher(tmp_path / "cache")(address, "0" * 64, "scan.npz")
        return str(refused.value).partition("(ConnectionError): ")[2]

    by_hand, by_data = "get it on another machine, and name its folder by", "DATA=/folder or DATA=./folder"
    assert said() == f"{by_hand} --data-dir or HARNESS_DATA"
    monkeypatch.setenv(CALLED_AS, "docker-compose run --rm harness")
    monkeypatch.setenv(FETCHED_AS, "")  # as in the service fetch, which has a network
    assert said() == f"{by_hand} {by_data}"
    fetch = "docker-compose run --rm fetch SPEC"
    monkeypatch.setenv(FETCHED_AS, fetch)
    assert said() == f"there is no network here, `{fetch}` has one; or {by_hand} {by_data}"
    with pytest.raises(UserError, match=f"in no data folder yet: `{fetch}` downloads it from"):
        Fetcher(tmp_path / "cache", may_download=False)(address, "0" * 64, "scan.npz")


def test_a_file_that_is_not_in_the_folder_that_compose_mounts_is_answered_with_how_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = read_spec(write(tmp_path, "name: x\ndata: {train: {file: scan.npz}}\ntraining: {n_groups: 8}\n"))
    monkeypatch.setenv(CALLED_AS, "docker-compose run --rm harness")
    cure = "give its folder by DATA=/folder or DATA=./folder"
    with pytest.raises(SpecError, match=rf"no file scan.npz in .*; {cure}"):
        resolve(spec, LOCAL, data_dirs=[tmp_path / "data"])


def test_the_cache_is_where_the_environment_says() -> None:
    assert cache_folder({"HARNESS_CACHE": "/a"}) == Path("/a")
    assert cache_folder({"XDG_CACHE_HOME": "/b"}) == Path("/b/ptychopinn-harness")
