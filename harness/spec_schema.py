"""The JSON Schema of a run spec, for editors; generated from the same types that check a spec."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from harness.spec_blocks import SpecLeaf, Tree, spec_tree

__all__ = ["describe_fields", "render_schema", "spec_json_schema"]

_REQUIRED: Mapping[str, list[str]] = {"": ["name", "data", "training"], "data": ["train"]}
_TITLES: Mapping[str, str] = {
    "data": "The scans, and which frames of them are used",
    "data.train": "The scan that is trained on",
    "data.test": "The scan that is validated on; without it a fraction of the training frames is",
    "data.reference": "A known reconstruction; evaluation only",
    "model": "The network and the physics that it is trained through",
    "training": "What is optimised and for how long",
    "inference": "How the patches become one image",
    "execution": "How the run executes: device, loading, optimisation, checkpoints, logging",
    "exactness": "How far the bits must repeat",
    "container": "What the run executes in",
    "checkpoints": "States from which an interrupted run continues",
    "products": "What is made after training",
    "products.refine": "The image refined by the physics alone; made where this block is present",
}
_PARTS: Mapping[str, str] = {
    "simulate": "A simulated scan in place of a file",
    "object": "The object that is scanned",
    "probe": "The illumination",
    "scan": "Where the probe is put",
    "detector": "What the detector does to the frames",
}


def spec_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a run spec."""
    schema = _block("", spec_tree())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "PtychoPINN run spec",
        **schema,
        "type": "object",
    }


def render_schema() -> str:
    """Return the schema as the text that is committed in docs/schema."""
    return json.dumps(spec_json_schema(), indent=2, ensure_ascii=False) + "\n"


def _block(path: str, tree: Tree) -> dict[str, Any]:
    properties = {}
    for name, inner in tree.items():
        key = f"{path}.{name}" if path else name
        properties[name] = _leaf(name, inner) if isinstance(inner, SpecLeaf) else _block(key, inner)
    schema: dict[str, Any] = {"type": ["object", "null"]}
    if path:
        schema["description"] = _TITLES.get(path) or _PARTS[path.rpartition(".")[2]]
    if path in _REQUIRED:
        schema["required"] = _REQUIRED[path]
    if path == "training":
        schema["required"] = ["n_groups"]
    return {**schema, "properties": properties, "additionalProperties": False}


def _leaf(name: str, leaf: SpecLeaf) -> dict[str, Any]:
    whole = TypeAdapter(leaf.block).json_schema()
    schema: dict[str, Any] = dict(whole["properties"][leaf.field])
    schema.pop("title", None)
    description = describe_fields(leaf.block).get(leaf.field)
    if name != leaf.field:
        description = f"Another name of {leaf.field}."
    if description:
        schema["description"] = description
    return schema


def describe_fields(block: type[Any]) -> dict[str, str]:
    """Read each field's meaning from the ``Parameters`` sections of a block and of what it extends."""
    found: dict[str, str] = {}
    for parent in block.__bases__:
        found |= describe_fields(parent)
    text = inspect.cleandoc(block.__doc__ or "")
    _, _, section = text.partition("Parameters\n----------\n")
    for entry in re.split(r"\n(?=\S)", section):
        names, _, description = entry.partition("\n")
        meaning = " ".join(description.split()).replace("``", "").replace("`", "")
        found.update(dict.fromkeys((name.strip() for name in names.split(",")), meaning))
    return found
