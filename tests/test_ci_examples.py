"""The examples for CI systems are YAML, name services and commands that there are, and report the verdict."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from harness.cli import cli

ROOT = Path(__file__).parents[1]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
ENTRYPOINT = "/opt/ptychopinn/src/docker/entrypoint.sh"


def example(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "ci" / name).read_text())
    return found


def github_steps() -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = example("github-actions.yml")["jobs"]["container"]["steps"]
    return steps


def commands() -> list[str]:
    github = [step["run"] for step in github_steps() if "run" in step]
    return [*github, *example("gitlab-ci.yml")["container"]["script"]]


def compose_runs() -> list[list[str]]:
    """Every `docker compose run`, as words from the service on."""
    found = []
    for command in commands():
        if "docker compose run" in command:
            words = shlex.split(command.partition("docker compose run")[2])
            found.append([word for word in words if word not in {"--rm", "-T"}])
    return found


def test_every_service_that_an_example_names_is_there() -> None:
    assert {words[0] for words in compose_runs()} <= set(SERVICES)
    assert {"train", "verify", "harness", "test"} <= {words[0] for words in compose_runs()}


def test_every_service_goes_through_the_entrypoint_and_no_example_needs_to_name_it() -> None:
    assert (ROOT / "docker" / "entrypoint.sh").is_file()
    assert {service["entrypoint"][0] for service in SERVICES.values()} == {ENTRYPOINT}
    assert not any("--entrypoint" in command for command in commands())


@pytest.mark.parametrize("system", ["github-actions.yml", "gitlab-ci.yml"])
def test_both_hold_the_run_against_its_golden_with_options_that_there_are(system: str) -> None:
    text = (ROOT / "docs" / "ci" / system).read_text()
    assert "golden check runs/ci.yaml" in text
    known = CliRunner().invoke(cli, ["golden", "check", "--help"]).output
    (golden,) = {tuple(words) for words in compose_runs() if "golden" in words}
    assert golden[:4] == ("harness", "golden", "check", "runs/ci.yaml")
    assert all(option in known for option in golden if option.startswith("--"))


def test_the_verdict_is_reported_as_junit_where_the_run_left_it() -> None:
    (report,) = (step["with"]["report_paths"] for step in github_steps() if "junit" in step.get("uses", ""))
    artifacts = example("gitlab-ci.yml")["container"]["artifacts"]
    assert report == artifacts["reports"]["junit"] == "runs/_out/golden.xml"
    assert artifacts["when"] == "always"
    writable = SERVICES["train"]["volumes"]
    assert any(mount["source"] == "./runs/_out" and not mount.get("read_only") for mount in writable)
    for step in github_steps():
        if "uses" in step and not step["uses"].startswith("actions/checkout"):
            assert step["if"] == "always()", step


def test_actions_are_named_with_a_version() -> None:
    assert all(
        re.fullmatch(r"[\w.-]+/[\w./-]+@v\d+", step["uses"]) for step in github_steps() if "uses" in step
    )
