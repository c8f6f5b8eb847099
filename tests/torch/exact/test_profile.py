from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ptycho_torch.exact.profile import known_answer_test, observe
from ptycho_torch.profiles import REQUIRED_CPU_FLAGS, environment, foreign_variables

ROOT = Path(__file__).parents[3]
REPORT = """
import json, sys
from ptycho_torch.errors import ExactnessError
from ptycho_torch.exact.profile import apply_and_verify
try:
    print(json.dumps(apply_and_verify(sys.argv[1], int(sys.argv[2]))))
except ExactnessError as error:
    print(json.dumps(str(error)))
"""


def can_run(profile: str) -> bool:
    if profile == "strict":
        return True
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    return platform.machine() == "x86_64" and flags >= REQUIRED_CPU_FLAGS[profile]


TOO_LATE = """
import os, sys, torch
from torch.nn import functional
functional.conv2d(torch.ones(4, 16, 24, 24), torch.ones(16, 16, 3, 3))
torch.ones(64, 64) @ torch.ones(64, 64)
from ptycho_torch.profiles import environment
os.environ.update(environment(sys.argv[1], int(sys.argv[2])))
"""


def report(profile: str, threads: int, variables: dict[str, str], before: str = "", text: str = REPORT):
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
    finished = subprocess.run(
        [sys.executable, "-c", before + text, profile, str(threads)],
        env=inherited | variables | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return json.loads(finished.stdout)


@pytest.mark.parametrize("allocator", [[], ["glibc.malloc.hugetlb=1"]], ids=["plain", "huge pages"])
@pytest.mark.parametrize("profile", ["strict", "portable", "portable-sse"])
def test_a_profile_whose_environment_was_set_is_in_force_whatever_the_allocator_is_told(profile, allocator):
    if not can_run(profile):
        pytest.skip(f"this CPU cannot keep what profile {profile!r} promises")
    variables = environment(profile, 1)
    tunables = ":".join([*filter(None, [variables.get("GLIBC_TUNABLES")]), *allocator])
    observed = report(profile, 1, variables | ({"GLIBC_TUNABLES": tunables} if tunables else {}))
    assert observed["environment"]["GLIBC_TUNABLES"] == variables.get("GLIBC_TUNABLES")
    assert observed["profile"] == profile
    assert (observed["num_threads"], observed["num_interop_threads"]) == (1, 1)
    assert observed["deterministic_algorithms"] is True
    assert observed["matmul_allow_tf32"] is False
    assert (observed["mkl_num_threads"], observed["openblas_num_threads"]) in [
        (1, 1),
        (None, 1),
        (None, None),
    ]
    assert len(observed["known_answers"]) > 20


def test_tf32_is_for_convolutions_alone_and_only_when_asked_for():
    asked = REPORT.replace("int(sys.argv[2]))", "int(sys.argv[2]), allow_tf32=True)")
    assert asked != REPORT
    for text, is_allowed in ((REPORT, False), (asked, True)):
        observed = report("strict", 1, environment("strict", 1), text=text)
        assert observed["cudnn"]["allow_tf32"] is is_allowed
        assert observed["matmul_allow_tf32"] is False


def test_a_process_started_without_the_environment_is_refused_in_one_sentence():
    sentence = report("strict", 1, environment("strict", 1) | {"OMP_DYNAMIC": "TRUE", "MKL_CBWR": "AVX2"})
    assert "OMP_DYNAMIC is 'TRUE' instead of 'FALSE'" in sentence
    assert "MKL_CBWR is set to 'AVX2'" in sentence
    assert "before the process starts" in sentence
    assert "\n" not in sentence


def needs_the_libraries(*names: str) -> None:
    facts = observe()
    absent = [name for name in names if facts[name] is None]
    if absent:
        pytest.skip(f"this build of torch or NumPy has no {', '.join(absent)}")


@pytest.mark.skipif(not can_run("portable"), reason="this CPU has no AVX2")
def test_what_the_libraries_were_told_too_late_is_seen_in_what_they_do():
    needs_the_libraries("mkl_cbwr_branch", "onednn_convolution", "openblas_core")
    wrong = {
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_CBWR": "",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "OPENBLAS_CORETYPE": "Nehalem",
        "OPENBLAS_NUM_THREADS": "2",
    }
    sentence = report("portable", 1, environment("portable", 1) | wrong, before=TOO_LATE)
    for told in (
        "cpu_capability is observed as 'DEFAULT' instead of 'AVX2'",
        "mkl_cbwr_branch is observed as 'off' instead of 'compatible'",
        "onednn_convolution is observed as 'jit:sse41' instead of 'jit:avx2'",
        "openblas_core is observed as 'Nehalem' instead of 'Haswell'",
    ):
        assert told in sentence
    if len(os.sched_getaffinity(0)) > 1:
        assert "openblas_num_threads is observed as 2 instead of 1" in sentence
    # Every variable is right by now: only what was observed can have told.
    assert not [name for name in wrong if f"{name} is" in sentence]


@pytest.mark.skipif(not can_run("portable"), reason="this CPU has no AVX2")
def test_numpy_above_the_profile_is_seen_in_what_it_does():
    variables = environment("portable-sse", 1)
    late = report("portable-sse", 1, variables | {"NPY_DISABLE_CPU_FEATURES": ""}, before=TOO_LATE)
    assert "NumPy computes with X86_V3" in late
    assert "observed" not in late


def test_interop_threads_that_can_no_longer_be_changed_are_refused():
    settled = "import torch; torch.set_num_interop_threads(2)\n"
    sentence = report("strict", 1, environment("strict", 1), before=settled)
    assert "needs one interop thread but torch already uses 2" in sentence


def test_known_answers_repeat_and_leave_the_global_generator_alone():
    before = torch.random.get_rng_state()
    assert known_answer_test() == known_answer_test()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_known_answers_are_digests_of_different_things():
    answers = known_answer_test()
    assert {"conv2d", "matmul", "fft2", "exp", "log", "randn", "fused_adam"} <= set(answers)
    assert len(set(answers.values())) == len(answers)
    assert all(len(digest) == 64 for digest in answers.values())


def test_what_is_observed_goes_into_a_manifest_as_it_is():
    observed = observe()
    assert json.loads(json.dumps(observed)) == observed
    assert set(environment("portable", 1)) | set(foreign_variables("strict", os.environ)) <= set(
        observed["environment"]
    )
