from __future__ import annotations

import pytest
import torch

from ptycho_torch.errors import DataError
from ptycho_torch.physics.patches import canvas_side_px, extract, keys_kernel, merge, merge_weight, place

N, M = 16, 26


def _complex(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def _offsets(*shape: int, seed: int = 1, reach: float = 2.5) -> torch.Tensor:
    return (torch.rand(*shape, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1) * reach


def _smooth_canvas(side: int) -> torch.Tensor:
    x = torch.arange(side, dtype=torch.float32)
    waves = torch.cos(0.35 * x)[:, None] + torch.sin(0.25 * x)[None, :]
    return torch.complex(waves + 3, torch.sin(0.2 * x)[:, None] * torch.cos(0.3 * x)[None, :])


def test_place_is_the_adjoint_of_extract():
    offsets = _offsets(3, 4)
    patches, canvas = _complex(3, 4, N, N), _complex(3, 4, M, M, seed=2)
    left = (place(patches, offsets, M).conj() * canvas).sum()
    right = (patches.conj() * extract(canvas, offsets, N)).sum()
    torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-4)


def test_extract_returns_what_place_put_there_at_whole_pixel_offsets():
    offsets = torch.tensor([[[-2.0, 3.0], [1.0, 0.0]]])
    patches = _complex(1, 2, N, N)
    torch.testing.assert_close(extract(place(patches, offsets, M), offsets, N), patches)


def test_a_positive_offset_moves_content_to_higher_rows_and_columns():
    patch = torch.zeros(1, 1, N, N, dtype=torch.complex64)
    patch[0, 0, 4, 7] = 1
    canvas = place(patch, torch.tensor([[[2.0, -3.0]]]), M)[0, 0]
    corner = (M - N) // 2
    assert torch.nonzero(canvas).tolist() == [[corner + 4 + 2, corner + 7 - 3]]


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.5, 0.9])
def test_interpolation_weights_add_up_to_one(fraction: float):
    taps = keys_kernel(torch.arange(-3, 4, dtype=torch.float64) - fraction)
    assert taps.sum().item() == pytest.approx(1.0)


def test_sub_pixel_extraction_reproduces_a_quadratic():
    x = torch.arange(M, dtype=torch.float64)
    canvas = ((x - 10) ** 2)[:, None] + x[None, :]
    offset = torch.tensor([0.37, -0.61], dtype=torch.float64)
    patch = extract(canvas, offset, N)
    corner = (M - N) / 2 + offset
    rows, columns = torch.arange(N) + corner[0], torch.arange(N) + corner[1]
    torch.testing.assert_close(patch, ((rows - 10) ** 2)[:, None] + columns[None, :])


@pytest.mark.parametrize("window", [N, N // 2])
def test_patches_that_agree_are_merged_to_themselves(window: int):
    obj = _smooth_canvas(M)
    offsets = _offsets(1, 4)
    patches = extract(obj, offsets, N)
    merged = merge(patches, offsets, M, merge_weight(N, window))
    middle = slice(M // 2 - 3, M // 2 + 3)
    error = (merged[0] - obj)[middle, middle].abs().max() / obj.abs().max()
    assert error < 0.01


def test_numerator_and_denominator_of_a_merge_use_the_same_mask():
    offsets = _offsets(2, 4)
    ones = torch.ones(2, 4, N, N, dtype=torch.complex64)
    merged = merge(ones, offsets, M, merge_weight(N, N // 2))
    covered = merged.abs() > 0
    assert covered.sum() >= 2 * (N // 2) ** 2
    torch.testing.assert_close(merged[covered], torch.ones_like(merged[covered]), rtol=1e-4, atol=1e-4)


def test_values_outside_the_window_never_reach_the_merged_object():
    offsets = _offsets(1, 4)
    patches, weight = _complex(1, 4, N, N), merge_weight(N, N // 2)
    changed = torch.where(weight > 0, patches, torch.full_like(patches, 1e6))
    assert torch.equal(merge(patches, offsets, M, weight), merge(changed, offsets, M, weight))


def test_the_merged_object_is_a_weighted_mean_at_whole_pixel_offsets():
    weight = merge_weight(N, N)
    offsets = torch.tensor([[[0.0, 0.0], [0.0, 1.0]]])
    patches = torch.stack([torch.full((N, N), 1.0), torch.full((N, N), 3.0)])[None].to(torch.complex64)
    merged = merge(patches, offsets, M, weight)[0]
    row, column = 8, 8
    first, second = weight[row, column], weight[row, column - 1]
    expected = (first + 3 * second) / (first + second)
    corner = (M - N) // 2
    torch.testing.assert_close(merged[corner + row, corner + column].real, expected)


def test_a_group_too_wide_to_be_merged_is_refused():
    with pytest.raises(DataError, match=r"30\.0 px from the middle"):
        canvas_side_px(64, 30.0)


def test_the_canvas_holds_every_patch_with_its_interpolation_margin():
    assert canvas_side_px(64, 0.0) == 64
    assert canvas_side_px(64, 5.2) >= 64 + 2 * 5.2 + 2
