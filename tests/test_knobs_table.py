"""The page on knobs has every field, and the tests that it names are there."""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
from pathlib import Path

import pytest

from ptycho_torch.config import PyTorchExecutionConfig

ROOT = Path(__file__).resolve().parents[1]
ROWS = re.findall(
    r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|$", (ROOT / "docs/knobs.md").read_text(), re.MULTILINE
)


@functools.cache
def defined_in(path: str) -> frozenset[str]:
    found = set()
    for node in ast.parse((ROOT / path).read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)
            }
    return frozenset(found)


def test_every_field_stands_in_the_table_once_in_the_order_of_the_class() -> None:
    assert [field for field, _, _ in ROWS] == [
        field.name for field in dataclasses.fields(PyTorchExecutionConfig)
    ]


@pytest.mark.parametrize(("field", "named"), [(field, named) for field, _, named in ROWS])
def test_the_tests_that_prove_a_field_are_there(field: str, named: str) -> None:
    tests = re.findall(r"`([^`]+)`", named)
    assert tests
    for test in tests:
        path, _, name = test.partition("::")
        assert name in defined_in(path), f"{field}: there is no {test}"
        assert name.rpartition("::")[2].startswith("test_")
