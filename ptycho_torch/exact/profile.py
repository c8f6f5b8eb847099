"""Put an exactness profile into force in this process, observe what holds, and refuse what does not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ptycho_torch.errors import ExactnessError
from ptycho_torch.exact.known_answers import known_answer_test
from ptycho_torch.exact.libraries import (
    mkl_branch,
    mkl_threads,
    numpy_targets,
    onednn_convolution,
    openblas_core,
    openblas_threads,
)
from ptycho_torch.profiles import environment, foreign_variables, without_allocator

__all__ = ["apply_and_verify", "known_answer_test", "observe"]

_DEMANDED: Mapping[str, Mapping[str, str]] = {
    "strict": {},
    "portable": {
        "cpu_capability": "AVX2",
        "mkl_cbwr_branch": "compatible",
        "onednn_convolution": "jit:avx2",
        "openblas_core": "Haswell",
    },
    "portable-sse": {
        "cpu_capability": "DEFAULT",
        "mkl_cbwr_branch": "compatible",
        "onednn_convolution": "jit:sse41",
        "openblas_core": "Nehalem",
    },
}
"""What a profile must be observed to compute with."""

_MAY_BE_ABSENT: Mapping[str, frozenset[str]] = {
    "strict": frozenset({"mkl_num_threads", "openblas_num_threads"}),
    "portable": frozenset({"mkl_cbwr_branch", "mkl_num_threads", "onednn_convolution"}),
    "portable-sse": frozenset({"mkl_cbwr_branch", "mkl_num_threads", "onednn_convolution"}),
}
"""Facts of libraries that a build of torch or NumPy may be without.

Not OpenBLAS where bits are to be the same on every CPU: large convolutions are its products.
"""


def apply_and_verify(
    profile: str, threads: int, *, deterministic: bool = True, allow_tf32: bool = False
) -> dict[str, Any]:
    """Set what torch lets a running process set, then verify that the whole profile is in force.

    The profile's environment must have been set before the process started: see
    :func:`ptycho_torch.profiles.environment`.

    Parameters
    ----------
    profile
        One of ``ptycho_torch.profiles.PROFILES``.
    threads
        Number of CPU threads.
    deterministic
        Also demand torch's deterministic algorithms.
    allow_tf32
        Let the convolutions of a graphics card round their factors to TF32; matrix products never do.

    Returns
    -------
    dict
        The observed facts (:func:`observe`) and, under ``known_answers``, the digests of
        :func:`known_answer_test`. Plain values, ready for a manifest.

    Raises
    ------
    ExactnessError
        In one sentence, with everything that does not match the profile.
    """
    wanted = environment(profile, threads)
    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        try:
            torch.set_num_interop_threads(1)
        except RuntimeError as error:
            raise ExactnessError(
                f"profile {profile!r} needs one interop thread but torch already uses "
                f"{torch.get_num_interop_threads()}: put the profile into force before any torch operation"
            ) from error
    torch.use_deterministic_algorithms(deterministic)
    # Filling memory before it is written costs a tenth of the training; that nothing reads it is tested.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.allow_tf32 = allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    observed = observe()
    demanded = {"deterministic_algorithms": deterministic, "convolution_allow_tf32": allow_tf32}
    found = observed | {"convolution_allow_tf32": observed["cudnn"]["allow_tf32"]}
    _verify(profile, threads, demanded, wanted, found)
    return {"profile": profile, "threads": threads, **observed, "known_answers": known_answer_test()}


def observe() -> dict[str, Any]:
    """Observe the facts of this process that decide which bits it computes.

    Returns
    -------
    dict
        CPU capability, thread counts, deterministic flag, what MKL, oneDNN, NumPy and OpenBLAS say that
        they compute with (None where a library is absent or cannot be asked), cuDNN and TF32 settings,
        versions, and the environment variables that profiles know.
    """
    environ = without_allocator(os.environ)
    names = sorted(
        {
            *environment("portable", 1),
            *environment("portable-sse", 1),
            *foreign_variables("strict", os.environ),
        }
    )
    return {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "num_threads": torch.get_num_threads(),
        "num_interop_threads": torch.get_num_interop_threads(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "mkl_cbwr_branch": mkl_branch(),
        "mkl_num_threads": mkl_threads(),
        "onednn_convolution": onednn_convolution(),
        "numpy_targets": numpy_targets(),
        "openblas_core": openblas_core(),
        "openblas_num_threads": openblas_threads(),
        "cudnn": {
            "version": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "benchmark": torch.backends.cudnn.benchmark,
            "deterministic": torch.backends.cudnn.deterministic,
            "allow_tf32": torch.backends.cudnn.allow_tf32,
        },
        "matmul_allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "environment": {name: environ.get(name) for name in names},
    }


def _verify(
    profile: str,
    threads: int,
    demanded: Mapping[str, bool],
    wanted: Mapping[str, str],
    observed: Mapping[str, Any],
) -> None:
    environ = without_allocator(os.environ)
    problems = [
        f"{name} is {environ.get(name)!r} instead of {value!r}"
        for name, value in sorted(wanted.items())
        if environ.get(name) != value
    ]
    problems += [f"{name} is set to {value!r}" for name, value in foreign_variables(profile, environ).items()]
    facts: dict[str, object] = {
        "num_threads": threads,
        "num_interop_threads": 1,
        "mkl_num_threads": threads,
        "openblas_num_threads": 1,
        "matmul_allow_tf32": False,
        **demanded,
        **_DEMANDED[profile],
    }
    problems += [
        f"{name} is observed as {observed[name]!r} instead of {value!r}"
        for name, value in facts.items()
        if observed[name] != value and not (name in _MAY_BE_ABSENT[profile] and observed[name] is None)
    ]
    if profile != "strict":
        foreign = [target for target in observed["numpy_targets"] if not _is_within(profile, target)]
        problems += [f"NumPy computes with {target}" for target in foreign]
    if problems:
        raise ExactnessError(
            f"profile {profile!r} with {threads} threads is not in force: {'; '.join(problems)} "
            "(its environment must be set before the process starts)"
        )


def _is_within(profile: str, target: str) -> bool:
    above_sse = ("X86_V3", "AVX2", "FMA3")
    above_avx2 = ("X86_V4", "AVX512")
    beyond = above_avx2 if profile == "portable" else above_avx2 + above_sse
    return not any(word in target for word in beyond)
