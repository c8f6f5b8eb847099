"""Patches cut out of one object and put back on it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ptycho_torch.canvas import ScanCanvas
from ptycho_torch.errors import DataError

N, FRAMES = 16, np.arange(5)
CORNERS = np.array([[0.0, 0.0], [3.25, 7.5], [-2.6, 4.0], [10.1, -6.7], [8.0, 2.999]])


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed)).to(
        torch.complex64
    )


@pytest.fixture(scope="module")
def canvas() -> ScanCanvas:
    return ScanCanvas(CORNERS, N)


def test_placing_is_the_adjoint_of_extracting(canvas: ScanCanvas) -> None:
    obj, patches = noise(*canvas.frame.shape), noise(len(CORNERS), N, N, seed=1)
    cut = torch.vdot(patches.flatten(), canvas.extract(obj, FRAMES).flatten())
    placed = torch.vdot(canvas.place(patches, FRAMES).flatten(), obj.flatten())
    # Single precision: the sums have some 1e3 terms of order 1.
    assert complex(cut) == pytest.approx(complex(placed), abs=1e-3)


def test_at_a_whole_position_a_patch_is_the_object_itself(canvas: ScanCanvas) -> None:
    obj = noise(*canvas.frame.shape)
    row, column = np.array([0, 0]) - np.array(canvas.frame.origin_px)
    assert torch.equal(canvas.extract(obj, FRAMES[:1])[0], obj[row : row + N, column : column + N])


def test_between_pixels_a_smooth_object_is_met_where_it_is(canvas: ScanCanvas) -> None:
    index = [
        torch.arange(side) + first
        for side, first in zip(canvas.frame.shape, canvas.frame.origin_px, strict=True)
    ]
    obj = torch.exp(0.2j * index[0][:, None] - 0.1j * index[1][None, :]).to(torch.complex64)
    patch = canvas.extract(obj, FRAMES[1:2])[0]
    rows, columns = (torch.arange(N) + corner for corner in CORNERS[1])
    true = torch.exp(0.2j * rows[:, None] - 0.1j * columns[None, :]).to(torch.complex64)
    # The kernel's error at this frequency; half a pixel aside would be 0.1.
    assert float((patch - true).abs().max()) < 0.01


def test_what_is_spread_counts_the_frames_over_a_pixel(canvas: ScanCanvas) -> None:
    cover = canvas.spread(torch.ones(N, N), FRAMES)
    assert float(cover.sum()) == len(CORNERS) * N * N
    assert float(cover.max()) == len(CORNERS)
    assert float(cover.min()) == 0


def test_an_image_is_laid_where_its_origin_says(canvas: ScanCanvas) -> None:
    image = np.arange(12, dtype=np.complex64).reshape(3, 4) + 1
    laid = canvas.lay(image, np.array([2, 5]), 0).numpy()
    row, column = np.array([2, 5]) - np.array(canvas.frame.origin_px)
    assert np.array_equal(laid[row : row + 3, column : column + 4], image)
    assert np.count_nonzero(laid) == image.size


def test_an_image_is_cut_where_it_leaves_the_canvas(canvas: ScanCanvas) -> None:
    height, width = canvas.frame.shape
    huge = np.ones((3 * height, 3 * width), dtype=np.complex64)
    assert (canvas.lay(huge, np.array(canvas.frame.origin_px) - height, 0) == 1).all()
    assert (canvas.lay(huge, np.array([10_000, 0]), 7) == 7).all()


def test_a_stray_position_is_refused() -> None:
    with pytest.raises(DataError, match="are they in pixels"):
        ScanCanvas(np.array([[0.0, 0.0], [1e6, 1e6]]), N)
