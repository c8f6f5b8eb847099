"""What a spec must have, and which of its values cannot stand together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import Problem
from harness.spec_blocks import ROLES
from ptycho_torch.layers import Place

if TYPE_CHECKING:
    from harness.spec import RunSpec

__all__ = ["refine_problems", "rule_problems"]

_REFINE = "products.refine"


def rule_problems(spec: RunSpec) -> list[Problem]:
    """Find what is missing, other than what is there and misspelt, and what contradicts itself."""
    return [*_missing(spec), *_contradictions(spec)]


def _missing(spec: RunSpec) -> list[Problem]:
    problems = []
    needed = {
        "name": "a run needs a name: add 'name: my-run'",
        "data.train": "there is no data to train on: add 'data: {train: {file: scan.npz}}'",
        "training.n_groups": "the number of groups is required: add 'training: {n_groups: 512}'",
    }
    for key, sentence in needed.items():
        parent = key.rpartition(".")[0]
        is_readable = not parent or parent in spec.blocks or parent not in spec.keys
        if is_readable and not spec.is_misspelt(key) and key not in spec.keys and key not in spec.blocks:
            place = spec.place(key) or Place(spec.path, 1, 1)
            problems.append(Problem(sentence, place, key))
    return problems


def _contradictions(spec: RunSpec) -> list[Problem]:
    problems = []
    for role in ROLES:
        key = f"data.{role}"
        if key in spec.blocks:
            problems += _source_problems(spec, key)
    for field in ("positions", "units"):
        inner, outer = f"data.train.{field}", f"data.{field}"
        if inner in spec.written and outer in spec.written:
            sentence = f"is given twice, as {inner} and as {outer}: keep one of the two"
            problems.append(Problem(sentence, spec.written[inner].place, inner))
    if spec.get("products.pictures") is True and spec.get("products.reconstruction") is False:
        sentence = "is true, but there is nothing to draw without products.reconstruction: set that to true"
        problems.append(Problem(sentence, spec.place("products.pictures"), "products.pictures"))
    problems += refine_problems(spec)
    is_deterministic = spec.get("execution.deterministic", True)
    if is_deterministic is False and spec.get("exactness.profile", "auto") != "auto":
        sentence = "promises equal bits, but execution.deterministic is false: drop one of the two"
        problems.append(Problem(sentence, spec.place("exactness.profile"), "exactness.profile"))
    return problems


def refine_problems(spec: RunSpec) -> list[Problem]:
    """Find what contradicts itself in how an image is refined."""
    problems = []
    if spec.get(f"{_REFINE}.modes", 1) > 1 and not spec.get(f"{_REFINE}.probe", False):
        sentence = "needs a probe that is refined: set products.refine.probe to true"
        problems.append(Problem(sentence, spec.place(f"{_REFINE}.modes"), f"{_REFINE}.modes"))
    if _REFINE in spec.blocks and spec.get("products.reconstruction") is False:
        sentence = "there is no image to refine without products.reconstruction: set that to true"
        problems.append(Problem(sentence, spec.place(_REFINE), _REFINE))
    return problems


def _source_problems(spec: RunSpec, key: str) -> list[Problem]:
    has_file, has_url = f"{key}.file" in spec.keys, f"{key}.source" in spec.keys
    has_simulation = f"{key}.simulate" in spec.blocks
    problems = []
    if not (has_file or has_url or has_simulation):
        choices = "file, source or simulate" if key != "data.reference" else "file or source"
        problems.append(Problem(f"names no data: give it {choices}", spec.place(key), key))
    if has_simulation and (has_file or has_url):
        sentence = "stands beside a file: a scan is either read or simulated, keep one"
        problems.append(Problem(sentence, spec.blocks[f"{key}.simulate"], f"{key}.simulate"))
    if has_url and f"{key}.sha256" not in spec.keys:
        sentence = "a download is checked by its digest: add the sha256 of the file"
        problems.append(Problem(sentence, spec.place(f"{key}.source"), f"{key}.sha256"))
    if has_simulation:
        for field in ("sha256", "positions", "units"):
            if f"{key}.{field}" in spec.keys:
                sentence = f"has no meaning for a simulated scan: remove {field}"
                problems.append(Problem(sentence, spec.place(f"{key}.{field}"), f"{key}.{field}"))
    return problems
