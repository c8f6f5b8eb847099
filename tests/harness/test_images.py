"""Which container engine is asked, and what is said when it cannot be; none is needed for that."""

from __future__ import annotations

import hashlib
import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cli import main
from harness.images import EngineError, connect


def plant_context(folder: Path, name: str, host: str) -> Path:
    """Write a context as ``docker context create`` does, and return the file that describes it."""
    meta = folder / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json"
    meta.parent.mkdir(parents=True)
    known = {"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": False}}}
    meta.write_text(json.dumps(known))
    return meta


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Docker client's own settings: the context `mine` is current."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "mine"}))
    return tmp_path


def refusal() -> str:
    with pytest.raises(EngineError) as refused:
        connect()
    return str(refused.value)


def test_the_engine_is_that_of_the_current_context(settings: Path) -> None:
    plant_context(settings, "mine", "unix:///nowhere/mine.sock")
    said = refusal()
    assert "there is no Docker engine here, /nowhere/mine.sock does not exist: " in said
    assert "DOCKER_HOST, docker context use" in said


def test_the_environment_overrules_the_current_context(
    settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_context(settings, "mine", "unix:///nowhere/mine.sock")
    plant_context(settings, "other", "unix:///nowhere/other.sock")
    monkeypatch.setenv("DOCKER_CONTEXT", "other")
    assert "/nowhere/other.sock does not exist" in refusal()
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/host.sock")
    assert "/nowhere/host.sock does not exist" in refusal()


def test_an_engine_on_another_machine_is_refused_by_what_names_it(
    settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_context(settings, "mine", "ssh://me@far.example.org")
    assert "the Docker context 'mine' is ssh://me@far.example.org, an engine on another machine" in refusal()
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
    assert "DOCKER_HOST is tcp://192.0.2.1:2375, an engine on another machine" in refusal()


def test_a_context_that_is_absent_or_damaged_is_named(settings: Path) -> None:
    assert refusal() == "there is no Docker context 'mine' with an engine: docker context use default"
    plant_context(settings, "mine", "unix:///nowhere/mine.sock").write_text("{")
    said = refusal()
    assert said.startswith("the Docker context 'mine' cannot be read (")
    assert said.endswith(": docker context use default")


class BrokenEngine(http.server.BaseHTTPRequestHandler):
    """An engine that knows its version, and answers everything else with an error of its own."""

    def do_GET(self) -> None:
        is_fine = self.path.endswith(("/version", "/_ping"))
        text = json.dumps({"ApiVersion": "1.41"} if is_fine else {"message": "the layer store is broken"})
        self.send_response(200 if is_fine else 500)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *_: object) -> None:
        pass


@pytest.fixture
def broken_engine(tmp_path: Path) -> Iterator[str]:
    address = str(tmp_path / "docker.sock")
    with socketserver.ThreadingUnixStreamServer(address, BrokenEngine) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"unix://{address}"
        server.shutdown()


def test_what_an_engine_refuses_is_said_to_be_the_engines(
    broken_engine: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", broken_engine)
    assert main(["image", "inspect", "some:1"]) == 2
    assert capsys.readouterr().err == "the Docker engine refused: the layer store is broken; see its log\n"
