"""Differences between a run and what stands here now."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.code_capture import Code
from harness.compare import (
    Found,
    cards_in_words,
    code_differences,
    data_differences,
    environment_differences,
    facts_that_differ,
)
from harness.environment import Cpu, Environment, Gpu, Lock, Package

FACTS = st.dictionaries(
    st.text(min_size=1, max_size=5),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
)


def environment(
    python: str = "3.11.2",
    cpu: str = "Some CPU",
    lock: str = "a" * 64,
    libc: str = "glibc 2.36",
    cards: tuple[Gpu, ...] = (),
    **versions: str,
) -> Environment:
    packages = {name: Package(*version.split("+")) for name, version in versions.items()}
    lock_record = Lock("environment.lock", lock, True)
    return Environment(
        python, "CPython", packages, "", lock_record, Cpu("v", cpu, (), 2), cards, {"libc": libc}
    )


def code(files: dict[str, str], commit: str | None = "a" * 40, dirty: bool = False) -> Code:
    return Code("", files, commit, None, dirty, None, None)


def sentences(differences: object) -> list[tuple[str, bool]]:
    return [(str(one), one.matters) for one in differences]  # type: ignore[attr-defined]


@given(FACTS)
def test_facts_do_not_differ_from_themselves(facts: dict[str, object]) -> None:
    assert facts_that_differ(facts, dict(facts)) == ()


@given(FACTS, FACTS)
def test_the_facts_that_differ_are_the_same_from_both_sides(
    one: dict[str, object], two: dict[str, object]
) -> None:
    assert facts_that_differ(one, two) == facts_that_differ(two, one)


def test_facts_differ_in_the_last_bit_in_type_and_by_absence() -> None:
    first = {"a": 0.1, "b": 1, "c": 0.0, "d": None}
    second = {"a": 0.1 + 2**-56, "b": True, "c": -0.0}
    assert facts_that_differ(first, second) == ("a", "b", "c", "d")


def test_every_changed_package_is_named() -> None:
    was, now = environment(a="1.0+x", b="1.0+x", c="1.0+x"), environment(a="1.1+y", b="1.0+z", d="2.0+x")
    assert sentences(environment_differences(was, now, exact_cpu=False)) == [
        ("environment: package a 1.0 -> 1.1", True),
        ("environment: package b 1.0 holds other files than before (digest of its RECORD)", True),
        ("environment: package c 1.0 -> absent", True),
        ("environment: package d absent -> 2.0", True),
    ]


def test_another_interpreter_matters_and_its_patch_version_does_not() -> None:
    assert sentences(environment_differences(environment(), environment("3.11.9"), exact_cpu=True)) == []
    (sentence,) = sentences(environment_differences(environment(), environment("3.12.1"), exact_cpu=True))
    assert sentence == ("environment: interpreter CPython 3.11.2 -> CPython 3.12.1", True)


def test_another_lock_is_named_but_what_is_installed_decides() -> None:
    (sentence,) = sentences(
        environment_differences(environment(), environment(lock="b" * 64), exact_cpu=True)
    )
    assert sentence == ("environment: lock aaaaaaaaaaaa -> bbbbbbbbbbbb", False)


def test_another_processor_matters_only_where_the_profile_is_bound_to_it() -> None:
    was, now = environment(), environment(cpu="Another")
    assert [one.matters for one in environment_differences(was, now, exact_cpu=True)] == [True]
    assert [one.matters for one in environment_differences(was, now, exact_cpu=False)] == [False]


def test_another_c_library_matters() -> None:
    (sentence,) = sentences(
        environment_differences(environment(), environment(libc="glibc 2.41"), exact_cpu=False)
    )
    assert sentence == ("environment: C library glibc 2.36 -> glibc 2.41", True)


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ((Gpu("H200", "550.1"),), "H100, driver 550.1 -> H200, driver 550.1"),
        ((Gpu("H100", "560.2"),), "H100, driver 550.1 -> H100, driver 560.2"),
        ((), "H100, driver 550.1 -> none"),
    ],
)
def test_another_card_or_driver_matters_where_the_run_computed_on_one(
    now: tuple[Gpu, ...], words: str
) -> None:
    was, here = environment(cards=(Gpu("H100", "550.1"),)), environment(cards=now)
    for on_gpu in (True, False):
        (sentence,) = sentences(environment_differences(was, here, exact_cpu=False, on_gpu=on_gpu))
        assert sentence == (f"environment: graphics card {words}", on_gpu)


def test_more_cards_of_one_model_are_no_difference() -> None:
    one, many = environment(cards=(Gpu("H100", "1"),)), environment(cards=(Gpu("H100", "1"),) * 8)
    assert cards_in_words(one) == cards_in_words(many) == "H100, driver 1"
    assert sentences(environment_differences(one, many, exact_cpu=True, on_gpu=True)) == []


def test_changed_added_and_removed_source_files_are_named_with_the_distance() -> None:
    was = code({"harness/a.py": "1", "harness/b.py": "1"}, dirty=True)
    now = {"harness/a.py": "2", "harness/c.py": "1"}
    assert sentences(code_differences(was, now, "b" * 40, "10 commits later")) == [
        ("code: commit aaaaaaaaaaaa -> bbbbbbbbbbbb, 10 commits later", True),
        (
            "code: 3 source files differ, the recorded run had uncommitted changes: "
            "harness/a.py (changed), harness/b.py (removed), harness/c.py (added)",
            True,
        ),
    ]


def test_later_commits_that_leave_the_source_files_alone_do_not_matter() -> None:
    (one,) = code_differences(code({"a": "1"}), {"a": "1"}, "b" * 40, "3 commits later")
    assert not one.matters


def test_many_changed_files_are_counted_and_the_first_named() -> None:
    files = {f"f{number:02d}": "1" for number in range(20)}
    (one,) = code_differences(code(files), {}, "a" * 40, "")
    assert one.sentence.startswith("20 source files differ: f00 (removed)")
    assert one.sentence.endswith("and 8 more")


def test_data_that_is_lost_or_altered_is_named() -> None:
    found = {
        "train": Found(Path("x/scan.npz"), "b" * 64),
        "test": Found(None, None, reason="the address does not answer"),
        "reference": Found(Path("r"), "c"),
    }
    wanted = {"train": "a" * 64, "test": "a" * 64, "reference": "c"}
    assert [str(one) for one in data_differences(wanted, found)] == [
        "data: test: no file with sha256 aaaaaaaaaaaa was found: "
        "name its folder by --data-dir or HARNESS_DATA; the address does not answer",
        "data: train: x/scan.npz has sha256 bbbbbbbbbbbb, recorded is aaaaaaaaaaaa: "
        "name the folder of the recorded file by --data-dir or HARNESS_DATA",
    ]
