from __future__ import annotations

import subprocess
import sys

import pytest

from ptycho_torch.errors import ConfigError, ExactnessError
from ptycho_torch.profiles import PROFILES, environment, foreign_variables, resolve_profile, without_allocator

HASWELL = {"sse4_1", "sse4_2", "avx", "avx2", "fma"}
NEHALEM = {"sse4_1", "sse4_2"}


@pytest.mark.parametrize(
    ("requested", "flags", "machine", "accelerator", "resolved"),
    [
        ("auto", HASWELL, "x86_64", "cpu", "portable"),
        ("auto", {"AVX2", "FMA"}, "AMD64", "cpu", "portable"),
        ("auto", HASWELL - {"fma"}, "x86_64", "cpu", "strict"),
        ("auto", NEHALEM, "x86_64", "cpu", "strict"),
        ("auto", HASWELL, "x86_64", "cuda", "strict"),
        ("auto", set(), "aarch64", "cpu", "strict"),
        ("strict", set(), "aarch64", "cuda", "strict"),
        ("portable", HASWELL, "x86_64", "cpu", "portable"),
        ("portable-sse", NEHALEM, "x86_64", "cpu", "portable-sse"),
    ],
)
def test_a_profile_resolves_to_what_the_machine_can_keep(requested, flags, machine, accelerator, resolved):
    assert resolve_profile(requested, flags, machine, accelerator) == resolved


@pytest.mark.parametrize(
    ("requested", "flags", "machine", "accelerator", "complaint"),
    [
        ("portable", NEHALEM, "x86_64", "cpu", "no avx2, fma: use 'strict' or 'portable-sse'"),
        ("portable-sse", set(), "x86_64", "cpu", "no sse4_2: use 'strict'$"),
        ("portable", HASWELL, "aarch64", "cpu", "'aarch64', not x86-64"),
        ("portable", HASWELL, "x86_64", "cuda", "not on 'cuda'"),
    ],
)
def test_a_profile_that_the_machine_cannot_keep_is_refused(requested, flags, machine, accelerator, complaint):
    with pytest.raises(ExactnessError, match=complaint):
        resolve_profile(requested, flags, machine, accelerator)


def test_unknown_profiles_and_thread_counts_are_refused_with_their_key():
    with pytest.raises(ConfigError, match="legal: auto, strict, portable, portable-sse") as caught:
        resolve_profile("fast", HASWELL, "x86_64", "cpu")
    assert list(caught.value.keys) == ["exactness.profile"]
    with pytest.raises(ConfigError, match="legal: 1 or more"):
        environment("strict", 0)


@pytest.mark.parametrize("profile", PROFILES)
def test_threads_are_pinned_in_every_library(profile):
    variables = environment(profile, 3)
    assert variables["OMP_NUM_THREADS"] == variables["MKL_NUM_THREADS"] == "3"
    # It would take fewer where there are fewer cores, and so compute other bits there.
    assert variables["OPENBLAS_NUM_THREADS"] == "1"
    assert variables["PYTHONHASHSEED"] == "0"
    assert foreign_variables(profile, variables) == {}


def test_the_portable_profiles_add_to_the_strict_one():
    strict = environment("strict", 1)
    for profile in ("portable", "portable-sse"):
        variables = environment(profile, 1)
        assert strict.items() <= variables.items()
        assert variables["MKL_CBWR"] == "COMPATIBLE"
    assert environment("portable", 1)["ATEN_CPU_CAPABILITY"] == "avx2"


def test_variables_that_change_bits_are_foreign_to_a_profile_that_does_not_set_them():
    variables = environment("portable", 1)
    assert set(foreign_variables("strict", variables)) == {
        "ATEN_CPU_CAPABILITY",
        "MKL_CBWR",
        "NPY_DISABLE_CPU_FEATURES",
        "ONEDNN_MAX_CPU_ISA",
        "OPENBLAS_CORETYPE",
    }
    assert foreign_variables("portable", {"NVIDIA_TF32_OVERRIDE": "1", "LANG": "C"}) == {
        "NVIDIA_TF32_OVERRIDE": "1"
    }


@pytest.mark.parametrize("profile", PROFILES)
def test_what_the_allocator_is_told_belongs_to_every_profile_and_nothing_else_of_the_c_library(profile):
    variables = environment(profile, 1)
    own = variables.get("GLIBC_TUNABLES")
    told = {"GLIBC_TUNABLES": ":".join(filter(None, (own, "glibc.malloc.hugetlb=1")))}
    assert without_allocator(variables | told) == variables
    assert foreign_variables(profile, variables | told) == {}
    other = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.cpu.hwcaps=-AVX512F"}
    assert without_allocator(variables | other)["GLIBC_TUNABLES"] == "glibc.cpu.hwcaps=-AVX512F"
    assert bool(foreign_variables(profile, other)) == (own is None)


def test_profiles_can_be_read_where_there_is_no_torch():
    code = "import sys, ptycho_torch.profiles; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
