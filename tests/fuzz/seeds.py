"""Where the fuzzer begins: every spec of the corpus, and small scan files of every kind."""

from __future__ import annotations

import bz2
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.fuzz.targets import archive_from

__all__ = ["seeds"]

_SPECS = Path(__file__).resolve().parents[1] / "specs"


def seeds(target: str) -> list[bytes]:
    """Return the inputs from which a target's fuzzing starts."""
    if target == "yaml":
        return [path.read_bytes() for path in sorted(_SPECS.rglob("*.yaml")) if path.stat().st_size < 4096]
    if target == "arrays":
        return [b"", bytes(range(256)), *(bytes([number]) * 64 for number in range(0, 256, 17))]
    return [*_archives()]


def _archives() -> Iterator[bytes]:
    sound = archive_from(b"")
    yield from (sound, bz2.compress(sound), sound[:-40], b"", b"PK", b"BZh9")
    tike = {
        "data": np.ones((1, 3, 8, 8), np.float32),
        "scan": np.arange(6.0).reshape(1, 3, 2),
        "probe": np.ones((1, 1, 8, 8), complex),
    }
    for save in (np.savez, np.savez_compressed):
        stream = io.BytesIO()
        save(stream, **tike)
        yield stream.getvalue()
