"""Every broken data file of ``tests/broken_data.py`` is refused before a run folder is made.

``tests/broken_data.txt`` holds what must be said of each: ``[case]``, then one line for each problem,
``line:column key: sentence``. The words in brackets behind *fetch it again* are the library's, not ours.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import main
from harness.errors import ExitCode
from harness.resolve import resolve
from harness.spec import read_spec
from tests.broken_data import BROKEN, ODD_BUT_LEGAL, SPECS, spec_for
from tests.harness.spec_kit import LOCAL, ROOT

NOBODY = 65534
# The first plan imports everything: an ordinary user may have no way into the tree of the packages.
AS_AN_ORDINARY_USER = f"""
import contextlib, os, sys
from harness.cli import main
os.chdir(sys.argv[1])
with contextlib.redirect_stderr(None), contextlib.redirect_stdout(None):
    main(["plan", "spec.yaml"])
with contextlib.suppress(PermissionError):  # root without its rights is an ordinary user already
    os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
sys.exit(main(["plan", "spec.yaml"]))
"""
IN_A_PROCESS_OF_ITS_OWN = [
    "a_folder",
    "a_pipe",
    "claims_gigabytes",
    "a_header_that_is_a_program",
    "pickled_positions",
    "nan_in_the_last_frame",
    "patches_outside_the_object",
    "too_few_frames_to_hold_out",
]


def expected() -> dict[str, list[str]]:
    cases: dict[str, list[str]] = {}
    for line in (ROOT / "tests" / "broken_data.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            cases[line.strip("[]")] = said = []
        else:
            said.append(line)
    return cases


EXPECTED = expected()


def lay_out(folder: Path, case: str) -> None:
    ({**BROKEN, **ODD_BUT_LEGAL}[case])(folder / "scan.npz")
    (folder / "spec.yaml").write_text(spec_for(case), encoding="utf-8")


def problems_in(text: str) -> list[str]:
    """Take the sentences out of what is printed, and check the caret under each place."""
    lines = text.splitlines()
    found = []
    for head, source, caret in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        match = re.fullmatch(r"spec\.yaml:(\d+):(\d+) (.*)", head)
        assert match is not None, head
        line, column, rest = match.groups()
        assert caret == " " * (4 + int(column) - 1) + "^"
        assert source.strip()
        found.append(f"{line}:{column} {re.sub(r'fetch it again .*', 'fetch it again (...)', rest)}")
    return found


def harness(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HARNESS_DATA": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_there_are_more_than_forty_broken_files_and_each_has_its_message() -> None:
    assert len(BROKEN) >= 40
    assert EXPECTED.keys() == BROKEN.keys()
    assert all(EXPECTED.values())
    assert SPECS.keys() <= BROKEN.keys()


@pytest.mark.parametrize("case", list(BROKEN))
def test_a_broken_file_is_refused_in_a_sentence_for_each_problem(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out(tmp_path, case)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    before = sorted(tmp_path.iterdir())
    assert main(["run", "spec.yaml", "--runs-dir", "runs"]) == ExitCode.BAD_INPUT
    printed = capsys.readouterr()
    assert problems_in(printed.err) == EXPECTED[case]
    assert printed.out == ""
    assert sorted(tmp_path.iterdir()) == before, "something was left behind"


@pytest.mark.parametrize("case", list(ODD_BUT_LEGAL))
def test_an_odd_file_is_read(case: str, tmp_path: Path) -> None:
    lay_out(tmp_path, case)
    header = resolve(read_spec(tmp_path / "spec.yaml"), LOCAL).run.sources["train"].header  # type: ignore[union-attr]
    assert header.N == 64


@pytest.mark.parametrize("case", IN_A_PROCESS_OF_ITS_OWN)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_the_command_line_refuses_with_exit_code_two_and_no_trace(
    case: str, command: str, tmp_path: Path
) -> None:
    lay_out(tmp_path, case)
    done = harness(tmp_path, command, "spec.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert problems_in(done.stderr) == EXPECTED[case]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scan.npz", "spec.yaml"]


@pytest.mark.parametrize(
    ("mode_of_file", "mode_of_folder", "said"),
    [
        (0o000, 0o755, "data/scan.npz cannot be read: Permission denied"),
        (0o644, 0o000, "data/scan.npz cannot be reached: Permission denied"),
    ],
)
def test_a_file_that_this_user_may_not_read_is_refused(
    mode_of_file: int, mode_of_folder: int, said: str, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    BROKEN["zero_groups"](folder / "scan.npz")
    spec = spec_for("sound").replace("scan.npz", "data/scan.npz")
    (tmp_path / "spec.yaml").write_text(spec, encoding="utf-8")
    (folder / "scan.npz").chmod(mode_of_file)
    folder.chmod(mode_of_folder)
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", AS_AN_ORDINARY_USER, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "HARNESS_DATA": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    folder.chmod(0o755)
    assert done.returncode == 2, done.stderr
    assert problems_in(done.stderr) == [f"2:22 data.train.file: {said}"]
