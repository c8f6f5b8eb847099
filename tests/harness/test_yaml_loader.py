from __future__ import annotations

import json
import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import Problem, SpecError
from harness.yaml_loader import MAX_BYTES, MAX_DEPTH, load_yaml
from harness.yaml_nodes import MappingNode, ScalarNode, resolve_plain
from ptycho_torch.layers import Place


def value_of(text: str) -> object:
    root, problems = load_yaml(text.encode(), "x.yaml")
    assert problems == []
    return root.value


def refusal(raw: bytes | str) -> str:
    with pytest.raises(SpecError) as caught:
        load_yaml(raw.encode() if isinstance(raw, str) else raw, "x.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1e3", 1000.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("-7", -7),
        ("no", "no"),
        ("off", "off"),
        ("yes", "yes"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("0b11", "0b11"),
        ("2024-01-01", "2024-01-01"),
        ("TRUE", True),
        ("false", False),
        ("tRue", "tRue"),
        ("~", None),
        ("", None),
        ("Null", None),
        ("-.inf", -math.inf),
        ("=", "="),
        ("<<", "<<"),
    ],
)
def test_plain_scalars_are_read_by_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    got = resolve_plain(text)
    assert got == value
    assert type(got) is type(value)


def test_not_a_number_is_a_number() -> None:
    got = resolve_plain(".nan")
    assert isinstance(got, float)
    assert math.isnan(got)


@pytest.mark.parametrize("text", ["'1'", '"1"', "|-\n  1"])
def test_a_quoted_number_is_text(text: str) -> None:
    assert value_of(f"a: {text}\n") == {"a": "1"}


def test_every_key_and_value_keeps_its_line_and_column() -> None:
    root, _ = load_yaml(b"a: 1\nb:\n  c: [x, 2]\n", "x.yaml")
    assert isinstance(root, MappingNode)
    first, second = root.entries
    assert (str(first.place), str(first.node.place)) == ("x.yaml:1:1", "x.yaml:1:4")
    assert isinstance(second.node, MappingNode)
    inner = second.node.entries[0]
    assert (str(second.place), str(inner.place), str(inner.node.place)) == (
        "x.yaml:2:1",
        "x.yaml:3:3",
        "x.yaml:3:6",
    )


def test_places_count_characters_not_bytes() -> None:
    root, _ = load_yaml("é: {ψ: 1}\n".encode(), "x.yaml")
    assert isinstance(root, MappingNode)
    assert str(root.entries[0].node.entries[0].node.place) == "x.yaml:1:8"  # type: ignore[union-attr]


def test_a_document_can_begin_at_another_place() -> None:
    root, _ = load_yaml(b"7", "--set", line=3, column=12)
    assert isinstance(root, ScalarNode)
    assert str(root.place) == "--set:3:12"


def test_all_duplicate_keys_are_reported_and_the_first_value_stays() -> None:
    root, problems = load_yaml(b"a: 1\na: 2\nb: {c: 1, c: 2}\n", "x.yaml")
    assert root.value == {"a": 1, "b": {"c": 1}}
    assert [str(problem.place) for problem in problems] == ["x.yaml:2:1", "x.yaml:3:11"]
    assert "first on line 1, column 1" in problems[0].sentence


def test_a_key_written_with_and_without_quotes_is_one_key() -> None:
    _, problems = load_yaml(b"a: 1\n'a': 2\n", "x.yaml")
    assert len(problems) == 1


@pytest.mark.parametrize("text", ["1: x", "null: x", "true: x", "[a]: x", "? {a: b}\n: x"])
def test_a_key_that_is_not_text_is_refused(text: str) -> None:
    _, problems = load_yaml(text.encode(), "x.yaml")
    assert "is not text" in problems[0].sentence


@pytest.mark.parametrize("text", ["a: !!int 3", "a: !python/object:os.system {}", "a: ! 3", "!x {a: 1}"])
def test_tags_are_refused(text: str) -> None:
    _, problems = load_yaml(text.encode(), "x.yaml")
    assert "the tag" in problems[0].sentence


def test_anchors_and_aliases_are_refused() -> None:
    said = refusal("a: &x [1]\nb: *x\n")
    assert "the anchor '&x'" in said
    assert "the alias '*x'" in said


def test_an_alias_bomb_is_refused_at_once() -> None:
    bomb = "a: &a [x, x, x, x]\n" + "".join(
        f"{c}: &{c} [*{p}, *{p}, *{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
    )
    begin = time.process_time()
    assert "the alias '*a'" in refusal(bomb)
    assert time.process_time() - begin < 0.2


@pytest.mark.parametrize("unit", ["[", "{a: ", "- "])
def test_five_thousand_levels_of_nesting_are_refused_without_recursion(unit: str) -> None:
    assert f"more than {MAX_DEPTH} levels" in refusal(unit * 5000)


def test_a_file_that_is_too_large_is_refused() -> None:
    assert "larger than" in refusal(b"#" * (MAX_BYTES + 1))


def test_bytes_that_are_not_utf_8_are_refused_with_their_place() -> None:
    assert refusal(b"a: 1\nb: \xff\n").startswith("x.yaml:2:4: byte 0xff is not UTF-8")


