"""The README's commands for containers, run as they are written."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from tests.container.compose_kit import ROOT, Checkout, manifest_of

pytestmark = pytest.mark.container


def commands() -> list[list[str]]:
    section = (
        (ROOT / "README.md").read_text(encoding="utf-8").split("\n## In a container\n")[1].split("\n## ")[0]
    )
    (block,) = re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL)
    return [shlex.split(line, comments=True) for line in block.splitlines()]


def test_the_section_holds_two_commands_and_the_one_that_goes_before_them() -> None:
    assert commands() == [
        ["make", "base-image"],
        ["docker-compose", "run", "--rm", "train"],
        ["docker-compose", "run", "--rm", "test"],
    ]


@pytest.fixture(scope="module")
def checkout(checkout: Checkout) -> Checkout:
    """Return a checkout in which the first command has been given, unless its images are those of today."""
    is_current = subprocess.run([checkout.path / "docker" / "base.sh", "--current"], check=False)
    if is_current.returncode != 0:
        made = subprocess.run(commands()[0], cwd=checkout.path, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
    return checkout


@pytest.mark.parametrize("command", commands()[1:], ids=lambda command: command[-1])
def test_a_command_does_what_the_section_says(checkout: Checkout, command: list[str]) -> None:
    done = checkout.compose(*command[1:])
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    if command[-1] == "train":
        manifest = manifest_of(checkout.runs, "quickstart-*")
        assert manifest["status"] == "completed"
        assert f"runs/_out/{next(checkout.runs.glob('quickstart-*')).name}" in done.stdout
    else:
        assert re.search(r"\d+ passed", done.stdout)
        assert "failed" not in done.stdout
