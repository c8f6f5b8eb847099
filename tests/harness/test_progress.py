"""Progress is told whole or not at all, and a death in between leaves no file of the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.contents import leftovers, recorded_files
from harness.progress import write_progress
from harness.store import PROGRESS


def test_a_line_that_did_not_take_its_name_is_no_file_of_the_run(tmp_path: Path) -> None:
    (tmp_path / PROGRESS).mkdir()  # nothing can be renamed to it
    with pytest.raises(IsADirectoryError):
        write_progress(tmp_path, "training")
    assert recorded_files(tmp_path) == {}
    assert len(leftovers(tmp_path)) == 1