def test_a_byte_order_mark_is_skipped() -> None:
    assert load_yaml(b"\xef\xbb\xbfa: 1\n", "x.yaml")[0].value == {"a": 1}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the spec is empty"),
        ("# only a comment\n", "the spec is empty"),
        ("a: 1\n---\nb: 2\n", "a second document begins here"),
        ("a:\n\tb: 1\n", "a tab stands where"),
        ("a: b: c\n", "a ':' cannot stand here"),
        ("a: [1, 2\nb: 3\n", "is not closed"),
        ("a: 'x\n", "a quoted text is not closed"),
        ("a: 1\n b: 2\n", "a ':' cannot stand here"),
        ("a:\n    b: 1\n  c: 2\n", "the indentation does not match"),
        ("a: \x01\n", "U+0001"),
        ("a: x\u2028b: 2\n", "U+2028"),
        ('a: "\\U99999999"\n', "not valid YAML"),
    ],
)
def test_broken_yaml_is_answered_in_plain_words(text: str, sentence: str) -> None:
    assert sentence in refusal(text)


@pytest.mark.parametrize(
    ("text", "place", "sentence"),
    [
        ("a: 1\nb: [1, 2\n", "2:4", "a ',' or ']' is missing"),
        ("a: {b: 1\n\n\n", "1:4", "a ',' or '}' is missing"),
        ("a: {b: 1, c: 2\nd: 3\n", "1:4", "a ',' or '}' is missing before line 2, column 2"),
        ("a: {b: {c: 1}\nd: 2\n", "1:4", "a ',' or '}' is missing before line 2, column 1"),
        ("a: {\n  b: [1\n}\n", "2:6", "a ',' or ']' is missing before line 3, column 1"),
        ("a: {b: 1 c: 2}\n", "1:11", "a ',' or '}' is missing"),
        ("a: {b: [1, 2}\n", "1:13", "a ',' or ']' is missing"),
        ("a: 'x\nb: 3\n", "1:4", "the last quote is missing"),
        ("a: 1\nfoo\nb: 3\n", "2:1", "a ':' and a space are missing"),
    ],
)
def test_what_is_not_closed_is_placed_where_it_was_opened_unless_the_fault_is_in_that_line(
    text: str, place: str, sentence: str
) -> None:
    head, line, _ = refusal(text).splitlines()
    assert head.startswith(f"x.yaml:{place}: ")
    assert head.endswith(sentence)
    assert line == f"    {text.splitlines()[int(place.partition(':')[0]) - 1]}"


def test_a_message_shows_the_line_with_a_caret_under_the_place() -> None:
    assert refusal("a: 1\nb: 2: 3\n").splitlines()[1:] == ["    b: 2: 3", "        ^"]
    _, (problem,) = load_yaml(b"a: 1\na: 2\n", "x.yaml")
    assert problem.render().splitlines()[1:] == ["    a: 2", "    ^"]


def test_a_number_of_a_thousand_digits_is_refused_not_computed() -> None:
    _, problems = load_yaml(b"a: " + b"9" * 10_000, "x.yaml")
    assert "10000 digits" in problems[0].sentence


def test_an_escaped_surrogate_is_refused() -> None:
    _, problems = load_yaml(b'a: "\\ud800"\n', "x.yaml")
    assert "no allowed character" in problems[0].sentence


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(alphabet="ab:-[]{}!&*?|>'\"#%@`,~ \n\t0189.e\\x", max_size=120).map(str.encode),
    )
)
def test_any_bytes_give_a_document_or_a_spec_error(raw: bytes) -> None:
    problems: list[Problem] | tuple[Problem, ...]
    try:
        root, problems = load_yaml(raw, "x.yaml")
        repr(root.value).encode()
    except SpecError as error:
        problems = error.problems
    assert all(problem.place is not None and problem.sentence for problem in problems)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}", fullmatch=True),
        st.one_of(
            st.integers(),
            st.booleans(),
            st.none(),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(alphabet=st.characters(max_codepoint=0x7E), max_size=20),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_json_is_read_as_json_reads_it(mapping: dict[str, object]) -> None:
    root, problems = load_yaml(json.dumps(mapping).encode(), "x.yaml")
    assert problems == []
    assert root.value == mapping


@pytest.mark.parametrize(
    ("column", "shown"),
    [(1, f"{'a' * 98}b…"), (100, f"…{'a' * 48}b{'c' * 49}…"), (200, f"…{'c' * 99}")],
)
def test_a_long_line_shows_where_it_is_cut_and_the_caret_stands_under_its_character(
    column: int, shown: str
) -> None:
    line = f"{'a' * 98}b{'c' * 101}"
    rendered = Problem("x", Place("f", 1, column), source_line=line).render()
    _, cut, caret = rendered.splitlines()
    assert cut == f"    {shown}"
    assert len(cut) == 104
    assert cut[len(caret) - 1] == line[column - 1]


def test_a_line_that_fits_is_shown_whole() -> None:
    line = "a" * 100
    assert Problem("x", Place("f", 1, 100), source_line=line).render().splitlines()[1] == f"    {line}"
