"""The YAML as written: every value of a run spec with its file, line and column."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from harness.errors import Problem, SpecError
from harness.spec_file import read_spec_file
from harness.spec_sets import DEVICE_OPTION, SET_OPTION, read_options

if TYPE_CHECKING:
    from harness.yaml_nodes import MappingNode
    from ptycho_torch.layers import Place, Value

__all__ = [
    "RunSpec",
    "is_from_option",
    "load_spec",
    "read_spec",
    "show_source",
    "spec_of_options",
    "spec_of_text",
]


@dataclasses.dataclass(frozen=True)
class RunSpec:
    """A spec as it stands in its file, with what ``--set`` puts over it.

    Parameters
    ----------
    path
        The spec's path as it was given.
    text
        The file, verbatim.
    written
        Dotted key to value for every legal value of the file (``training.n_groups``).
    sets
        The same for every ``--set``; these win.
    blocks
        Dotted key of every block that is present, with its place.
    keys
        Dotted key of everything present, legal or not, with its place.
    misspelt
        Dotted key of what was probably meant where an unknown key stands.
    problems
        What is wrong with it so far; :func:`load_spec` lets no spec with problems pass.
    options
        ``--set`` and ``--device`` to the texts that were given with them.
    """

    path: str
    text: str
    written: Mapping[str, Value]
    sets: Mapping[str, Value]
    blocks: Mapping[str, Place]
    keys: Mapping[str, Place]
    misspelt: frozenset[str] = frozenset()
    problems: tuple[Problem, ...] = ()
    options: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Folder against which the spec's relative paths are taken first."""
        return Path(self.path).parent

    def find(self, key: str) -> Value | None:
        """Return the value that counts for a dotted key: ``--set`` before the file; None if absent."""
        return self.sets.get(key, self.written.get(key))

    def get(self, key: str, default: Any = None) -> Any:
        """Return the plain value that counts for a dotted key, or a default."""
        found = self.find(key)
        return default if found is None else found.value

    def is_misspelt(self, key: str) -> bool:
        """Whether a key, or a block around it, is probably there under a name that is none."""
        return any(f"{key}.".startswith(f"{meant}.") for meant in self.misspelt)

    def place(self, key: str) -> Place | None:
        """Return where a key stands, or else the nearest block around it."""
        found = self.find(key)
        if found is not None:
            return found.place
        while key:
            if key in self.keys or key in self.blocks:
                return self.keys.get(key, self.blocks.get(key))
            key = key.rpartition(".")[0]
        return None

    def leaves(self, block: str) -> dict[str, Value]:
        """Return the values directly in a block, by their bare names, ``--set`` before the file."""
        merged = {**self.written, **self.sets}
        return {
            key.rpartition(".")[2]: value for key, value in merged.items() if key.rpartition(".")[0] == block
        }

    def problem(self, sentence: str, key: str, place: Place | None = None) -> Problem:
        """Make a problem that points at a key, with the line that stands there."""
        return show_source(self, Problem(sentence, place or self.place(key), key))


def load_spec(path: str | Path, sets: Sequence[str] = ()) -> RunSpec:
    """Read a spec and refuse it if anything is wrong with it.

    Parameters
    ----------
    path
        The YAML file.
    sets
        Overrides in the form ``key=value``; the value is read as YAML, a bare field name is enough.

    Raises
    ------
    SpecError
        Every problem of the file and of the overrides, at once.
    UserError
        The file cannot be read.
    """
    spec = read_spec(path, sets)
    if spec.problems:
        raise SpecError(spec.problems)
    return spec


def read_spec(
    path: str | Path, sets: Sequence[str] = (), device: str | None = None, block: str = ""
) -> RunSpec:
    """Read a spec and keep its problems, for a caller that adds more before it reports them.

    Parameters
    ----------
    path, sets
        As for :func:`load_spec`.
    device
        ``cpu``, ``cuda`` or ``cuda:2``: short for the accelerator and the number of devices; beats `sets`.
    block
        The block from which on the keys of `sets` are written, where they do not begin with one of
        :data:`harness.spec_sets.WHOLE_KEYS`. Empty: they are whole, or a field's bare name.

    Raises
    ------
    SpecError
        The text is no YAML mapping.
    UserError
        The file cannot be read.
    """
    return spec_of_text(read_spec_file(Path(path)), str(path), sets, device, block)


