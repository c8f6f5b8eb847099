"""`harness bisect --restore` looks into each run with its own code in its own environment, both rebuilt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.errors import ExitCode
from tests.harness.conftest import commit
from tests.harness.test_road import COMPLETED_OR_COLLAPSED, SPEC

INSTALLER = f"""\
#!/bin/sh
# An environment with everything of the tests' one, and the package that the lock names, which training asks.
set -eu
version=$(sed -n 's/^photon-units==//p' "$2")
"$PYTHON" -m venv --without-pip "$1"
cd "$1"/lib/python3*/site-packages
echo '{sysconfig.get_path("purelib")}' > all.pth
echo "FACTOR = $version" > photon_units.py
info=photon_units-$version.dist-info
mkdir "$info"
printf 'Metadata-Version: 2.1\\nName: photon-units\\nVersion: %s\\n' "$version" > "$info/METADATA"
echo "photon_units.py,sha256=$(sha256sum photon_units.py | cut -c1-64),1" > "$info/RECORD"
cp "$2" "$1/installed.lock"
"""


@dataclass(frozen=True)
class Place:
    """A source tree whose loss takes a factor from a package, and a folder for all that is made with it."""

    tree: Path
    folder: Path

    def environment(self, version: str) -> str:
        """Make an environment that has this version of the package; return its interpreter."""
        lock, made = self.folder / f"{version}.lock", self.folder / version
        lock.write_text(f"photon-units=={version}\n")
        installer = self.tree / "tools" / "install.sh"
        python = {**os.environ, "PYTHON": sys.executable}
        subprocess.run(["sh", str(installer), str(made), str(lock)], env=python, check=True)
        return str(made / "bin" / "python")

    def harness(self, python: str, *words: str) -> subprocess.CompletedProcess[str]:
        own = {"PYTHONPATH": str(self.tree), "PYTHONSAFEPATH": "1", "HARNESS_CACHE": str(self.cache)}
        return subprocess.run(
            [python, "-m", "harness", *words, "--runs-dir", str(self.folder / "runs")],
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def bisect(self, python: str, *words: str) -> dict[str, Any]:
        runs = sorted(path.name for path in (self.folder / "runs").iterdir())
        answer = self.harness(python, "bisect", *runs, "--json", *words)
        assert answer.returncode == ExitCode.DIFFERS, answer.stderr
        found: dict[str, Any] = json.loads(answer.stdout)
        return found


@pytest.fixture
def place(own_tree: Path, tmp_path: Path) -> Place:
    (own_tree / "tools").mkdir()
    (own_tree / "tools" / "install.sh").write_text(INSTALLER)
    loss = own_tree / "ptycho_torch" / "losses" / "__init__.py"
    text = loss.read_text()
    for old, new in (
        ("from torch import Tensor\n", "from photon_units import FACTOR\nfrom torch import Tensor\n"),
        ("return terms.sum() /", "return FACTOR * terms.sum() /"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    loss.write_text(text)
    commit(own_tree)
    return Place(own_tree, tmp_path)


@pytest.mark.slow
def test_a_package_of_another_version_is_found_only_with_both_environments_rebuilt(place: Place) -> None:
    spec = place.folder / "spec.yaml"
    spec.write_text(SPEC)
    here = place.environment("1.0")
    for python, name in ((here, "first"), (place.environment("1.0000001"), "second")):
        answer = place.harness(python, "run", str(spec), "--set", f"name={name}")
        assert answer.returncode in COMPLETED_OR_COLLAPSED, answer.stderr
    with (place.tree / "ptycho_torch" / "module.py").open("a") as file:
        file.write("# later\n")
    commit(place.tree)

    told = place.bisect(here)
    assert (told["tensor"], told["told_by"]) == ("loss", "trace")
    assert any("package photon-units 1.0000001 -> 1.0" in note for note in told["notes"]), told["notes"]

    restored = place.bisect(here, "--restore")
    assert (restored["step"], restored["tensor"], restored["told_by"]) == (0, "loss", "replay")
    assert restored["notes"] == []
    assert [(one["parting"], one["conditions"], one["problem"]) for one in restored["replays"].values()] == [
        (None, [], "")
    ] * 2
    assert restored["causes"][0]["suspect"]["sentence"] == "package photon-units 1.0 -> 1.0000001"
    assert len(list((place.cache / "environments").glob("*/installed.lock"))) == 1  # the other one is here


def test_restoring_and_carrying_nothing_out_contradict_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bisect", "a", "b", "--trace-only", "--restore"]) == ExitCode.BAD_INPUT
    assert "leave one of them out" in capsys.readouterr().err
