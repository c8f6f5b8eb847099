"""What stands in a checkpoint, read without torch: every tensor by its bytes, no code from the file."""

from __future__ import annotations

import hashlib
import io
import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ExitCode, HarnessError
from ptycho_torch.checkpoint_parts import foreign_part

__all__ = ["Tensor", "UnreadableError", "differing_parts", "read_checkpoint", "weights_digest"]

_TYPES = {
    "DoubleStorage": ("float64", 8),
    "FloatStorage": ("float32", 4),
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "LongStorage": ("int64", 8),
    "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2),
    "CharStorage": ("int8", 1),
    "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1),
    "ComplexDoubleStorage": ("complex128", 16),
    "ComplexFloatStorage": ("complex64", 8),
}
_PICKLE = "data.pkl"


class UnreadableError(HarnessError):
    """A file is not a checkpoint as this project writes them."""

    exit_code = ExitCode.DIFFERS


@dataclass(frozen=True)
class Tensor:
    """A tensor: its type, its shape, and its values as contiguous bytes."""

    dtype: str
    shape: tuple[int, ...]
    content: bytes


@dataclass(frozen=True)
class _Stored:
    dtype: str
    size: int
    content: bytes


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint: containers, plain values, and a :class:`Tensor` for every tensor.

    Raises
    ------
    UnreadableError
        The file is no whole archive, or holds something else than tensors and plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            content = _Reader(archive).load()
    except (OSError, zipfile.BadZipFile, pickle.UnpicklingError, *_BROKEN) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnreadableError(f"{path.name} cannot be read as a checkpoint: {reason}") from error
    if not isinstance(content, dict):
        raise UnreadableError(f"{path.name} holds a {type(content).__name__}, not a checkpoint")
    return content


_BROKEN = (EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError, StopIteration)
"""What a pickle that was tampered with may end in."""


class _Reader(pickle.Unpickler):
    """Reads what ``torch.save`` writes, and calls nothing but what makes a tensor."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        foreign = foreign_part(archive)
        if foreign is not None:
            raise pickle.UnpicklingError(foreign)
        name = next(name for name in archive.namelist() if name.endswith(f"/{_PICKLE}"))
        super().__init__(io.BytesIO(archive.read(name)))
        self._archive = archive
        self._folder = name.removesuffix(_PICKLE)
        if archive.read(f"{self._folder}byteorder") != sys.byteorder.encode():
            raise pickle.UnpicklingError(f"its bytes are not in this machine's order, {sys.byteorder}")

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): _parameter,
            **{("torch", kind): facts for kind, facts in _TYPES.items()},
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no checkpoint needs")
        return known[module, name]

    def persistent_load(self, pid: Any) -> _Stored:
        kind, (dtype, size), key, _, count = pid
        content = self._archive.read(f"{self._folder}data/{key}")
        if kind != "storage" or len(content) != size * count:
            raise pickle.UnpicklingError(f"the values {key} have {len(content)} bytes, not {size * count}")
        return _Stored(dtype, size, content)


def _tensor(stored: _Stored, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    import numpy as np

    items = np.frombuffer(stored.content, dtype=f"V{stored.size}")
    reach = offset + sum((side - 1) * step for side, step in zip(shape, stride, strict=True))
    if offset < 0 or min(stride, default=0) < 0 or (0 not in shape and reach >= len(items)):
        raise pickle.UnpicklingError("a tensor reaches beyond its values")
    steps = tuple(step * stored.size for step in stride)
    values = np.lib.stride_tricks.as_strided(items[offset:], shape, steps, writeable=False)
    return Tensor(stored.dtype, tuple(shape), values.tobytes())


def _parameter(tensor: Tensor, *_: Any) -> Tensor:
    return tensor


def weights_digest(checkpoint: Mapping[str, Any]) -> str:
    """Digest the weights as ``ptycho_torch.exact.digest.tensor_digest`` does, from the file alone.

    Parameters
    ----------
    checkpoint
        What :func:`read_checkpoint` returned.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(checkpoint["state_dict"].items()):
        shape = ",".join(str(side) for side in tensor.shape)
        digest.update(f"{name}|{tensor.dtype}|{shape}\n".encode())
        digest.update(tensor.content)
    return digest.hexdigest()


def differing_parts(first: Any, second: Any, at: str = "") -> Iterator[str]:
    """Name every part of two checkpoints that is not the same to the last bit (``state_dict/conv.weight``).

    Parameters
    ----------
    first, second
        What :func:`read_checkpoint` returned.
    at
        Where both stand, for the names.
    """
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for key in (*first, *(key for key in second if key not in first)):
            here = f"{at}/{key}" if at else str(key)
            if key in first and key in second:
                yield from differing_parts(first[key], second[key], here)
            else:
                yield here
    elif isinstance(first, list | tuple) and type(first) is type(second) and len(first) == len(second):
        for number, pair in enumerate(zip(first, second, strict=True)):
            yield from differing_parts(*pair, f"{at}/{number}")
    elif isinstance(first, Tensor) and isinstance(second, Tensor):
        if first != second:
            yield at
    elif type(first) is not type(second) or repr(first) != repr(second):
        yield at
