from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import torch

from ptycho_torch.side_by_side import SideBySide
from tests.torch.test_module import _batch, _module


@pytest.fixture
def with_threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def _who() -> tuple[int, int]:
    return threading.get_ident(), torch.get_num_threads()


@pytest.mark.parametrize("in_turns", [False, True])
def test_results_come_in_the_order_of_the_functions(with_threads: Callable[[int], None], in_turns: bool):
    with_threads(2)
    first_may_end = threading.Event()
    if in_turns:
        first_may_end.set()

    def first() -> str:
        assert first_may_end.wait(60), "the second was not computed beside the first"
        return "first"

    def second() -> str:
        first_may_end.set()
        return "second"

    assert list(SideBySide(in_turns=in_turns)([first, second])) == ["first", "second"]


@pytest.mark.parametrize(("threads", "functions", "share"), [(2, 2, 1), (3, 8, 1), (5, 2, 2), (8, 2, 4)])
@pytest.mark.parametrize("in_turns", [False, True])
def test_each_has_its_share_of_the_threads_and_the_caller_keeps_them(
    with_threads: Callable[[int], None], threads: int, functions: int, share: int, in_turns: bool
):
    with_threads(threads)
    found = list(SideBySide(in_turns=in_turns)([_who] * functions))
    assert [number for _, number in found] == [share] * functions
    assert torch.get_num_threads() == threads
    if in_turns:
        assert len({who for who, _ in found}) == 1


@pytest.mark.parametrize(("threads", "functions"), [(1, 3), (4, 1)])
def test_with_one_thread_or_one_function_the_caller_computes_with_all_threads(
    with_threads: Callable[[int], None], threads: int, functions: int
):
    with_threads(threads)
    assert list(SideBySide()([_who] * functions)) == [(threading.get_ident(), threads)] * functions


def test_pools_of_other_shares_do_not_disturb_each_other(with_threads: Callable[[int], None]):
    with_threads(4)
    side_by_side = SideBySide()
    for _ in range(2):
        for functions, share in ((4, 1), (2, 2), (3, 1)):
            assert [number for _, number in side_by_side([_who] * functions)] == [share] * functions
    with_threads(8)
    assert [number for _, number in side_by_side([_who] * 2)] == [4, 4]


def test_what_goes_wrong_in_a_thread_is_raised(with_threads: Callable[[int], None]):
    with_threads(2)
    with pytest.raises(ZeroDivisionError):
        list(SideBySide()([lambda: 1 // 1, lambda: 1 // 0]))


@pytest.mark.parametrize("in_turns", [False, True])
def test_portions_side_by_side_have_the_bits_of_one_thread(
    monkeypatch: pytest.MonkeyPatch, with_threads: Callable[[int], None], in_turns: bool
):
    monkeypatch.setattr("ptycho_torch.module.PIXELS_AT_ONCE", 2 * 4 * 64 * 64)
    batch = _batch(4, 5)

    def computed(threads: int) -> list[torch.Tensor]:
        with_threads(threads)
        module = _module({"gridsize": 2, "attention": True, "probe_big": True})
        module.side_by_side = SideBySide(in_turns=in_turns)
        loss = module.batch_loss_in_parts(batch)
        loss.backward()
        with torch.inference_mode():
            validated = module.batch_loss_in_parts(batch)
        predicted = module.predict_patches_in_portions(batch.input_amplitude)
        gradients = [parameter.grad for parameter in module.parameters()]
        return [loss.detach(), validated, torch.view_as_real(predicted), *gradients]

    one = computed(1)
    for threads in (2, 3):
        for a, b in zip(computed(threads), one, strict=True):
            assert torch.equal(a, b)


def test_portions_are_predicted_in_their_order_and_without_gradients(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ptycho_torch.module.PIXELS_AT_ONCE", 2 * 64 * 64)
    module, seen = _module(), []
    module.side_by_side = SideBySide(in_turns=True)
    module.generator.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    amplitude = _batch(B=5).input_amplitude
    predicted = module.predict_patches_in_portions(amplitude)
    assert seen == [2, 2, 1]
    assert not predicted.requires_grad
    with torch.inference_mode():
        alone = torch.cat([module.predict_patches(amplitude[number : number + 1]) for number in range(5)])
    torch.testing.assert_close(predicted, alone)
