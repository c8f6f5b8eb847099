"""Exactness profiles: the environment each needs before a process starts. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from ptycho_torch.errors import ConfigError, ExactnessError

__all__ = [
    "PROFILES",
    "REQUIRED_CPU_FLAGS",
    "environment",
    "foreign_variables",
    "resolve_profile",
    "without_allocator",
]

PROFILES = ("strict", "portable", "portable-sse")

REQUIRED_CPU_FLAGS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "strict": frozenset(),
        "portable": frozenset({"avx2", "fma"}),
        "portable-sse": frozenset({"sse4_2"}),
    }
)
"""CPU features, in the spelling of /proc/cpuinfo, without which a profile cannot hold."""

_PORTABLE: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "strict": MappingProxyType({}),
        "portable": MappingProxyType(
            {
                "ATEN_CPU_CAPABILITY": "avx2",
                "MKL_CBWR": "COMPATIBLE",
                "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
                "ONEDNN_MAX_CPU_ISA": "AVX2",
                "OPENBLAS_CORETYPE": "Haswell",
            }
        ),
        "portable-sse": MappingProxyType(
            {
                "ATEN_CPU_CAPABILITY": "default",
                # The C library's exp, log and sin differ between CPUs with and without fused multiply-add.
                "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4",
                "MKL_CBWR": "COMPATIBLE",
                "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
                "ONEDNN_MAX_CPU_ISA": "SSE41",
                "OPENBLAS_CORETYPE": "Nehalem",
            }
        ),
    }
)

_BIT_CHANGING = frozenset(
    {
        "ATEN_CPU_CAPABILITY",
        "DNNL_DEFAULT_FPMATH_MODE",
        "DNNL_MAX_CPU_ISA",
        "GLIBC_TUNABLES",
        "MKL_CBWR",
        "MKL_DEBUG_CPU_TYPE",
        "MKL_ENABLE_INSTRUCTIONS",
        "NPY_DISABLE_CPU_FEATURES",
        "NPY_ENABLE_CPU_FEATURES",
        "NVIDIA_TF32_OVERRIDE",
        "ONEDNN_DEFAULT_FPMATH_MODE",
        "ONEDNN_MAX_CPU_ISA",
        "OPENBLAS_CORETYPE",
        "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    }
)


def environment(profile: str, threads: int) -> dict[str, str]:
    """List the environment variables that a profile needs before the process starts.

    Parameters
    ----------
    profile
        One of :data:`PROFILES`.
    threads
        Number of CPU threads, which changes the bits and so belongs to the profile.

    Raises
    ------
    ConfigError
        When there is no such profile, or no thread.
    """
    _check(profile)
    if threads < 1:
        raise ConfigError([f"exactness.threads is {threads} (legal: 1 or more)"], ["exactness.threads"])
    number = str(threads)
    return {
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "MKL_DYNAMIC": "FALSE",
        "MKL_NUM_THREADS": number,
        "OMP_DYNAMIC": "FALSE",
        "OMP_NUM_THREADS": number,
        "OMP_WAIT_POLICY": "passive",
        # OpenBLAS never takes more threads than there are cores; one is there everywhere.
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
        **_PORTABLE[profile],
    }


def foreign_variables(profile: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Find variables that change the bits and do not belong to the profile.

    Whoever starts a process leaves them out; whoever finds them set refuses to run.

    Returns
    -------
    dict
        Name to the value found.
    """
    _check(profile)
    found = without_allocator(environ)
    return {name: found[name] for name in sorted(_BIT_CHANGING - set(_PORTABLE[profile])) if name in found}


def without_allocator(environ: Mapping[str, str]) -> dict[str, str]:
    """Leave out what the C library's allocator is told: where numbers lie changes no bits."""
    tunables = environ.get("GLIBC_TUNABLES", "").split(":")
    others = ":".join(tunable for tunable in tunables if not tunable.startswith("glibc.malloc."))
    rest = {name: value for name, value in environ.items() if name != "GLIBC_TUNABLES"}
    return rest | ({"GLIBC_TUNABLES": others} if others else {})


def resolve_profile(requested: str, cpu_flags: Collection[str], machine: str, accelerator: str) -> str:
    """Resolve a requested profile on the machine that will run.

    Parameters
    ----------
    requested
        ``auto`` or one of :data:`PROFILES`. ``auto`` is ``portable`` on an x86-64 CPU with AVX2 and
        FMA, else ``strict``.
    cpu_flags
        CPU features in the spelling of /proc/cpuinfo.
    machine
        Architecture, as ``platform.machine()`` has it.
    accelerator
        Resolved accelerator; only ``cpu`` can be portable.

    Raises
    ------
    ConfigError
        When there is no such profile.
    ExactnessError
        When the machine cannot keep what the profile promises.
    """
    is_x86 = machine.lower() in {"x86_64", "amd64"}
    flags = frozenset(flag.lower() for flag in cpu_flags)
    can_be_portable = is_x86 and accelerator == "cpu" and flags >= REQUIRED_CPU_FLAGS["portable"]
    if requested == "auto":
        return "portable" if can_be_portable else "strict"
    _check(requested)
    if requested == "strict":
        return requested
    if accelerator != "cpu":
        raise ExactnessError(
            f"profile {requested!r} promises the same bits on every CPU, not on {accelerator!r}: use 'strict'"
        )
    absent = sorted(REQUIRED_CPU_FLAGS[requested] - flags)
    if not is_x86 or absent:
        lack = f"has no {', '.join(absent)}" if is_x86 else f"is {machine!r}, not x86-64"
        hint = " or 'portable-sse'" if is_x86 and requested == "portable" else ""
        raise ExactnessError(f"profile {requested!r} cannot hold here, the CPU {lack}: use 'strict'{hint}")
    return requested


def _check(profile: str) -> None:
    if profile not in PROFILES:
        legal = ", ".join(("auto", *PROFILES))
        raise ConfigError([f"exactness.profile is {profile!r} (legal: {legal})"], ["exactness.profile"])
