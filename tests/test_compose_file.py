"""docker-compose.yml, read as a file: the specification's own schema, and what every service is held to."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from harness.called import CALLED_AS, FETCHED_AS

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
COMMAND = "${COMPOSE:-docker-compose}"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
# The Compose Specification's schema, https://github.com/compose-spec/compose-spec, Apache License 2.0.
SCHEMA = ROOT / "tests" / "compose-spec.json"


def test_the_file_follows_the_compose_specification() -> None:
    validator = jsonschema.Draft7Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert [error.message for error in validator.iter_errors(COMPOSE)] == []


def test_there_is_a_service_for_every_verb_and_a_twin_for_graphics_cards() -> None:
    assert set(SERVICES) == {
        *("train", "fetch", "resume", "rerun", "verify", "reconstruct", "harness", "test"),
        *("train-cuda", "resume-cuda", "rerun-cuda", "verify-cuda", "reconstruct-cuda", "harness-cuda"),
    }
    for name, service in SERVICES.items():
        is_twin = name.endswith("-cuda")
        assert service.get("profiles") == (["cuda"] if is_twin else None)
        assert ("deploy" in service) == is_twin
        target = "cuda" if is_twin else "test" if name == "test" else "cpu"
        assert service["image"] == "${IMAGE:-ptychopinn-harness}:" + target
        assert service["build"]["target"] == target


def test_training_on_a_graphics_card_asks_for_it_whatever_the_spec_says_and_repeating_asks_for_nothing() -> (
    None
):
    verbs = {name: service["entrypoint"][1:] for name, service in SERVICES.items() if name != "test"}
    assert verbs.pop("train-cuda") == ["harness", "run", "--device", "cuda"]
    assert verbs.pop("reconstruct-cuda") == ["harness", "reconstruct", "--device", "cuda"]
    assert verbs.pop("train") == ["harness", "run"]
    assert verbs.pop("harness") == verbs.pop("harness-cuda") == ["harness"]
    assert verbs == {name: ["harness", name.removesuffix("-cuda")] for name in verbs}
    assert SERVICES["train-cuda"]["command"] == SERVICES["train"]["command"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_is_hermetic_and_only_fetch_has_a_network(name: str) -> None:
    service = SERVICES[name]
    assert service["network_mode"] == ("bridge" if name == "fetch" else "none")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert set(service["cap_add"]) == {"KILL", "SETGID", "SETPCAP", "SETUID"}
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert {"pids_limit", "mem_limit", "shm_size", "stop_grace_period"} <= set(service)
    assert not any("docker.sock" in mount["source"] for mount in service["volumes"])
    writable = [mount["target"] for mount in service["volumes"] if not mount.get("read_only")]
    expected = {"fetch": ["/opt/ptychopinn/data"], "test": []}
    assert writable == expected.get(name, ["/opt/ptychopinn/src/runs/_out"])


def test_every_service_says_how_it_is_called_but_that_of_the_tests_which_expect_no_container() -> None:
    for name, service in SERVICES.items():
        expected = "harness-cuda" if name.endswith("-cuda") else "harness"
        said = service["environment"].get(CALLED_AS)
        assert said == (None if name == "test" else f"{COMMAND} run --rm {expected}")
        networked = service["environment"].get(FETCHED_AS)
        has_none = service["network_mode"] == "none" and name != "test"
        assert (networked or None) == (f"{COMMAND} run --rm fetch SPEC" if has_none else None)


def test_every_folder_that_is_mounted_exists_in_git() -> None:
    sources = {mount["source"] for service in SERVICES.values() for mount in service["volumes"]}
    for source in sources - {"${DATA:-./data}"}:
        assert (ROOT / source).exists(), source
    assert (ROOT / "runs" / "_out" / ".gitkeep").is_file()
    assert (ROOT / "data" / ".gitkeep").is_file()


def test_one_base_image_is_pinned_by_digest_everywhere() -> None:
    pinned = re.findall(r"^ARG BASE_IMAGE=(\S+)$", DOCKERFILE, flags=re.MULTILINE)
    assert len(pinned) == 1
    assert re.fullmatch(r"python:3\.11-slim-bookworm@sha256:[0-9a-f]{64}", pinned[0])
    for service in SERVICES.values():
        assert service["build"]["args"]["BASE_IMAGE"] == "${BASE_IMAGE:-" + pinned[0] + "}"


def test_the_dockerfile_needs_no_buildkit_and_states_the_version_of_the_project() -> None:
    assert not re.search(r"^# *syntax *=|RUN +--mount|<<", DOCKERFILE, flags=re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f'image.version="{project["version"]}"' in DOCKERFILE
    assert f'image.licenses="{project["license"]}"' in DOCKERFILE
