"""Comparing images by what is in them, on archives as the engine exports them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from harness.image_files import (
    ImageEntry,
    content_digest,
    differing_paths,
    differing_settings,
    entries_of,
    packages_in,
)


def archive(*members: tuple[str, dict[str, Any], bytes]) -> Iterator[bytes]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, facts, text in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            for key, value in {"mode": 0o644, **facts}.items():
                setattr(entry, key, value)
            tar.addfile(entry, io.BytesIO(text))
    whole = buffer.getvalue()
    return (whole[start : start + 700] for start in range(0, len(whole), 700))


PROGRAM = ("opt/program", {"mode": 0o755}, b"#!/bin/sh\n" * 500)
FOLDER = ("opt/", {"type": tarfile.DIRTYPE, "mode": 0o755}, b"")
LINK = ("bin", {"type": tarfile.SYMTYPE, "linkname": "usr/bin"}, b"")
PLAIN = entries_of(archive(FOLDER, PROGRAM, LINK))


def test_times_and_order_are_no_content() -> None:
    name, facts, text = PROGRAM
    other = entries_of(archive(LINK, FOLDER, (name, {**facts, "mtime": 86400}, text)))
    assert content_digest(other) == content_digest(PLAIN)
    assert list(differing_paths(PLAIN, other)) == []


@pytest.mark.parametrize(
    ("member", "sentence"),
    [
        ((PROGRAM[0], PROGRAM[1], PROGRAM[2][:-1] + b"!"), "opt/program: file 0755 0:0 "),
        ((PROGRAM[0], {"mode": 0o4755}, PROGRAM[2]), "opt/program: file 0755 "),
        ((PROGRAM[0], {**PROGRAM[1], "uid": 7}, PROGRAM[2]), "7:0"),
        ((PROGRAM[0], {"type": tarfile.SYMTYPE, "linkname": "sh"}, b""), "link 0644 0:0 sh"),
        ((PROGRAM[0], {**PROGRAM[1], "pax_headers": {"SCHILY.xattr.user.x": "1"}}, PROGRAM[2]), "xattr"),
        (("opt/another", {}, b""), "only in the first"),
    ],
    ids=["byte", "mode", "owner", "kind", "attribute", "path"],
)
def test_one_changed_fact_is_another_content_and_is_named(
    member: tuple[str, dict[str, Any], bytes], sentence: str
) -> None:
    other = entries_of(archive(FOLDER, member, LINK))
    assert content_digest(other) != content_digest(PLAIN)
    assert any(sentence in difference for difference in differing_paths(PLAIN, other))


def test_a_second_name_of_a_file_has_that_file_s_content() -> None:
    entries = entries_of(
        archive(PROGRAM, ("opt/same", {"type": tarfile.LNKTYPE, "linkname": "opt/program"}, b""))
    )
    assert entries["opt/same"] == entries["opt/program"]


def test_what_the_engine_adds_is_left_out() -> None:
    entries = entries_of(archive((".dockerenv", {}, b""), ("etc/hosts", {}, b""), ("etc/passwd", {}, b"")))
    assert list(entries) == ["etc/passwd"]


CONFIG: dict[str, Any] = {
    "User": "65532:65532",
    "Env": ["LANG=C.UTF-8", "OPTIONS=-x a=b"],
    "Entrypoint": ["/usr/bin/start"],
    "Cmd": ["harness", "--help"],
    "WorkingDir": "/srv",
    "Volumes": None,
    "Labels": {"org.opencontainers.image.revision": "1"},
}


def test_labels_order_of_variables_and_what_is_empty_are_no_difference() -> None:
    same = {**CONFIG, "Env": CONFIG["Env"][::-1], "Volumes": {}, "Labels": None, "StopSignal": ""}
    assert list(differing_settings(CONFIG, same)) == []


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"User": ""}, "User: '65532:65532' | None"),
        ({"Env": ["LANG=C.UTF-8", "OPTIONS=-x a=c"]}, "Env OPTIONS: '-x a=b' | '-x a=c'"),
        ({"Env": None}, "Env LANG: 'C.UTF-8' | None"),
        ({"Entrypoint": None}, "Entrypoint: ['/usr/bin/start'] | None"),
        ({"Cmd": ["sh"]}, "Cmd: ['harness', '--help'] | ['sh']"),
        ({"WorkingDir": "/"}, "WorkingDir: '/srv' | '/'"),
    ],
    ids=["user", "variable", "variables", "entrypoint", "command", "folder"],
)
def test_a_changed_setting_is_named(changed: dict[str, Any], sentence: str) -> None:
    assert next(differing_settings(CONFIG, {**CONFIG, **changed})) == sentence


def test_packages_are_read_off_the_environment() -> None:
    nothing = ImageEntry("folder", 0o755, 0, 0, "")
    site = "opt/ptychopinn/venv/lib/python3.11/site-packages"
    paths = (f"{site}/numpy-2.3.4.dist-info", f"{site}/scikit_image-0.25.2.dist-info", f"{site}/numpy")
    assert packages_in(dict.fromkeys(paths, nothing)) == {"numpy": "2.3.4", "scikit-image": "0.25.2"}
