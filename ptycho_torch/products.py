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

__all__ = ["reconstruction_cxi", "reconstruction_file", "weights_file"]


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


def reconstruction_cxi(
    reconstruction: Reconstruction, scan: Scan, pixel_size_m: tuple[float, float] | None
) -> bytes:
    """Return the image as HDF5, laid out like CXI.

    ``entry_1/image_1`` holds ``data`` (H, W) complex64, ``coverage`` (H, W), ``frame_origin_px`` (row, column
    of the pixel [0, 0] on the object grid) and, where it is known, ``pixel_size_m`` (height, width);
    ``entry_1/instrument_1/source_1/illumination`` the probe (M, N, N); and
    ``entry_1/sample_1/geometry_1/corners_px`` the frames' patch corners (J, 2). There is no time in it.
    """
    import h5py

    content = io.BytesIO()
    with h5py.File(content, "w", libver="earliest") as file:
        file.attrs["units"] = scan.units
        image: dict[str, Any] = {
            "data": reconstruction.object,
            "coverage": reconstruction.coverage,
            "frame_origin_px": np.asarray(reconstruction.frame_origin_px, dtype=np.int64),
        }
        image |= {} if pixel_size_m is None else {"pixel_size_m": np.array(pixel_size_m)}
        members = {f"entry_1/image_1/{name}": value for name, value in image.items()} | {
            "cxi_version": np.int64(150),
            "number_of_entries": np.int64(1),
            "entry_1/instrument_1/source_1/illumination": scan.probe,
            "entry_1/sample_1/geometry_1/corners_px": scan.corners_px,
        }
        for name, value in sorted(members.items()):
            file.create_dataset(name, data=value, track_times=False)
        file["entry_1/data_1"] = h5py.SoftLink("/entry_1/image_1")
    return content.getvalue()
