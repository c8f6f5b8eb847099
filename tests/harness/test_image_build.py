"""What a site sets for the builds of images, and where it is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker.errors import StreamParseError
from urllib3.exceptions import ProtocolError

from harness.errors import HarnessError, UserError
from harness.image_build import build_arguments, build_image

ROOT = Path(__file__).parents[2]
PINNED = "python:3.11@sha256:" + "a" * 64


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(f"ARG BASE_IMAGE={PINNED}\n", encoding="utf-8")
    return tmp_path


def name_base(checkout: Path) -> None:
    settings = "BASE_IMAGE=base:run-12\nBUILD_IMAGE=base:build-34\nBASE_DIGEST=sha256:12\n"
    (checkout / ".env").write_text(settings, encoding="utf-8")


def test_the_pinned_base_brings_its_digest(checkout: Path) -> None:
    found = build_arguments(checkout, {})
    assert (found["BASE_IMAGE"], found["BASE_DIGEST"]) == (PINNED, "sha256:" + "a" * 64)
    assert found["BUILD_IMAGE"] == ""


def test_a_base_in_the_settings_of_the_checkout_is_taken_with_all_that_belongs_to_it(checkout: Path) -> None:
    name_base(checkout)
    found = build_arguments(checkout, {"TORCH_CPU_INDEX": "https://wheels.invalid"})
    assert found == {
        "BASE_IMAGE": "base:run-12",
        "BUILD_IMAGE": "base:build-34",
        "BASE_DIGEST": "sha256:12",
        "TORCH_CPU_INDEX": "https://wheels.invalid",
    }


def test_another_base_never_carries_the_digest_of_the_one_it_replaces(checkout: Path) -> None:
    name_base(checkout)
    assert build_arguments(checkout, {"BASE_IMAGE": "other:1"})["BASE_DIGEST"] == ""
    told = {"BASE_IMAGE": "other:1", "BASE_DIGEST": "sha256:56"}
    assert build_arguments(checkout, told)["BASE_DIGEST"] == "sha256:56"
    assert build_arguments(checkout, {"BASE_IMAGE": "other@sha256:78"})["BASE_DIGEST"] == "sha256:78"
    assert build_arguments(checkout, {"BASE_IMAGE": ""})["BASE_DIGEST"] == "sha256:" + "a" * 64


def test_a_recipe_that_names_no_base_is_refused(checkout: Path) -> None:
    (checkout / "Dockerfile").write_text("FROM scratch\n", encoding="utf-8")
    with pytest.raises(UserError, match="has no line ARG BASE_IMAGE"):
        build_arguments(checkout, {})


def test_another_base_is_never_built_on_with_the_build_image_of_the_one_it_replaces(checkout: Path) -> None:
    name_base(checkout)
    assert build_arguments(checkout, {"BASE_IMAGE": "other:1"})["BUILD_IMAGE"] == ""
    told = {"BASE_IMAGE": "other:1", "BUILD_IMAGE": "other:build"}
    assert build_arguments(checkout, told)["BUILD_IMAGE"] == "other:build"
    assert build_arguments(checkout, {"BUILD_IMAGE": "tried:1"})["BASE_IMAGE"] == "base:run-12"


@pytest.mark.parametrize(
    "error", [ProtocolError("Connection broken"), StreamParseError("Expecting value"), OSError("no route")]
)
def test_an_engine_that_dies_while_it_builds_is_answered_with_a_sentence(error: Exception) -> None:
    class Dying:
        def __init__(self) -> None:
            self.api = self

        def build(self, **_: Any) -> Iterator[dict[str, str]]:
            yield {"stream": "Step 1/9 : FROM base"}
            raise error

    with pytest.raises(HarnessError, match=f"^the image could not be built: {error}$"):
        build_image(Dying(), ROOT, "cpu", arguments={}, show=str)  # type: ignore[arg-type]
