"""The documents say what the code does: links, commands, fields, defaults and examples."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli import cli
from harness.spec import load_spec
from ptycho_torch.config import SECTIONS, PyTorchExecutionConfig, TrainingConfig

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def by_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=by_name)
def test_every_link_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", document.read_text(encoding="utf-8"))
    for target, anchor in links:
        if target.startswith("http"):
            continue
        path = document.parent / target if target else document
        assert path.exists(), f"{target} is not there"
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), f"{target}#{anchor} is not there"


@pytest.mark.parametrize("document", DOCUMENTS, ids=by_name)
def test_every_command_that_is_shown_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    shown = re.findall(r"^harness (\w+)((?: \S+)*)|`harness (\w+)([^`]*)`", text, flags=re.MULTILINE)
    for verb, rest, quoted_verb, quoted_rest in shown:
        command = cli.commands[verb or quoted_verb]
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[\w-]+", (rest or quoted_rest).partition("#")[0])) <= known


def test_every_service_of_compose_that_is_shown_exists_and_takes_that_verb() -> None:
    services = yaml.safe_load(text_of("docker-compose.yml"))["services"]
    entrypoint = r"(?:(/\S+)\s)?"  # takes the place of the command line
    command = rf"docker[- ]compose run\s((?:-\S+\s)*){entrypoint}([\w-]+)(?: ([\w-]+))?"
    shown = [
        words
        for document in (*DOCUMENTS, ROOT / "docker-compose.yml")
        for words in re.findall(command, document.read_text(encoding="utf-8"))
    ]
    assert {service for _, _, service, _ in shown} <= set(services)
    lines = {"harness", "harness-cuda"}
    verbs = {verb for _, instead, service, verb in shown if service in lines and verb and not instead}
    assert verbs
    assert verbs <= set(cli.commands)


def test_every_make_target_that_is_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), flags=re.MULTILINE))
    shown = {
        target
        for document in DOCUMENTS
        for pair in re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)`", document.read_text(), flags=re.MULTILINE)
        for target in pair
        if target
    }
    assert shown <= targets


def table(name: str) -> dict[str, str]:
    rows = re.findall(r"^\| `([\w.]+)` \| ([^|]+) \|", text_of(name), flags=re.MULTILINE)
    return {key: value.strip().strip("`") for key, value in rows}


def test_the_page_on_execution_has_every_field_with_its_default() -> None:
    expected = {field.name: repr(field.default) for field in dataclasses.fields(PyTorchExecutionConfig)}
    assert table("docs/workflows/pytorch.md") == expected


def test_the_page_on_configuration_has_every_other_field_with_its_default() -> None:
    assert TrainingConfig.__dataclass_fields__["n_groups"].default is dataclasses.MISSING
    expected: dict[str, Any] = {
        f"{section}.{field.name}": field.default
        for section, owner in SECTIONS.items()
        for field in dataclasses.fields(owner)
        if owner is not PyTorchExecutionConfig
    }
    expected["training.n_groups"] = "required"
    rows = table("docs/configuration.md")
    written = {key: value for key, value in rows.items() if key.partition(".")[0] in SECTIONS}
    assert set(written) == set(expected)
    for key, default in expected.items():
        if isinstance(default, float):
            assert float(written[key]) == default
        else:
            found = yaml.safe_load(written[key])
            assert (tuple(found) if isinstance(found, list) else found) == default, key


def test_the_spec_that_is_shown_is_a_spec(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(name:.*?)```", text_of("docs/configuration.md"), flags=re.DOTALL)
    assert len(blocks) == 1
    path = tmp_path / "example.yaml"
    path.write_text(blocks[0], encoding="utf-8")
    assert load_spec(path).get("training.n_groups") == 512


@pytest.mark.parametrize(
    "block", re.findall(r"```yaml\n(.*?)```", text_of("docs/workflows/pytorch.md"), flags=re.DOTALL)
)
def test_the_execution_blocks_that_are_shown_are_legal(block: str, tmp_path: Path) -> None:
    path = tmp_path / "example.yaml"
    training = "" if "training:" in block else "training: {n_groups: 8}\n"
    path.write_text(
        f"name: example\ndata: {{train: {{simulate: {{}}}}}}\n{training}{block}", encoding="utf-8"
    )
    assert load_spec(path).leaves("execution")
