"""A training step holds no operation whose rounding depends on the processor's vendor."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.optim import Adam

from ptycho_torch.models import winograd
from ptycho_torch.readers import Scan
from ptycho_torch.variants import GENERATORS, LOSSES
from tests.torch.small_training import ONE_STEP, MakePayload, fit
from tests.vendor_dependent import VENDOR_DEPENDENT, Watch


@pytest.mark.parametrize("generator", list(GENERATORS))
@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize("gridsize", [1, 2])
def test_a_training_step_holds_no_operation_that_depends_on_the_vendor(
    make_payload: MakePayload,
    scan: Scan,
    monkeypatch: pytest.MonkeyPatch,
    gridsize: int,
    loss: str,
    generator: str,
) -> None:
    everything = {
        "gridsize": gridsize,
        "loss": loss,
        "generator": generator,
        "attention": True,
        "probe_big": True,
        "probe_trainable": True,
        "batch_size": 2,
        "n_groups": 2,
    }
    # No convolution of n_filters_scale 1 is tiled: the goldens' bits depend on it.
    monkeypatch.setattr(winograd, "_windows", lambda _: pytest.fail("a convolution is tiled"))
    with Watch() as watch:
        fit(make_payload(ONE_STEP | everything, gradient_clip_val=1e-3), scan)
    assert watch.found == []
    assert {"aten::convolution_backward", "aten::_fused_adam", "aten::_fft_c2c"} <= watch.seen


@pytest.mark.parametrize("name", list(VENDOR_DEPENDENT))
def test_the_watch_sees_every_such_operation(name: str) -> None:
    with Watch() as watch:
        VENDOR_DEPENDENT[name](torch.rand(10_000))
    assert name in watch.found


def step(optimizer: torch.optim.Optimizer, weight: torch.Tensor) -> None:
    weight.grad = torch.ones_like(weight)
    optimizer.step()


@pytest.mark.parametrize(
    ("compute", "names"),
    [
        (lambda x: step(Adam([x], foreach=False, fused=False), x), {"aten::sqrt"}),
        (lambda x: step(Adam([x], foreach=True), x), {"aten::_foreach_sqrt"}),
        (lambda x: (x.detach() ** 2).sqrt(), {"aten::sqrt"}),
        (lambda x: torch.atan(x).sum().backward(), {"aten::atan"}),
        (
            lambda x: x.detach().double().sqrt() * 2,
            {"aten::mul of a root in double precision that is not rounded yet"},
        ),
        (lambda x: x.detach().double().sqrt().float(), set()),
        (lambda x: step(Adam([x], fused=True), x), set()),
        (lambda x: (x**2).sum().backward(), set()),
    ],
)
def test_the_watch_tells_roots_that_depend_on_the_vendor_from_those_that_do_not(
    compute: Callable[[torch.Tensor], object], names: set[str]
) -> None:
    weight = torch.rand(5, requires_grad=True)
    with Watch() as watch:
        compute(weight)
    assert set(watch.found) == names
