from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ptycho_torch.models import winograd
from ptycho_torch.models.winograd import TiledConvolution
from tests.vendor_dependent import Watch

LARGE = [(64, 128, 32), (128, 128, 24), (64, 64, 36)]
"""Channels in and out, and side, of convolutions that are tiled."""
TILED = "_TiledBackward"


def _layer(inputs: int, outputs: int, dtype: torch.dtype = torch.float64) -> TiledConvolution:
    torch.manual_seed(0)
    layer = TiledConvolution(inputs, outputs)
    torch.nn.init.normal_(layer.bias)
    return layer.to(dtype).to(memory_format=torch.channels_last)


def _image(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    image = torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    return image.contiguous(memory_format=torch.channels_last).requires_grad_()


def _value_and_gradients(found: Tensor, *leaves: Tensor) -> list[Tensor]:
    return [found.detach(), *torch.autograd.grad(found.square().sum() / 2, leaves)]


def _both(layer: TiledConvolution, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    leaves = [image, *layer.parameters()]
    wanted = F.conv2d(image, layer.weight, layer.bias, padding=1)
    return _value_and_gradients(layer(image), *leaves), _value_and_gradients(wanted, *leaves)


def _way(layer: TiledConvolution, image: Tensor) -> str:
    return str(layer(image).grad_fn.name())


@pytest.fixture(autouse=True, params=[None, "COMPATIBLE"], ids=["MKL", "NumPy"])
def _multiplied_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the library that multiplies under ``strict``, and the one under ``portable``."""
    monkeypatch.delenv("MKL_CBWR", raising=False)
    if request.param is not None:
        monkeypatch.setenv("MKL_CBWR", request.param)


@pytest.fixture
def _any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "LARGE", 0)
    monkeypatch.setattr(winograd, "FEWEST_CHANNELS", 1)


@pytest.mark.usefixtures("_any_size")
@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 2, 4, 12), (3, 1, 4, 4)])
def test_tiles_give_the_value_and_the_gradients_of_the_direct_convolution(shape: tuple[int, ...]) -> None:
    layer, image = _layer(shape[1], 5), _image(*shape)
    assert _way(layer, image) == TILED
    for found, wanted in zip(*_both(layer, image), strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.usefixtures("_any_size")
def test_the_gradients_of_tiles_are_those_of_finite_differences() -> None:
    layer, image = _layer(2, 3), _image(2, 2, 4, 8)
    names = [name for name, _ in layer.named_parameters()]

    def convolved(image: Tensor, *weights: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), (image,))

    leaves = [image, *(parameter.detach().requires_grad_() for parameter in layer.parameters())]
    assert torch.autograd.gradcheck(convolved, leaves)


@pytest.mark.parametrize("side", [32, 30], ids=["tiled", "direct"])
def test_a_rectified_layer_has_the_bits_of_a_convolution_and_a_rectification(side: int) -> None:
    layer, image = _layer(64, 128, torch.float32), _image(3, 64, side, side, dtype=torch.float32)
    leaves = [image, *layer.parameters()]
    wanted = _value_and_gradients(torch.relu(layer(image)), *leaves)
    layer.is_rectified = True
    assert (_way(layer, image) == TILED) == (side == 32)
    for found, plain in zip(_value_and_gradients(layer(image), *leaves), wanted, strict=True):
        assert torch.equal(found, plain)


@pytest.mark.usefixtures("_any_size")
def test_an_image_that_wants_no_gradient_gets_none_and_the_weights_get_theirs() -> None:
    layer, image = _layer(2, 3), _image(2, 2, 8, 8).detach()
    found, wanted = layer(image), F.conv2d(image, layer.weight, layer.bias, padding=1)
    leaves = list(layer.parameters())
    for a, b in zip(_value_and_gradients(found, *leaves), _value_and_gradients(wanted, *leaves), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.usefixtures("_any_size")
@pytest.mark.parametrize("tiles_per_channel", [1, 4])
def test_images_that_are_tiled_a_few_at_a_time_give_the_same(
    monkeypatch: pytest.MonkeyPatch, tiles_per_channel: int
) -> None:
    monkeypatch.setattr(winograd, "TILES_PER_CHANNEL", tiles_per_channel)
    image = _image(5, 3, 8, 8)
    sizes = [len(some) for some, _ in winograd._some_at_a_time(image, image)]
    assert sizes == {1: [1] * 5, 4: [3, 2]}[tiles_per_channel]
    for found, wanted in zip(*_both(_layer(3, 3), image), strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.usefixtures("_any_size")
def test_without_gradients_tiles_give_the_same_bits_and_keep_only_the_planes_at_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer, image = _layer(3, 3), _image(5, 3, 16, 16)
    windows, alive = winograd._windows, weakref.WeakSet[Tensor]()
    most = 0

    def watched(given: Tensor) -> Tensor:
        nonlocal most
        most = max(most, len(alive))
        return windows(given)

    def mapped(way: dict[torch.dtype, Tensor], pixels: Tensor, *, back: bool = False) -> Tensor:
        made = plain(way, pixels, back=back)
        if way is winograd.OF_INPUT and not back:
            alive.add(made)
        return made

    plain = winograd._mapped
    monkeypatch.setattr(winograd, "_windows", watched)
    monkeypatch.setattr(winograd, "_mapped", mapped)
    with torch.no_grad():
        found = layer(image)
    assert most == 1
    kept = layer(image)
    assert most == 4
    assert torch.equal(found, kept)


@pytest.mark.usefixtures("_any_size")
def test_a_batch_without_images_gives_one_and_gradients_of_zero() -> None:
    layer, image = _layer(3, 4), _image(0, 3, 8, 8)
    for found, wanted in zip(*_both(layer, image), strict=True):
        assert torch.equal(found, wanted)


def test_products_are_numpys_where_every_cpu_is_to_have_the_same_bits_and_torchs_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer, image = _layer(64, 128, torch.float32), _image(2, 64, 32, 32, dtype=torch.float32)
    multiply, by_numpy = np.matmul, []

    def count(left: NDArray[np.floating], right: NDArray[np.floating]) -> NDArray[np.floating]:
        by_numpy.append(left.shape)
        product: NDArray[np.floating] = multiply(left, right)
        return product

    monkeypatch.setattr(winograd.np, "matmul", count)
    monkeypatch.delenv("MKL_CBWR", raising=False)
    elsewhere = _value_and_gradients(layer(image), image, *layer.parameters())
    assert by_numpy == []
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    shared = _value_and_gradients(layer(image), image, *layer.parameters())
    # The map of weights twice, those of images and gradients there and back, and the three products.
    assert len(by_numpy) == 4 + 4 + 2
    for one, other in zip(shared, elsewhere, strict=True):
        assert float((one - other).norm()) < 1e-5 * float(other.norm())


def _allowed_coarseness() -> float:
    """Return how many times as much tiles may err as the direct sum, for noise without a mean.

    A product in plane (a, b) is as large as |B_a| |B_b| |G_a| |G_b| times what one of pixel and weight is,
    so its rounding errors are, and A takes them to the pixels. Beside those of a direct sum of as many terms
    the errors (root of the mean square, in both directions) are therefore the sum over a of
    |A_a|^2 |B_a|^2 |G_a|^2, divided by 4 x 3 products; the two adjoint maps have the same sum. The direct sum
    has nine times as many terms. That its errors do not grow with their number is the most that can be said
    for it; where they grow as the number, a third is left.
    """
    to_pixels = torch.tensor(
        [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
    )
    of_pixels = torch.tensor(
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ]
    )
    of_weights = torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
    sizes = to_pixels.square().sum(dim=0) * of_pixels.square().sum(dim=1) * of_weights.square().sum(dim=1)
    return float(sizes.sum()) / (4 * 3)


@pytest.mark.parametrize(("inputs", "outputs", "side"), LARGE)
def test_in_single_precision_tiles_err_no_more_than_their_maps_enlarge_the_direct_sums_errors(
    inputs: int, outputs: int, side: int
) -> None:
    layer, image = _layer(inputs, outputs, torch.float32), _image(2, inputs, side, side, dtype=torch.float32)
    arriving = _image(2, outputs, side, side, dtype=torch.float32).detach()
    assert _way(layer, image) == TILED

    def passes(convolved: Tensor, *leaves: Tensor) -> list[Tensor]:
        return [convolved.detach(), *torch.autograd.grad(convolved, leaves, arriving.to(convolved.dtype))]

    tiled = passes(layer(image), image, *layer.parameters())
    direct = passes(F.conv2d(image, layer.weight, layer.bias, padding=1), image, *layer.parameters())
    exact_layer, exact_image = layer.double(), image.detach().double().requires_grad_()
    convolved = F.conv2d(exact_image, exact_layer.weight, exact_layer.bias, padding=1)
    for found, plain, right in zip(
        tiled, direct, passes(convolved, exact_image, *exact_layer.parameters()), strict=True
    ):
        assert float((found - right).norm()) < _allowed_coarseness() * float((plain - right).norm())


@pytest.mark.parametrize(("inputs", "outputs", "side"), LARGE)
def test_tiles_hold_no_operation_that_depends_on_the_vendor(inputs: int, outputs: int, side: int) -> None:
    layer, image = _layer(inputs, outputs, torch.float32), _image(1, inputs, side, side, dtype=torch.float32)
    with Watch() as watch:
        assert _way(layer, image) == TILED
        layer(image).sum().backward()
    assert watch.found == []


@pytest.mark.parametrize(("inputs", "outputs", "side"), LARGE)
def test_what_overflows_is_infinite_and_warns_of_nothing(inputs: int, outputs: int, side: int) -> None:
    layer, image = _layer(inputs, outputs, torch.float32), _image(1, inputs, side, side, dtype=torch.float32)
    assert _way(layer, image) == TILED
    found = layer(image * 1e38)
    gradients = torch.autograd.grad(found.sum() * 1e38, [image, *layer.parameters()])
    assert not any(tensor.isfinite().all() for tensor in (found, gradients[1]))


@pytest.mark.parametrize(("inputs", "outputs", "side"), LARGE)
def test_tiles_give_the_same_bits_again(inputs: int, outputs: int, side: int) -> None:
    layer, image = _layer(inputs, outputs, torch.float32), _image(2, inputs, side, side, dtype=torch.float32)
    leaves = [image, *layer.parameters()]
    first, second = (_value_and_gradients(layer(image), *leaves) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("inputs", "outputs", "side"),
    [(128, 128, 16), (64, 64, 32), (32, 256, 64), (64, 128, 30), (1, 64, 64)],
    ids=["all of n_filters_scale 1", "its other", "few channels", "no whole tiles", "one channel"],
)
def test_what_is_small_or_has_no_whole_tiles_has_the_bits_of_the_direct_convolution(
    inputs: int, outputs: int, side: int
) -> None:
    layer, image = _layer(inputs, outputs, torch.float32), _image(1, inputs, side, side, dtype=torch.float32)
    for found, wanted in zip(*_both(layer, image), strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_numbers_too_coarse_for_tiles_are_convolved_directly(dtype: torch.dtype) -> None:
    layer, image = _layer(64, 128, dtype), _image(1, 64, 32, 32, dtype=dtype)
    assert _way(layer, image) != TILED


def test_a_device_that_is_no_processor_and_a_processor_without_avx_convolve_directly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer, image = _layer(64, 128, torch.float32), _image(1, 64, 32, 32, dtype=torch.float32)
    assert _way(layer, image) == TILED
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert _way(layer, image) != TILED
    monkeypatch.undo()
    with torch.autocast("cpu", torch.bfloat16):
        assert _way(layer, image) != TILED
    assert _way(layer.to("meta"), image.detach().to("meta")) != TILED


def test_a_tiled_image_stays_in_the_layout_that_convolutions_like_and_may_be_changed_in_place() -> None:
    layer, image = _layer(64, 128, torch.float32), _image(2, 64, 32, 32, dtype=torch.float32)
    found = torch.relu_(layer(image))
    assert found.is_contiguous(memory_format=torch.channels_last)
    (gradient,) = torch.autograd.grad(found.sum(), image)
    assert gradient.is_contiguous(memory_format=torch.channels_last)
