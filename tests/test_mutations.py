"""Errors put into a copy of the packages on purpose: each must be caught by a test that is named here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutating import Mutation, copy_with, python_in

pytestmark = pytest.mark.slow

LAYERS = "tests/torch/test_layers.py"
FACTORY = "tests/torch/test_config_factory.py"
STORE = "tests/harness/test_store.py"
RUN = "tests/harness/test_run.py"


def swapped(one: str, other: str, *tests: str) -> Mutation:
    """Let a lower layer of configuration beat a higher one."""
    return Mutation(
        f"{other} beats {one}",
        "ptycho_torch/layers.py",
        rf'"{one}",((?:\s*"[\w ]+",)*?)(\s*)"{other}",',
        rf'"{other}",\1\2"{one}",',
        tests,
    )


MUTATIONS = (
    Mutation(
        "a patch is placed against its offset",
        "ptycho_torch/physics/patches.py",
        r"(corner = [^\n]*) \+ offsets_px",
        r"\1 - offsets_px",
        ("tests/torch/physics/test_patches.py", "tests/torch/physics/test_forward.py"),
    ),
    Mutation(
        "a group's offsets point from the frame to the mean",
        "ptycho_torch/data/dataset.py",
        r"\((corners_px) - (corners_px\.mean\(axis=1, keepdims=True\))\)",
        r"(\2 - \1)",
        ("tests/torch/data/test_dataset.py::test_offsets_are_row_and_column_from_the_groups_mean",),
    ),
    Mutation(
        "the merge's numerator has no mask",
        "ptycho_torch/physics/patches.py",
        r"patches \* weight",
        "patches",
        ("tests/torch/physics/test_patches.py",),
    ),
    Mutation(
        "modes of the probe add in amplitude",
        "ptycho_torch/physics/propagation.py",
        r"fft2\(exit_waves, ",
        "fft2(exit_waves.sum(dim=-3, keepdim=True), ",
        ("tests/torch/physics/test_propagation.py",),
    ),
    Mutation(
        "modes of the probe stand in the axis of the patterns",
        "ptycho_torch/physics/forward.py",
        r"patches\[:, :, None\] \* self\.probe",
        "patches[:, None] * self.probe[:, None]",
        ("tests/torch/physics/test_forward.py",),
    ),
    swapped(
        "explicit override",
        "execution config",
        f"{FACTORY}::TestPrecedence::test_an_explicit_override_of_a_knob_beats_the_execution_config",
    ),
    swapped(
        "execution config",
        "PyTorch default",
        f"{FACTORY}::TestPrecedence::test_the_execution_config_beats_the_pytorch_default",
    ),
    swapped(
        "PyTorch default",
        "canonical default",
        f"{FACTORY}::TestPrecedence"
        "::test_the_photon_number_is_the_pytorch_default_and_shadows_the_canonical_one",
    ),
    swapped("inferred from data", "entry point", LAYERS),
    Mutation(
        "a file gets its name before its bytes are on the disk",
        "ptycho_torch/durable.py",
        r"\n +os\.fsync\(stream\.fileno\(\)\)",
        "",
        (
            "tests/torch/test_durable.py",
            f"{STORE}::test_a_file_gets_its_name_after_its_bytes_are_on_the_disk_and_before_its_folder_is",
        ),
    ),
    Mutation(
        "the files of a run are not on the disk when its manifest is",
        "harness/run.py",
        r"( +)(sync_files\([^\n]*\))\n +(manifest = write_manifest\([^\n]*\))\n",
        r"\1\3\n\1\2\n",
        (f"{RUN}::test_everything_that_the_manifest_records_is_on_the_disk_before_it",),
    ),
    Mutation(
        "the manifest is written before the last event",
        "harness/run.py",
        r'( +)(append_event\(path, "ended"[^\n]*\))\n(.*?)( +manifest = write_manifest\([^\n]*\)\n)',
        r"\3\4\1\2\n",
        (f"{RUN}::test_nothing_changes_once_the_manifest_stands",),
    ),
    Mutation(
        "a new run's lock is not taken",
        "harness/store.py",
        r"\n +fcntl\.flock\(lock_fd, fcntl\.LOCK_EX\)",
        "",
        (f"{STORE}::test_the_lock_is_held_until_the_run_is_left",),
    ),
    Mutation(
        "the worker does not inherit the lock",
        "harness/executors/local.py",
        r"\n +pass_fds=[^\n]*",
        "",
        (f"{RUN}::test_a_killed_host_leaves_a_run_that_is_running_then_interrupted_and_nothing_to_unlock",),
    ),
)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_error_is_caught(mutation: Mutation, tmp_path: Path) -> None:
    copy_with(mutation, tmp_path)
    for test in mutation.caught_by:
        done = python_in(tmp_path, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test)
        assert done.returncode == 1, f"{test} lets it pass:\n{done.stdout}{done.stderr}"
        assert "1 failed" in done.stdout, done.stdout
