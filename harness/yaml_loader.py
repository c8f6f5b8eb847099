"""Read one YAML document strictly: YAML 1.2's core schema, with the place of every key and value.

PyYAML supplies the events; its constructor, its resolver and its composer are not used, because they read
``1e-3`` as text, ``no`` as false and ``010`` as 8, keep the last of two equal keys and recurse without bound.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import yaml

from harness.errors import Problem, SpecError
from harness.yaml_nodes import Entry, MappingNode, Node, ScalarNode, SequenceNode, resolve_plain
from ptycho_torch.layers import Place

__all__ = ["MAX_BYTES", "MAX_DEPTH", "load_yaml", "split_lines", "with_source_lines"]

MAX_BYTES = 64 * 1024
MAX_DEPTH = 16

# YAML 1.1 ends a line at these characters, YAML 1.2 does not; what Unicode calls a surrogate is no character.
_FOREIGN = re.compile("[\x85\u2028\u2029\ud800-\udfff]")


def load_yaml(raw: bytes, file: str, *, line: int = 1, column: int = 1) -> tuple[Node, list[Problem]]:
    """Read one YAML document.

    Parameters
    ----------
    raw
        The document in UTF-8, at most `MAX_BYTES` long and `MAX_DEPTH` levels deep.
    file
        The name that places and messages carry.
    line, column
        1-based place at which the document begins in that file.

    Returns
    -------
    The root node, and the problems that leave a document to read (duplicate keys, tags, aliases).

    Raises
    ------
    SpecError
        The text is no YAML document, or more than one, or too large or too deep to be read.
    """
    text = _decode(raw, file)
    builder = _Builder(file, line, column)
    lines = split_lines(text)
    try:
        _refuse_foreign(text, builder)
        root = builder.build(_events(text, builder))
    except SpecError as error:
        raise SpecError(with_source_lines(error.problems, lines, line)) from None
    return root, with_source_lines(builder.problems, lines, line)


def split_lines(text: str) -> list[str]:
    """Split a text into lines as YAML 1.2 does."""
    return re.split("\r\n|\r|\n", text)


def with_source_lines(problems: Iterable[Problem], lines: Sequence[str], first: int = 1) -> list[Problem]:
    """Give each problem the line of text that stands at its place; `first` is the number of ``lines[0]``."""
    shown = []
    for problem in problems:
        index = problem.place.line - first if problem.place is not None else -1
        if problem.source_line is None and 0 <= index < len(lines):
            shown.append(dataclasses.replace(problem, source_line=lines[index]))
        else:
            shown.append(problem)
    return shown


def _events(text: str, builder: _Builder) -> Iterator[Any]:
    start = Place(builder.file, builder.line, builder.column)
    try:
        yield from yaml.parse(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = _where_it_began(error) or error.problem_mark or error.context_mark
        sentence = _explain_syntax(error, builder)
        builder.problems.append(Problem(sentence, builder.place(mark) if mark else start))
        raise SpecError(builder.problems) from None
    except yaml.reader.ReaderError as error:
        code = error.character if isinstance(error.character, int) else ord(error.character)
        sentence = f"the character U+{code:04X} is not allowed in YAML: delete it"
        raise SpecError([Problem(sentence, _place_of_index(text, error.position, builder.file))]) from None
    except (ValueError, OverflowError) as error:  # an escape such as "\U99999999" in PyYAML's scanner
        builder.problems.append(Problem(f"this is not valid YAML: {error}", start))
        raise SpecError(builder.problems) from None


def _decode(raw: bytes, file: str) -> str:
    if len(raw) > MAX_BYTES:
        sentence = f"the file is larger than {MAX_BYTES:,} bytes, no spec is: is this the right file?"
        raise SpecError([Problem(sentence, Place(file, 1, 1))])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig", "replace")
        sentence = f"byte 0x{raw[error.start]:02x} is not UTF-8: save the file as UTF-8"
        raise SpecError([Problem(sentence, _place_of_index(before, len(before), file))]) from None


def _place_of_index(text: str, index: int, file: str) -> Place:
    before = text[:index]
    return Place(file, before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1)


def _refuse_foreign(text: str, builder: _Builder) -> None:
    found = _FOREIGN.search(text)
    if found:
        sentence = f"the character U+{ord(found.group()):04X} is not allowed in a spec: delete it"
        raise SpecError([Problem(sentence, _place_of_index(text, found.start(), builder.file))])


_SYNTAX = (
    ("found character '\\t'", "a tab stands where YAML wants spaces: indent with spaces"),
    ("mapping values are not allowed here", "a ':' cannot stand here: quote the value or indent it"),
    ("could not find expected ':'", "this line is no 'key: value': a ':' and a space are missing"),
    ("expected <block end>", "the indentation does not match the lines above"),
    ("expected ',' or ']'", "a list opened with '[' is not closed: a ',' or ']' is missing"),
    ("expected ',' or '}'", "a mapping opened with '{' is not closed: a ',' or '}' is missing"),
    ("found unexpected end of stream", "a quoted text is not closed: the last quote is missing"),
    ("found undefined alias", "aliases ('*name') are not allowed in a spec: write the value out"),
)


_UNCLOSED = ("while parsing a flow", "while scanning a quoted scalar", "while scanning a simple key")
_AT_THE_END = ("<stream end>", "end of stream")


def _where_it_began(error: yaml.MarkedYAMLError) -> Any:
    """Return the mark of what is not closed, where that is noticed in a later line or at the end only."""
    began, noticed, said = error.context_mark, error.problem_mark, error.problem or ""
    if began is None or noticed is None or not (error.context or "").startswith(_UNCLOSED):
        return None
    return began if noticed.line > began.line or any(words in said for words in _AT_THE_END) else None


def _explain_syntax(error: yaml.MarkedYAMLError, builder: _Builder) -> str:
    said = error.problem or ""
    for fragment, sentence in _SYNTAX:
        if fragment in said:
            is_within = "expected ','" in said and _AT_THE_END[0] not in said
            if error.problem_mark is not None and is_within and _where_it_began(error):
                noticed = builder.place(error.problem_mark)
                return f"{sentence} before line {noticed.line}, column {noticed.column}"
            return sentence
    context = f" {error.context}" if error.context else ""
    return f"this is not valid YAML{context}: {said}" if said else f"this is not valid YAML{context}"


@dataclasses.dataclass
class _Open:
    """A collection whose end has not been seen yet."""

    place: Place
    is_mapping: bool
    items: list[Node] = dataclasses.field(default_factory=list)
    entries: dict[str, Entry] = dataclasses.field(default_factory=dict)
    key: ScalarNode | None = None
    expects_value: bool = False


class _Builder:
    """Makes nodes of events, without recursion."""

    def __init__(self, file: str, line: int, column: int) -> None:
        self.file = file
        self.line = line
        self.column = column
        self.problems: list[Problem] = []
        self.stack: list[_Open] = []
        self.root: Node | None = None

    def place(self, mark: Any) -> Place:
        column = mark.column + (self.column if mark.line == 0 else 1)
        return Place(self.file, mark.line + self.line, column)

    def build(self, events: Iterator[Any]) -> Node:
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self.fatal("a second document begins here, a spec is one document: remove it", event)
            else:
                self.take(event)
        if self.root is None:
            sentence = "the spec is empty: it needs at least name, data and training.n_groups"
            raise SpecError([*self.problems, Problem(sentence, Place(self.file, self.line, self.column))])
        return self.root

    def fatal(self, sentence: str, event: Any) -> None:
        raise SpecError([*self.problems, Problem(sentence, self.place(event.start_mark))])

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.AliasEvent):
            self.fatal(f"the alias '*{event.anchor}' is not allowed in a spec: write the value out", event)
        if isinstance(event, yaml.NodeEvent):
            self.refuse_decoration(event)
        place = self.place(event.start_mark)
        if isinstance(event, yaml.ScalarEvent):
            self.attach(self.scalar(event, place))
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            if len(self.stack) >= MAX_DEPTH:
                self.fatal(f"more than {MAX_DEPTH} levels of nesting, no spec needs that many", event)
            self.stack.append(_Open(place, isinstance(event, yaml.MappingStartEvent)))
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            done = self.stack.pop()
            made: Node = SequenceNode(tuple(done.items), done.place)
            if done.is_mapping:
                made = MappingNode(tuple(done.entries.values()), done.place)
            self.attach(made)

    def refuse_decoration(self, event: Any) -> None:
        if event.anchor:
            sentence = f"the anchor '&{event.anchor}' is not allowed in a spec: write the value out"
            self.problems.append(Problem(sentence, self.place(event.start_mark)))
        tag = getattr(event, "tag", None)
        if tag:
            shown = tag.replace("tag:yaml.org,2002:", "!!")
            sentence = f"the tag {shown!r} is not allowed in a spec: drop it (quotes make a value text)"
            self.problems.append(Problem(sentence, self.place(event.start_mark)))

    def attach(self, node: Node) -> None:
        if not self.stack:
            self.root = node
            return
        parent = self.stack[-1]
        if not parent.is_mapping:
            parent.items.append(node)
        elif parent.expects_value:
            self.add_entry(parent, node)
        else:
            parent.expects_value = True
            parent.key = self.key(node)

    def key(self, node: Node) -> ScalarNode | None:
        if isinstance(node, ScalarNode) and isinstance(node.value, str):
            return node
        shown = node.text if isinstance(node, ScalarNode) else "a collection"
        sentence = f"the key {shown!r} is not text: every key of a spec is a word"
        self.problems.append(Problem(sentence, node.place))
        return None

    def add_entry(self, parent: _Open, node: Node) -> None:
        key, parent.key, parent.expects_value = parent.key, None, False
        if key is None:
            return
        name = str(key.value)
        first = parent.entries.get(name)
        if first is not None:
            where = f"line {first.place.line}, column {first.place.column}"
            sentence = f"the key {_short(name)!r} is written twice, first on {where}: keep one of the two"
            self.problems.append(Problem(sentence, key.place, _short(name)))
            return
        parent.entries[name] = Entry(name, key.place, node)

    def scalar(self, event: Any, place: Place) -> ScalarNode:
        is_plain = event.style is None or event.style == ""
        text = event.value
        value: str | int | float | bool | None = text
        if is_plain:
            try:
                value = resolve_plain(text)
            except ValueError as error:
                self.problems.append(Problem(str(error), place))
                value = None
        elif _FOREIGN.search(text):
            self.problems.append(Problem("the escape in this text stands for no allowed character", place))
        return ScalarNode(value, text, is_plain, place)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
