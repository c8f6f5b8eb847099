"""Compare what a spec says with what it may say: unknown keys, wrong types, illegal values."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import SchemaValidator, ValidationError

from harness.errors import Problem
from harness.spec_blocks import ALIASES, SpecLeaf, Tree, spec_tree
from harness.yaml_nodes import Entry, MappingNode, Node, ScalarNode, SequenceNode, resolve_plain
from ptycho_torch.field_types import field_types, value_validator
from ptycho_torch.layers import Place, Value
from ptycho_torch.validation import describe_problems

__all__ = ["SpecReader", "near", "resolve_flat_key"]


def nearest(word: str, legal: Iterable[str]) -> str | None:
    """Return the legal word that was probably meant, or None."""
    by_lower = {name.lower(): name for name in legal}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.7)
    return by_lower[found[0]] if found else None


def near(word: str, legal: Iterable[str]) -> str:
    """Suggest the legal word that was probably meant: ``", did you mean 'x'?"``, or nothing."""
    found = nearest(word, legal)
    return f", did you mean {found!r}?" if found else ""


@functools.cache
def _homes() -> Mapping[str, tuple[str, ...]]:
    """For each key the blocks that have it, to say where a misplaced one belongs."""
    homes: dict[str, tuple[str, ...]] = {}

    def visit(tree: Tree, path: str) -> None:
        for name, inner in tree.items():
            homes[name] = (*homes.get(name, ()), path)
            if isinstance(inner, Mapping):
                visit(inner, f"{path}.{name}" if path else name)

    visit(spec_tree(), "")
    return homes


def resolve_flat_key(key: str) -> str:
    """Complete a field's bare name (``n_groups``) to its dotted key; anything else stays as it is."""
    if "." in key or key in spec_tree():
        return key
    blocks = [home for home in _homes().get(key, ()) if home and "." not in home]
    return f"{blocks[0]}.{key}" if len(blocks) == 1 else key


class SpecReader:
    """Flattens a document into leaves with their places, collecting every problem on the way.

    Attributes
    ----------
    leaves
        Dotted key to the legal value that stands there.
    blocks
        Dotted key of every block that is present, to its place.
    keys
        Dotted key of everything that is present, legal or not, to its place.
    misspelt
        Dotted key of everything that was probably meant where an unknown key stands.
    problems
        Everything that is wrong.
    """

    def __init__(self) -> None:
        self.leaves: dict[str, Value] = {}
        self.blocks: dict[str, Place] = {}
        self.keys: dict[str, Place] = {}
        self.misspelt: set[str] = set()
        self.problems: list[Problem] = []
        self._canonical: set[str] = set()

    def read(self, root: MappingNode) -> None:
        """Read a whole document."""
        self._block(root, "", spec_tree())

    def complain(self, sentence: str, place: Place | None, key: str = "") -> None:
        """Note a problem."""
        self.problems.append(Problem(sentence, place, key))

    def _block(self, node: MappingNode, path: str, tree: Tree) -> None:
        for entry in node.entries:
            key = f"{path}.{entry.key}" if path else entry.key
            inner = tree.get(entry.key)
            if inner is None:
                self.complain(_unknown(entry.key, path, tree), entry.place, _clip(key))
                self.misspelt.update(_meant(_clip(entry.key), path, tree))
                continue
            self.keys[key] = entry.node.place
            if isinstance(inner, SpecLeaf):
                self._leaf(entry, key, inner)
            elif isinstance(entry.node, MappingNode):
                self.blocks[key] = entry.place
                self._block(entry.node, key, inner)
            elif isinstance(entry.node, ScalarNode) and entry.node.value is None:
                self.blocks[key] = entry.place
            else:
                sentence = f"is {_describe(entry.node)} where a block is expected (keys: {', '.join(inner)})"
                self.complain(sentence, entry.node.place, key)

    def _leaf(self, entry: Entry, key: str, leaf: SpecLeaf) -> None:
        node, note = entry.node, ""
        if key in ALIASES:
            key, note = ALIASES[key], f"alias {entry.key}"
        if key in self._canonical:
            self.complain(f"is given twice, here by its other name {entry.key!r}: keep one", entry.place, key)
            return
        self._canonical.add(key)
        if isinstance(node, MappingNode):
            self.complain("is a block where a single value is expected", node.place, key)
            return
        value = node.value
        if leaf.field == "sha256" and isinstance(node, ScalarNode) and isinstance(value, int | float):
            value = node.text
        sentence = check_leaf(value, node, leaf)
        if sentence is None:
            self.leaves[key] = Value(value, node.place, note)
        else:
            self.complain(sentence, node.place, key)


