from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import SpecError
from harness.resolve import resolve
from harness.spec import read_spec
from tests.harness.spec_kit import LOCAL, ROOT

WHOLE = (ROOT / "tests" / "specs" / "valid" / "every_block.yaml").read_bytes()
INSERTS = [
    b"null",
    b"[]",
    b"{}",
    b"1e400",
    b"-1",
    b'"\\ud800"',
    b"\0",
    b"&a ",
    b"*a",
    b"!x ",
    b"? ",
    b": ",
    b"\n",
    b"\t",
]
EDIT = st.tuples(
    st.integers(0, len(WHOLE)), st.integers(0, 6), st.one_of(st.sampled_from(INSERTS), st.binary(max_size=4))
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture],
)
@given(edits=st.lists(EDIT, min_size=1, max_size=4))
def test_a_mutilated_spec_resolves_or_is_refused_and_nothing_else(
    tmp_path: Path, edits: list[tuple[int, int, bytes]]
) -> None:
    text = WHOLE
    for position, length, insert in edits:
        text = text[:position] + insert + text[position + length :]
    path = tmp_path / "spec.yaml"
    path.write_bytes(text)
    sentences: list[str] = []
    try:
        resolve(read_spec(path), LOCAL)
    except SpecError as error:
        sentences = [problem.sentence for problem in error.problems]
        str(error).encode()
    assert all(sentence and "\n" not in sentence for sentence in sentences)


@settings(max_examples=150, deadline=None)
@given(
    key=st.sampled_from(
        ["", "n_groups", "training.epochs", "data.train", "seed", "data.train.simulate.scan.rows", "a.b"]
    ),
    value=st.text(max_size=12),
)
def test_any_override_is_taken_or_refused_and_nothing_else(key: str, value: str) -> None:
    path = ROOT / "tests" / "specs" / "valid" / "smallest.yaml"
    spec = read_spec(path, [f"{key}={value}"])
    assert all(problem.sentence for problem in spec.problems)
