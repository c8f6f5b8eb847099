"""What an environment says of itself is what an executor asks it for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from harness.describe import FACTS, describe

ROOT = Path(__file__).parents[2]


def test_a_description_holds_every_fact_and_no_other() -> None:
    assert describe().keys() == FACTS


def test_the_command_prints_the_description_and_nothing_else() -> None:
    command = [sys.executable, "-m", "harness.describe"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == describe()