def spec_of_text(
    raw: bytes, path: str, sets: Sequence[str] = (), device: str | None = None, block: str = ""
) -> RunSpec:
    """Read the text of a spec, which need not stand in its file yet.

    Parameters
    ----------
    raw
        The text.
    path
        Where it stands, or will stand: the data are looked for from there.
    sets, device, block
        As for :func:`read_spec`.

    Raises
    ------
    SpecError
        The text is no YAML mapping.
    """
    from harness.yaml_loader import split_lines, with_source_lines

    root, problems = _load_root(raw, path)
    from harness.spec_check import SpecReader  # the text is YAML, so it is worth loading what judges it
    from harness.spec_rules import rule_problems

    reader = SpecReader()
    reader.read(root)
    given, given_problems = read_options(sets, device, block)
    text = raw.decode("utf-8-sig")
    lines = split_lines(text)
    spec = RunSpec(
        path=path,
        text=text,
        written=MappingProxyType(reader.leaves),
        sets=MappingProxyType(given.leaves),
        blocks=MappingProxyType({**given.blocks, **reader.blocks}),
        keys=MappingProxyType({**reader.keys, **given.keys}),
        misspelt=frozenset(reader.misspelt),
        options=MappingProxyType({SET_OPTION: tuple(sets), DEVICE_OPTION: (device or "",)}),
    )
    unreadable = {problem.place for problem in (*problems, *given_problems)}
    judged = [*reader.problems, *given.problems, *rule_problems(spec)]
    found = [*problems, *given_problems, *(one for one in judged if one.place not in unreadable)]
    shown = with_source_lines([problem for problem in found if not is_from_option(problem)], lines)
    shown.sort(key=lambda problem: (problem.place.line, problem.place.column) if problem.place else (0, 0))
    from_sets = [show_source(spec, problem) for problem in found if is_from_option(problem)]
    return dataclasses.replace(spec, problems=(*shown, *from_sets))


def spec_of_options(
    path: str,
    text: str,
    written: Mapping[str, Value],
    sets: Sequence[str],
    device: str | None,
    block: str = "",
) -> RunSpec:
    """Make a spec of what a command line says, for a run that comes from no spec file.

    Parameters
    ----------
    path, text, written
        What stands for the file: its name, what is kept of it, and the values that it gives.
    sets, device, block
        As for :func:`read_spec`.
    """
    given, problems = read_options(sets, device, block)
    spec = RunSpec(
        path=path,
        text=text,
        written=MappingProxyType(dict(written)),
        sets=MappingProxyType(given.leaves),
        blocks=MappingProxyType(given.blocks),
        keys=MappingProxyType(given.keys),
        options=MappingProxyType({SET_OPTION: tuple(sets), DEVICE_OPTION: (device or "",)}),
    )
    found = [show_source(spec, problem) for problem in (*problems, *given.problems)]
    return dataclasses.replace(spec, problems=tuple(found))


def show_source(spec: RunSpec, problem: Problem) -> Problem:
    """Give a problem the line of the spec, or the option, that it points at."""
    if problem.place is None or problem.source_line is not None:
        return problem
    if not spec.text and not is_from_option(problem):  # the spec of a name, or of a record, has no lines
        return problem
    from harness.yaml_loader import split_lines, with_source_lines

    lines = spec.options[problem.place.file] if is_from_option(problem) else split_lines(spec.text)
    return with_source_lines([problem], lines)[0]


def is_from_option(problem: Problem) -> bool:
    """Whether a problem is of a value that was given on the command line."""
    return problem.place is not None and problem.place.file in {SET_OPTION, DEVICE_OPTION}


def _load_root(raw: bytes, file: str) -> tuple[MappingNode, list[Problem]]:
    from harness.yaml_loader import load_yaml
    from harness.yaml_nodes import MappingNode, ScalarNode

    root, problems = load_yaml(raw, file)
    if isinstance(root, MappingNode):
        return root, problems
    sentence = "a spec is a mapping of keys to values (name, data, training, ...), this is something else"
    if isinstance(root, ScalarNode) and root.value is None:
        sentence = "the spec is empty: it needs at least name, data and training.n_groups"
    raise SpecError([*problems, Problem(sentence, root.place)])
