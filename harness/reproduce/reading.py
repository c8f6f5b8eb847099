"""Read a recipe as strictly as a spec: everything that is wrong with it at once, with line and column."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from harness.called import called
from harness.errors import Problem, SpecError, UserError
from harness.gate import METRICS
from harness.quality import REFINED
from harness.reproduce.recipe import (
    Arm,
    ArmBlock,
    Fast,
    FastBlock,
    Figure,
    FigureBlock,
    Override,
    PublicationBlock,
    Recipe,
    RecipeBlock,
)
from harness.resolved import REFINE
from harness.spec import RunSpec, is_from_option, read_spec
from harness.spec_blocks import SpecLeaf
from harness.spec_check import check_leaf, near
from harness.spec_file import RECIPE_ENDING
from harness.yaml_loader import MAX_BYTES, load_yaml, split_lines, with_source_lines
from harness.yaml_nodes import Entry, MappingNode, Node
from ptycho_torch.errors import ConfigError
from ptycho_torch.layers import Place

__all__ = ["find_recipe", "read_recipe", "recipe_paths"]

BlockT = TypeVar("BlockT")

_BLOCKS = ("source", "arms", "figures", "fast")
_OVERRIDES = "set"
_MADE_BY = {REFINED: (REFINE, "a refined image's"), "test_": ("data.test", "a test scan's")}
"""Beginning of a metric's name to the block of a spec that asks for it, and whose it is."""


def recipe_paths(folder: Path) -> tuple[Path, ...]:
    """List the recipes in a folder."""
    return tuple(sorted(folder.glob(f"*{RECIPE_ENDING}")))


def find_recipe(name: str, folder: Path) -> Path:
    """Find a recipe by its file, or by its name in the folder of published recipes.

    Raises
    ------
    UserError
        There is no such recipe.
    """
    if name.endswith(".yaml"):
        return Path(name)
    path = folder / f"{name}{RECIPE_ENDING}"
    if path.is_file():
        return path
    names = [one.name.removesuffix(RECIPE_ENDING) for one in recipe_paths(folder)]
    hint = near(name, names) or f": `{called('reproduce --list')}` lists them"
    raise UserError(f"there is no recipe {name!r} in {folder}{hint}")


