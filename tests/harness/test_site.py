"""What a site sets for images is found where compose finds it, and names what is built and looked up."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cli import main
from harness.errors import ExitCode, UserError
from harness.site import REPOSITORY, repository, site_settings

ROOT = Path(__file__).parents[2]


def test_the_environment_overrules_the_file_of_the_checkout_and_what_is_empty_names_nothing(
    tmp_path: Path,
) -> None:
    assert repository(tmp_path, {}) == REPOSITORY
    (tmp_path / ".env").write_text("# mine\nMEMORY=4g\nexport IMAGE='from-file'\n", encoding="utf-8")
    assert repository(tmp_path, {}) == "from-file"
    assert repository(tmp_path, {"IMAGE": "told"}) == "told"
    assert repository(tmp_path, {"IMAGE": ""}) == REPOSITORY
    assert site_settings(tmp_path, {"IMAGE": "told"}) == {"MEMORY": "4g", "IMAGE": "told"}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("mine  # note", "mine"),
        ("mine#1", "mine#1"),
        ("'mine'\t# it's a note", "mine"),
        ('"mine # own"', "mine # own"),
    ],
)
def test_a_note_behind_a_value_is_none_of_it(tmp_path: Path, written: str, meant: str) -> None:
    (tmp_path / ".env").write_text(f"IMAGE={written}\n", encoding="utf-8")
    assert site_settings(tmp_path, {}) == {"IMAGE": meant}


def test_a_file_that_is_not_text_is_answered_with_its_line(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("MEMORY=4g\n# für mich\n".encode("latin-1"))
    with pytest.raises(UserError) as refused:
        repository(tmp_path, {})
    assert str(refused.value) == f"{tmp_path}/.env:2: is not UTF-8 text: save it as UTF-8"
    assert refused.value.exit_code is ExitCode.BAD_INPUT


class EmptyEngine(http.server.BaseHTTPRequestHandler):
    """An engine that holds no image, and refuses to build one by the name that it was asked for."""

    def answer(self, status: int, text: object) -> None:
        body = json.dumps(text).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        known = {"version": {"ApiVersion": "1.41"}, "_ping": "OK", "info": {}, "containers": []}
        place = next((name for name in known if f"/{name}" in self.path), None)
        self.answer(200 if place else 404, known[place] if place else {"message": "No such image"})

    def do_POST(self) -> None:
        self.answer(500, {"message": self.path})

    def log_message(self, format: str, *_: object) -> None:
        pass


@pytest.fixture
def empty_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    address = str(tmp_path / "docker.sock")
    with socketserver.ThreadingUnixStreamServer(address, EmptyEngine) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{address}")
        yield
        server.shutdown()


@pytest.mark.usefixtures("empty_engine")
@pytest.mark.parametrize(
    ("command", "target"),
    [
        (["image", "inspect"], "cpu"),
        (["run", str(ROOT / "runs" / "ci.yaml"), "--executor", "docker"], "cpu"),
        (["run", str(ROOT / "runs" / "ci.yaml"), "--set", "container.image=cuda"], "cuda"),
    ],
)
def test_what_is_looked_up_is_the_image_of_that_name(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    target: str,
) -> None:
    monkeypatch.setenv("IMAGE", "mine")
    assert main(command) == 2
    said = capsys.readouterr().err
    assert said == (
        f"the Docker engine holds no image mine:{target}: build it: harness image build --target {target}\n"
    )


@pytest.mark.usefixtures("empty_engine")
def test_what_is_built_gets_that_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IMAGE", "mine")
    assert main(["image", "build", "--target", "test"]) == 1
    assert "t=mine%3Atest" in capsys.readouterr().err
