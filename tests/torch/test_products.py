"""What a run hands out, read back by others' means."""

from __future__ import annotations

import io
import time

import h5py
import numpy as np
import torch
from safetensors.torch import load

from ptycho_torch.config import DataConfig, ModelConfig, PyTorchExecutionConfig
from ptycho_torch.data.dataset import measure_scaling
from ptycho_torch.inference import Predictions, stitch_patches
from ptycho_torch.module import PtychoModule
from ptycho_torch.products import reconstruction_cxi, reconstruction_file, weights_file
from ptycho_torch.stitching import Reconstruction
from tests.torch.simulated_truth import simulated, small_module, true_patches


def network() -> PtychoModule:
    scan = simulated()
    return small_module(scan, measure_scaling(scan, np.arange(scan.n_frames), DataConfig(), ModelConfig()))


def image() -> Reconstruction:
    predictions = Predictions(true_patches(), simulated().corners_px, 1)
    return stitch_patches(predictions, simulated(), PyTorchExecutionConfig())


def test_the_weights_are_the_whole_state_value_by_value() -> None:
    module = network()
    stored, state = load(weights_file(module)), module.state_dict()
    assert set(stored) == set(state)
    assert all(torch.equal(stored[name], tensor) for name, tensor in state.items())
    assert all(stored[name].dtype == tensor.dtype for name, tensor in state.items())


def test_the_weights_do_not_depend_on_the_memory_format() -> None:
    module = network()
    before = weights_file(module)
    assert weights_file(module.to(memory_format=torch.contiguous_format)) == before
    assert weights_file(module.to(memory_format=torch.channels_last)) == before


def test_the_image_is_read_back_by_numpy_without_pickles() -> None:
    made = image()
    with np.load(io.BytesIO(reconstruction_file(made, simulated())), allow_pickle=False) as stored:
        assert set(stored.files) == {"object", "coverage", "frame_origin_px", "probe"}
        assert np.array_equal(stored["object"], made.object)
        assert np.array_equal(stored["coverage"], made.coverage)
        assert np.array_equal(stored["frame_origin_px"], made.frame_origin_px)
        assert np.array_equal(stored["probe"], simulated().probe)
        types = [stored[name].dtype for name in ("object", "coverage", "frame_origin_px", "probe")]
    assert types == [np.complex64, np.float32, np.int64, np.complex64]
    assert (made.frame_origin_px > 0).all()


def test_the_same_image_gives_the_same_bytes() -> None:
    assert reconstruction_file(image(), simulated()) == reconstruction_file(image(), simulated())


def test_the_image_is_laid_out_like_cxi_with_what_is_known_of_it() -> None:
    made, scan = image(), simulated()
    with h5py.File(io.BytesIO(reconstruction_cxi(made, scan, (1e-8, 2e-8)))) as file:
        stored = file["entry_1/data_1"]  # a link to image_1, as CXI has it
        assert np.array_equal(stored["data"][()], made.object)
        assert np.array_equal(stored["coverage"][()], made.coverage)
        assert np.array_equal(stored["frame_origin_px"][()], made.frame_origin_px)
        assert stored["pixel_size_m"][()].tolist() == [1e-8, 2e-8]
        assert np.array_equal(file["entry_1/instrument_1/source_1/illumination"][()], scan.probe)
        assert np.array_equal(file["entry_1/sample_1/geometry_1/corners_px"][()], scan.corners_px)
        assert file.attrs["units"] == scan.units
    with h5py.File(io.BytesIO(reconstruction_cxi(made, scan, None))) as file:
        assert "pixel_size_m" not in file["entry_1/image_1"]


def test_the_same_image_gives_the_same_bytes_of_hdf5_at_another_time() -> None:
    first = reconstruction_cxi(image(), simulated(), (1e-8, 1e-8))
    time.sleep(1.1)  # HDF5 counts seconds
    assert reconstruction_cxi(image(), simulated(), (1e-8, 1e-8)) == first