def read_recipe(path: Path) -> Recipe:
    """Read a recipe, and every spec that it names with what it puts over it.

    Raises
    ------
    SpecError
        Everything that is wrong with it, or with what it puts over its specs, at once.
    UserError
        The file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: the recipe cannot be read: {error.strerror}") from error
    root, problems = load_yaml(raw, str(path))
    text = raw.decode("utf-8-sig")
    reader = _Reader(path, text)
    recipe = reader.read(root)
    problems = [*problems, *reader.problems]
    if problems or recipe is None:
        problems.sort(key=lambda one: (one.place.line, one.place.column) if one.place else (0, 0))
        raise SpecError(with_source_lines(problems, split_lines(text)))
    return recipe


class _Reader:
    """Collects what a recipe says, and everything that is wrong with it."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text
        self.problems: list[Problem] = []
        self.lacking: set[tuple[str, str]] = set()
        """Arm and beginning of a metric's name, where its runs do not make what such metrics are of."""

    def complain(self, sentence: str, place: Place, key: str) -> None:
        self.problems.append(Problem(sentence, place, key))

    def read(self, root: Node) -> Recipe | None:
        if not isinstance(root, MappingNode):
            self.complain("a recipe is a mapping (name, title, source, arms, figures, fast)", root.place, "")
            return None
        own = self.block(root, root.place, "", RecipeBlock, inner=_BLOCKS)
        if own is not None and (file := self.path.name.removesuffix(RECIPE_ENDING)) != own.name:
            place = next(entry.node.place for entry in root.entries if entry.key == "name")
            self.complain(f"is {own.name!r}, but its file says {file!r}: they must agree", place, "name")
        blocks = {entry.key: entry for entry in root.entries if entry.key in _BLOCKS}
        for name in _BLOCKS:
            if name not in blocks:
                self.complain("is required: add it", root.place, name)
        source = self.inner(blocks.get("source"), "source", PublicationBlock)
        arms = {entry.key: self.arm(entry) for entry in self.entries(blocks.get("arms"))}
        figures = [self.figure(entry, arms) for entry in self.entries(blocks.get("figures"))]
        fast = self.fast(blocks.get("fast"), arms)
        if self.problems or own is None or source is None or fast is None:
            return None
        return Recipe(
            path=self.path,
            text=self.text,
            name=own.name,
            title=own.title,
            source=source,
            arms={name: arm for name, arm in arms.items() if arm is not None},
            figures=tuple(figure for figure in figures if figure is not None),
            fast=fast,
        )

    def entries(self, entry: Entry | None) -> tuple[Entry, ...]:
        if entry is None:
            return ()
        if isinstance(entry.node, MappingNode) and entry.node.entries:
            return entry.node.entries
        self.complain("must be a block that has a name and a block for each", entry.place, entry.key)
        return ()

    def inner(self, entry: Entry | None, key: str, block: type[BlockT], *inner: str) -> BlockT | None:
        if entry is None:
            return None
        if not isinstance(entry.node, MappingNode):
            self.complain("is no block: give it keys and values", entry.node.place, key)
            return None
        return self.block(entry.node, entry.place, key, block, inner=inner)

    def block(
        self, node: MappingNode, place: Place, path: str, block: type[BlockT], *, inner: tuple[str, ...] = ()
    ) -> BlockT | None:
        fields = {field.name: field for field in dataclasses.fields(block)}  # type: ignore[arg-type]
        values: dict[str, Any] = {}
        known = len(self.problems)
        places = {entry.key: entry.node.place for entry in node.entries}
        for entry in node.entries:
            key = _dotted(path, entry.key)
            if entry.key in inner:
                continue
            if entry.key not in fields:
                legal = [*fields, *inner]
                hint = near(entry.key, legal) or f" (legal: {', '.join(legal)})"
                self.complain(f"there is no key {entry.key!r} here{hint}", entry.place, key)
            elif isinstance(entry.node, MappingNode):
                self.complain("is a block where a single value is expected", entry.node.place, key)
            elif said := check_leaf(entry.node.value, entry.node, SpecLeaf(block, entry.key)):
                self.complain(said, entry.node.place, key)
            else:
                values[entry.key] = entry.node.value
        for name, field in fields.items():
            if field.default is dataclasses.MISSING and name not in places:
                self.complain("is required: add it", place, _dotted(path, name))
        if len(self.problems) > known:
            return None
        try:
            return block(**values)
        except ConfigError as error:
            for name, said in zip(error.keys, error.problems, strict=True):
                self.complain(said.split(": ", 1)[-1], places.get(name, place), _dotted(path, name))
            return None

    def arm(self, entry: Entry) -> Arm | None:
        key = f"arms.{entry.key}"
        told = self.inner(entry, key, ArmBlock, _OVERRIDES)
        overrides = tuple(self.overrides(entry, key))
        if told is None:
            return None
        if len(set(told.seeds)) < len(told.seeds):
            self.complain("names a seed twice: each is one run", _place(entry, "seeds"), f"{key}.seeds")
        path = self.path.parent / told.spec
        spec = self.spec(path, overrides, _place(entry, "spec"), f"{key}.spec")
        if spec is not None:
            made = (prefix for prefix, (block, _) in _MADE_BY.items() if block not in spec.blocks)
            self.lacking |= {(entry.key, prefix) for prefix in made}
        return Arm(entry.key, told.title, tuple(told.seeds), path, overrides, told.not_run)

    def overrides(self, entry: Entry, key: str) -> Iterator[Override]:
        given = entry.node.entries if isinstance(entry.node, MappingNode) else ()
        for one in given:
            if one.key != _OVERRIDES:
                continue
            if not isinstance(one.node, MappingNode):
                said = "is no block: write what is put over the spec as {training.epochs: 20}"
                self.complain(said, one.node.place, f"{key}.{_OVERRIDES}")
                continue
            for value in one.node.entries:
                yield Override(f"{value.key}={json.dumps(value.node.value)}", value.place)

    def spec(self, path: Path, overrides: tuple[Override, ...], place: Place, key: str) -> RunSpec | None:
        """Read an arm's spec for what is wrong with it, and say it where the recipe has it from."""
        try:
            spec = read_spec(path, tuple(one.text for one in overrides))
        except SpecError as error:
            self.complain(f"{path.name} is no spec: {error.problems[0].sentence}", place, key)
            return None
        except UserError as error:
            self.complain(str(error), place, key)
            return None
        for problem in spec.problems:
            if problem.place is not None and is_from_option(problem):
                self.complain(problem.sentence, overrides[problem.place.line - 1].place, problem.key)
            else:
                self.complain(f"{path.name} is no sound spec: {problem.render()}", place, key)
        return spec

    def figure(self, entry: Entry, arms: Mapping[str, Arm | None]) -> Figure | None:
        key = f"figures.{entry.key}"
        told = self.inner(entry, key, FigureBlock)
        if told is None:
            return None
        for field, name, legal in (
            ("arm", told.arm, arms),
            ("less", told.less, arms),
            ("metric", told.metric, METRICS),
        ):
            if name is not None and name not in legal:
                said = f"is {name!r}, and there is none of that name{_hint(name, legal)}"
                self.complain(said, _place(entry, field), f"{key}.{field}")
        if told.less == told.arm:
            self.complain("is the arm itself: the difference is 0", _place(entry, "less"), f"{key}.less")
        pair = [arms.get(name) for name in (told.arm, told.less) if name is not None]
        if len({arm.seeds for arm in pair if arm is not None}) > 1:
            said = "is subtracted seed by seed, and has other seeds: give both arms the same"
            self.complain(said, _place(entry, "less"), f"{key}.less")
        for name in (told.arm, told.less):
            for prefix, (block, what) in _MADE_BY.items():
                if told.metric.startswith(prefix) and (name, prefix) in self.lacking:
                    said = f"is {what}, and the arm {name} has none: put {block} in its spec"
                    self.complain(said, _place(entry, "metric"), f"{key}.metric")
        return Figure(entry.key, told)

    def fast(self, entry: Entry | None, arms: Mapping[str, Arm | None]) -> Fast | None:
        told = self.inner(entry, "fast", FastBlock, _OVERRIDES)
        if entry is None or told is None:
            return None
        overrides = tuple(self.overrides(entry, "fast"))
        for name in told.arms:
            arm = arms.get(name)
            if arm is not None and told.num_seeds > len(arm.seeds):
                said = f"is {told.num_seeds}, but the arm {name} has {len(arm.seeds)}: lower it"
                self.complain(said, _place(entry, "num_seeds"), "fast.num_seeds")
            if name not in arms:
                said = f"names {name!r}, and there is no such arm{_hint(name, arms)}"
                self.complain(said, _place(entry, "arms"), "fast.arms")
            elif arm is not None and overrides and not self.problems:
                both = (*arm.overrides, *overrides)
                self.spec(arm.spec, both, entry.place, "fast.set")
        return Fast(tuple(told.arms), told.num_seeds, overrides)


def _dotted(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _hint(name: str, legal: Any) -> str:
    return near(name, legal) or f" (legal: {', '.join(sorted(legal))})"


def _place(entry: Entry, field: str) -> Place:
    given = entry.node.entries if isinstance(entry.node, MappingNode) else ()
    return next((one.node.place for one in given if one.key == field), entry.place)