def _unknown(name: str, path: str, tree: Tree) -> str:
    homes = [home for home in _homes().get(name, ()) if home != path and ".simulate" not in home]
    where = f"in {path}" if path else "at the top of a spec"
    if len(homes) == 1:
        home = f"the block {homes[0]}" if homes[0] else "the top"
        return f"{name!r} does not belong {where}: move it to {home}"
    shown = _clip(name)
    meant = [key.removeprefix(f"{path}.") for key in _meant(shown, path, tree)]
    hint = f", did you mean {' or '.join(map(repr, meant))}?" if meant else f" (legal: {', '.join(tree)})"
    return f"there is no key {shown!r} {where}{hint}"


def _meant(name: str, path: str, tree: Tree) -> list[str]:
    """Return the dotted keys that may be meant: of the same block, else, at the top, of any block."""
    found = nearest(name, tree)
    if found is not None:
        return [f"{path}.{found}" if path else found]
    inside = {} if path else {key: [*filter(None, homes)] for key, homes in _homes().items()}
    own = {key: [home for home in homes if ".simulate" not in home] for key, homes in inside.items()}
    simulated = {key: [home for home in homes if "train.simulate" in home] for key, homes in inside.items()}
    for known in (own, simulated):
        found = nearest(name, (key for key, homes in known.items() if homes))
        if found is not None:
            return [f"{home}.{found}" for home in known[found]]
    return []


def _clip(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _describe(node: Node) -> str:
    if isinstance(node, SequenceNode):
        return "a list"
    if isinstance(node, MappingNode):
        return "a block"
    kinds = {str: "the text", bool: "the truth value", int: "the number", float: "the number"}
    return f"{kinds[type(node.value)]} {_clip(node.text)!r}" if node.value is not None else "nothing"


@functools.cache
def _type_of(leaf: SpecLeaf) -> tuple[SchemaValidator, str]:
    annotation = field_types(leaf.block)[leaf.field]  # type: ignore[arg-type]  # mypy: no hashable class
    return value_validator(annotation), str(annotation)


def check_leaf(value: Any, node: Node, leaf: SpecLeaf) -> str | None:
    """Say what is wrong with a value by itself, or None; contradictions are judged once all is known."""
    validator, annotation = _type_of(leaf)
    try:
        validator.validate_python(value)
    except ValidationError as error:
        said = describe_problems("", error).problems[0].removeprefix(": ")
        if "should match pattern" in said:
            said = f"must be {_PATTERNS[leaf.field]}, not {_describe(node)}{_CURES.get(leaf.field, '')}"
        return f"{said}{_hint(node, annotation, said, validator) or _lower_case_hint(node, said)}"
    return None


_CURES: Mapping[str, str] = {"source": ": a file that is here already is named by 'file'"}
_PATTERNS: Mapping[str, str] = {
    "name": "1 to 64 letters, digits, dots, dashes or underscores, beginning with a letter or digit",
    "sha256": "64 lower-case hexadecimal digits",
    "source": "the address of a file, beginning with https://",
    "image": "none, cpu, cuda or an image by digest (name@sha256:...)",
}


def _lower_case_hint(node: Node, said: str) -> str:
    if "did you mean" in said or not isinstance(node, ScalarNode):
        return ""
    return near(node.text, re.findall(r"'([^']+)'", said.partition(", not ")[0]))


def _is_legal_without_quotes(text: str, validator: SchemaValidator) -> bool:
    try:
        validator.validate_python(resolve_plain(text))
    except ValueError:  # of the validator, too
        return False
    return text.strip() != ""


def _hint(node: Node, annotation: str, said: str, validator: SchemaValidator) -> str:
    if not isinstance(node, ScalarNode):
        return ""
    wants_number = re.search(r"[Ii]nt\b|[Ff]loat\b", annotation) is not None
    text = node.text
    if "bool" in annotation and text.lower() in {"yes", "no", "on", "off", "y", "n", "0", "1"}:
        meant = "true" if text.lower() in {"yes", "on", "y", "1"} else "false"
        return f": {text} is no truth value in YAML 1.2, write {meant}"
    is_number = wants_number and re.fullmatch(r"[-+0-9.eE]+", text) is not None
    if not node.is_plain and (is_number or _is_legal_without_quotes(text, validator)):
        return ": drop the quotes"
    if wants_number and re.fullmatch(r"[0-9]+([_,'][0-9]+)+", text):
        return ": write the digits alone"
    if "whole number" in said and isinstance(node.value, float) and node.value.is_integer():
        return f": write {int(node.value)}"
    if isinstance(node.value, int | float) and "must be text" in said:
        return ": put it in quotes to make it text"
    return ""
