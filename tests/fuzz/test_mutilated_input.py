"""A short sample of what ``make fuzz`` does at length, and everything that it has found."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS, FindingError, archive_from, demand

WITH_FOLDER = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture],
)
ARCHIVES = seeds("npz")
FOUND = {
    "npz": [
        # Its directory names one member, its header another that is two kilobytes of data.
        ARCHIVES[6].replace(b"\x08\x00\x14\x00data.npy", b"\xff\x08\x14\x00data.npy"),
    ],
    "arrays": [
        bytes.fromhex(
            "555555555555555555556f55550555555555555555555555550d0e0f1011123b1415161718191a1b1c1d1e1f"
            "2021222324252627285555555555555555555555"
        ),
    ],
    "yaml": [b'{"name": "j", "data": {"train":8}}:'],
}
"""Reader to inputs that it did not answer as it should; each is mended."""


@pytest.mark.parametrize("target", list(FOUND))
def test_what_was_found_is_mended(target: str, tmp_path: Path) -> None:
    for content in FOUND[target]:
        TARGETS[target](content, tmp_path)


@pytest.mark.parametrize("target", list(TARGETS))
def test_every_seed_is_answered(target: str, tmp_path: Path) -> None:
    for content in seeds(target):
        TARGETS[target](content, tmp_path)


@WITH_FOLDER
@given(data=st.binary(max_size=400))
def test_an_archive_of_any_arrays_is_read_or_refused(data: bytes, tmp_path: Path) -> None:
    TARGETS["arrays"](data, tmp_path)


@WITH_FOLDER
@given(
    seed=st.integers(0, len(ARCHIVES) - 1),
    place=st.floats(0, 1),
    cut=st.integers(0, 9),
    put=st.binary(max_size=9),
)
def test_an_altered_file_is_read_or_refused(
    seed: int, place: float, cut: int, put: bytes, tmp_path: Path
) -> None:
    content = ARCHIVES[seed]
    at = int(place * len(content))
    TARGETS["npz"](content[:at] + put + content[at + cut :], tmp_path)


def test_the_archive_from_which_all_begins_is_read(tmp_path: Path) -> None:
    (tmp_path / "scan.npz").write_bytes(archive_from(b""))
    TARGETS["arrays"](b"", tmp_path)


def test_a_refusal_that_is_no_sentence_is_a_finding() -> None:
    demand(True, "a place", "is said")
    with pytest.raises(FindingError, match="a place: 'is said'"):
        demand(False, "a place", "is said")
