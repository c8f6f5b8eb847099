"""Checkpoints as torch writes them, made where torch may be absent."""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class Floats:
    """Numbers that are to stand in the file as a vector of float32."""

    values: tuple[float, ...]


@dataclass(frozen=True)
class _Storage:
    key: str
    count: int


class _Writer(pickle.Pickler):
    def __init__(self, stream: io.BytesIO, archive: zipfile.ZipFile) -> None:
        super().__init__(stream, protocol=2)
        self._archive = archive
        self._torch = _named("torch", FloatStorage=type("FloatStorage", (), {"__module__": "torch"}))
        self._utils = _named("torch._utils", _rebuild_tensor_v2=_rebuild_tensor_v2)
        self._count = 0

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, Floats):
            return NotImplemented
        size, key = len(obj.values), str(self._count)
        self._count += 1
        self._archive.writestr(f"archive/data/{key}", struct.pack(f"<{size}f", *obj.values))
        parts = (_Storage(key, size), 0, (size,), (1,), False, OrderedDict())
        return self._utils._rebuild_tensor_v2, parts

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, _Storage):
            return None
        return "storage", self._torch.FloatStorage, obj.key, "cpu", obj.count


def _rebuild_tensor_v2() -> None:
    """Stand where torch has a function of this name; only the name is written."""


_rebuild_tensor_v2.__module__ = "torch._utils"


def _named(name: str, **content: Any) -> ModuleType:
    if name not in sys.modules:
        made = sys.modules[name] = ModuleType(name)
        vars(made).update(content)
    return sys.modules[name]


def write_checkpoint(path: Path, weights: Mapping[str, Sequence[float]], **more: Any) -> str:
    """Write a checkpoint with these weights and whatever else it is to hold; return the weights' digest."""
    tensors = OrderedDict((name, Floats(tuple(values))) for name, values in weights.items())
    stream = io.BytesIO()
    with zipfile.ZipFile(path, "w") as archive:
        _Writer(stream, archive).dump({"state_dict": tensors, **more})
        archive.writestr("archive/data.pkl", stream.getvalue())
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
    digest = hashlib.sha256()
    for name, values in sorted(weights.items()):
        digest.update(f"{name}|float32|{len(values)}\n".encode() + struct.pack(f"<{len(values)}f", *values))
    return digest.hexdigest()
