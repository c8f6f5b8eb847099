"""What the numerical libraries in this process compute with, as they say themselves."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import introspect
from torch.nn import functional as nn_functional

__all__ = [
    "mkl_branch",
    "mkl_threads",
    "numpy_targets",
    "onednn_convolution",
    "openblas_core",
    "openblas_threads",
]

_CBWR_BRANCH_QUERY = 1
_CBWR_BRANCHES: Mapping[int, str] = {
    1: "off",
    2: "auto",
    3: "compatible",
    4: "sse2",
    6: "ssse3",
    7: "sse4_1",
} | {
    8: "sse4_2",
    9: "avx",
    10: "avx2",
    11: "avx512_mic",
    12: "avx512",
}


def mkl_branch() -> str | None:
    """Ask MKL for its branch of conditional numerical reproducibility; None without MKL."""
    query = _function(_torch_library(), "mkl_serv_cbwr_get")
    if query is None:
        return None
    branch = int(query(_CBWR_BRANCH_QUERY))
    return _CBWR_BRANCHES.get(branch, f"branch {branch}")


def mkl_threads() -> int | None:
    """Ask MKL how many threads it uses; None without MKL."""
    query = _function(_torch_library(), "mkl_serv_get_max_threads")
    return None if query is None else int(query())


def onednn_convolution() -> str | None:
    """Convolve once and let oneDNN say which implementation it took; None where it took no part.

    oneDNN has no function that torch lets through; but it tells what it executes on standard output, which is
    read here for that moment.

    Returns
    -------
    str or None
        For instance ``jit:avx2``.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    image, weight = torch.ones(4, 16, 24, 24), torch.ones(16, 16, 3, 3)

    def convolve() -> None:
        with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):  # type: ignore[no-untyped-call]
            nn_functional.conv2d(image, weight)

    for line in _told(convolve).splitlines():
        words = line.split(",")
        if "exec" in words and "convolution" in words:
            return words[words.index("convolution") + 1]
    return None


def numpy_targets() -> list[str]:
    """List the instruction sets that NumPy's elementary functions were dispatched to."""
    report = introspect.opt_func_info(func_name="^(exp|log|sin|tanh|absolute)$")
    return sorted({target["current"] for kinds in report.values() for target in kinds.values()})


def openblas_core() -> str | None:
    """Ask NumPy's OpenBLAS which processor's kernels it uses; None where NumPy has none of its own."""
    query = _function(_openblas(), "scipy_openblas_get_corename64_")
    if query is None:
        return None
    query.restype = ctypes.c_char_p
    return bytes(query()).decode()


def openblas_threads() -> int | None:
    """Ask NumPy's OpenBLAS how many threads it uses; None where NumPy has none of its own."""
    query = _function(_openblas(), "scipy_openblas_get_num_threads64_")
    return None if query is None else int(query())


def _function(library: ctypes.CDLL | None, name: str) -> Any:
    return None if library is None else getattr(library, name, None)


@cache
def _torch_library() -> ctypes.CDLL | None:
    path = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    return ctypes.CDLL(str(path)) if path.exists() else None


@cache
def _openblas() -> ctypes.CDLL | None:
    found = sorted((Path(np.__file__).parents[1] / "numpy.libs").glob("*openblas*"))
    return ctypes.CDLL(str(found[0])) if found else None


def _told(act: Callable[[], None]) -> str:
    # Libraries write to the descriptor, past Python. What one operation tells fits into a pipe.
    sys.stdout.flush()
    kept, (reading, writing) = os.dup(1), os.pipe()
    os.dup2(writing, 1)
    try:
        act()
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(writing)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as told:
        return told.read()
