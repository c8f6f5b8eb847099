"""What a run ran on: packages by version and content, wherever and however they were installed."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

from harness.environment import Package, cpu, gpus, interpreter, packages_digest, record_digest

ROOT = Path(__file__).parents[2]
RECORD = """pkg/__init__.py,sha256=abc,10
pkg/core.py,sha256=def,20
pkg-1.0.dist-info/METADATA,sha256=ghi,30
pkg-1.0.dist-info/RECORD,,
"""


def test_installer_byte_code_scripts_and_order_do_not_change_a_package() -> None:
    extra = (
        "../../../bin/pkg,sha256=zzz,1\n"
        "/usr/share/man/pkg.1,sha256=zzz,1\n"
        "pkg/__pycache__/core.cpython-311.pyc,,\n"
        "pkg-1.0.dist-info/INSTALLER,sha256=pip,4\n"
        "pkg-1.0.dist-info/REQUESTED,sha256=e3b,0\n"
        "pkg-1.0.dist-info/direct_url.json,sha256=url,99\n"
    )
    assert record_digest(extra + "".join(reversed(RECORD.splitlines(keepends=True)))) == record_digest(RECORD)


def test_a_changed_added_or_removed_file_changes_a_package() -> None:
    changed = RECORD.replace("sha256=def", "sha256=xyz")
    added = RECORD + "pkg/more.py,sha256=new,1\n"
    removed = RECORD.replace("pkg/core.py,sha256=def,20\n", "")
    assert len({record_digest(text) for text in (RECORD, changed, added, removed)}) == 4


def test_a_file_called_like_an_installers_note_elsewhere_counts() -> None:
    assert record_digest(RECORD + "pkg/INSTALLER,sha256=abc,1\n") != record_digest(RECORD)


def test_the_digest_of_all_packages_sees_name_version_and_content() -> None:
    digests = {
        packages_digest(packages)
        for packages in (
            {"a": Package("1.0", "x")},
            {"a": Package("1.1", "x")},
            {"a": Package("1.0", "y")},
            {"b": Package("1.0", "x")},
            {"a": Package("1.0", "x"), "b": Package("1.0", "x")},
        )
    }
    assert len(digests) == 5


def test_every_installed_package_but_this_project_is_described() -> None:
    described = interpreter()
    assert described["packages"]["pydantic"]["version"] == importlib.metadata.version("pydantic")
    assert len(described["packages"]["numpy"]["record_digest"]) == 64
    assert "ptychopinn-harness" not in described["packages"]
    assert "pip" not in described["packages"]
    assert described["build_id"] is None


def test_the_interpreter_describes_itself_the_same_under_another_locale_zone_and_hash_seed() -> None:
    answers = set()
    for settings in ({}, {"LANG": "de_DE.UTF-8", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"}):
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **settings}
        command = [sys.executable, "-P", "-m", "harness.environment"]
        done = subprocess.run(command, env=environment, capture_output=True, check=True)
        answers.add(done.stdout)
    assert len(answers) == 1
    assert json.loads(answers.pop())["python"].startswith(f"{sys.version_info.major}.")


def test_the_processor_is_read_from_cpuinfo(tmp_path: Path) -> None:
    text = "vendor_id\t: GenuineIntel\nmodel name\t: Some CPU\nflags\t\t: fma avx2\n\nmodel name\t: Another\n"
    (tmp_path / "cpuinfo").write_text(text)
    found = cpu(tmp_path / "cpuinfo")
    assert (found.vendor, found.model, found.flags) == ("GenuineIntel", "Some CPU", ("avx2", "fma"))
    assert found.cores >= 1


def test_a_machine_without_cpuinfo_still_has_a_processor(tmp_path: Path) -> None:
    assert cpu(tmp_path / "absent").model


def test_graphics_cards_are_read_from_the_driver_tool(tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H200, 550.54.15'\n")
    tool.chmod(0o755)
    code = "from harness.environment import gpus; print([(g.name, g.driver) for g in gpus()])"
    environment = {"PATH": f"{tmp_path}:/bin", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[('NVIDIA H200', '550.54.15')]"


def test_a_machine_without_a_driver_has_no_graphics_card(tmp_path: Path) -> None:
    code = "from harness.environment import gpus; print(gpus())"
    environment = {"PATH": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "()"
    assert isinstance(gpus(), tuple)
