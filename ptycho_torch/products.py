"""What a run hands out, as file contents: the same result gives the same bytes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from ptycho_torch.archives import write_npz
from ptycho_torch.readers.scan import Scan
from ptycho_torch.stitching import Reconstruction

__all__ = ["reconstruction_file", "weights_file"]


def weights_file(module: torch.nn.Module) -> bytes:
    """Return the module's state as safetensors."""
    tensors = {
        name: tensor.detach().cpu().contiguous(memory_format=torch.contiguous_format)
        for name, tensor in sorted(module.state_dict().items())
    }
    return save(tensors)


def reconstruction_file(reconstruction: Reconstruction, scan: Scan) -> bytes:
    """Return the image as NPZ.

    It holds ``object`` (H, W) complex64, on the scale on which ``abs(F(P O))**2`` is in counts; ``coverage``
    (H, W) float32; ``frame_origin_px``, row and column of the pixel [0, 0] on the object grid; ``probe``
    (M, N, N) complex64.
    """
    content = io.BytesIO()
    members: dict[str, NDArray[Any]] = {
        "object": reconstruction.object,
        "coverage": reconstruction.coverage,
        "frame_origin_px": np.asarray(reconstruction.frame_origin_px, dtype=np.int64),
        "probe": scan.probe,
    }
    write_npz(content, members)
    return content.getvalue()
