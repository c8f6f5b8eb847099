"""Digests of weights and optimizer states, independent of files, devices and memory layout."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ptycho_torch.readers.scan import arrays_digest


def tensor_digest(state: Mapping[str, torch.Tensor]) -> str:
    """Digest a state dict: its names, types, shapes and values.

    Parameters
    ----------
    state
        Name to tensor, as ``module.state_dict()`` gives it.

    Returns
    -------
    str
        sha256, hexadecimal, over the entries sorted by name, each ``name|dtype|shape`` and a line feed
        (type without ``torch.``, shape as comma-separated integers) followed by the tensor's contiguous
        little-endian bytes.

    Raises
    ------
    TypeError
        When a value is no dense tensor.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor: object = state[name]
        if not isinstance(tensor, torch.Tensor) or tensor.layout is not torch.strided:
            raise TypeError(f"state {name!r} is a {type(tensor).__name__}, only dense tensors have a digest")
        dtype = str(tensor.dtype).removeprefix("torch.")
        shape = ",".join(str(side) for side in tensor.shape)
        digest.update(f"{name}|{dtype}|{shape}\n".encode())
        digest.update(little_endian_bytes(tensor))
    return digest.hexdigest()


def optimizer_digest(state: Mapping[str, Any]) -> str:
    """Digest an optimizer's ``state_dict()``: its moments, its counters and its groups' settings.

    Numbers and booleans count as float64 scalars; the list of parameters and unset options are left out.
    """
    flat: dict[str, torch.Tensor] = {}
    for parameter, entries in state["state"].items():
        flat |= _flattened(f"state/{parameter}", entries)
    for number, group in enumerate(state["param_groups"]):
        flat |= _flattened(
            f"param_groups/{number}", {name: group[name] for name in group if name != "params"}
        )
    return tensor_digest(flat)


def array_digest(array: NDArray[Any]) -> str:
    """Digest one array: its type, shape and values."""
    return arrays_digest({"array": array})


def _flattened(prefix: str, entries: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    flat: dict[str, torch.Tensor] = {}
    for name, value in entries.items():
        if isinstance(value, torch.Tensor):
            flat[f"{prefix}/{name}"] = value
        elif isinstance(value, (int, float)):
            flat[f"{prefix}/{name}"] = torch.tensor(value, dtype=torch.float64)
        elif isinstance(value, (tuple, list)):
            flat |= _flattened(f"{prefix}/{name}", {str(place): item for place, item in enumerate(value)})
        elif value is not None:
            raise TypeError(
                f"optimizer state {prefix}/{name} is a {type(value).__name__}, which has no digest"
            )
    return flat


def little_endian_bytes(tensor: torch.Tensor) -> memoryview:
    """Return a dense tensor's values as contiguous little-endian bytes, wherever and however it is stored."""
    dense = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    raw = dense.view(torch.uint8).numpy()
    if sys.byteorder == "big":
        size = dense.element_size() // (2 if dense.is_complex() else 1)
        raw = np.ascontiguousarray(raw.reshape(-1, size)[:, ::-1]).reshape(-1)
    return raw.data
