from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from harness.spec_schema import render_schema, spec_json_schema
from harness.yaml_loader import load_yaml
from tests.harness.spec_kit import ROOT

COMMITTED = ROOT / "docs" / "schema" / "spec.schema.json"
ACCEPTED = sorted([*(ROOT / "runs").rglob("*.yaml"), *(ROOT / "tests" / "specs" / "valid").glob("*.yaml")])
ACCEPTED = [path for path in ACCEPTED if "_out" not in path.parts and not path.name.endswith(".recipe.yaml")]
REFUSED = (
    "misspelt_fields",
    "wrong_types",
    "out_of_range",
    "illegal_choices",
    "missing_n_groups",
    "knob_outside_execution",
)


def test_the_committed_schema_is_the_generated_one() -> None:
    cure = 'python -c "from harness.spec_schema import render_schema; print(render_schema(), end=str())"'
    assert COMMITTED.read_text(encoding="utf-8") == render_schema(), f"write it anew: {cure}"


def test_the_schema_is_a_legal_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(COMMITTED.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", ACCEPTED, ids=lambda path: path.stem)
def test_specs_that_run_are_valid_by_the_schema(path: Path) -> None:
    root, _ = load_yaml(path.read_bytes(), path.name)
    jsonschema.validate(root.value, spec_json_schema(), jsonschema.Draft202012Validator)


@pytest.mark.parametrize("name", REFUSED)
def test_broken_specs_are_invalid_by_the_schema(name: str) -> None:
    path = ROOT / "tests" / "specs" / "invalid" / f"{name}.yaml"
    root, _ = load_yaml(path.read_bytes(), path.name)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(root.value, spec_json_schema(), jsonschema.Draft202012Validator)


def test_every_value_has_a_description() -> None:
    def nameless(schema: dict[str, object], path: str) -> list[str]:
        found = [] if schema.get("description") or not path else [path]
        properties = schema.get("properties", {})
        assert isinstance(properties, dict)
        return found + [
            one for name, inner in properties.items() for one in nameless(inner, f"{path}.{name}")
        ]

    assert nameless(spec_json_schema(), "") == []
