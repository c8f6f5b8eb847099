from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from ptycho_torch.exact.digest import array_digest, optimizer_digest, tensor_digest


def state():
    return {
        "conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2),
        "conv.bias": torch.tensor([1.5, -2.5]),
        "steps": torch.tensor(7),
        "probe": torch.tensor([[1 + 2j, 3 - 4j]], dtype=torch.complex64),
        "half": torch.tensor([0.5, 2.0], dtype=torch.bfloat16),
        "mask": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
    }


def by_hand(tensors):
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}|{str(tensor.dtype)[6:]}|{','.join(map(str, tensor.shape))}\n".encode())
        digest.update(bytes(tensor.contiguous().flatten().view(torch.uint8).tolist()))
    return digest.hexdigest()


def test_the_digest_can_be_recomputed_by_hand():
    assert tensor_digest(state()) == by_hand(state())


def test_a_known_state_has_a_known_digest():
    expected = hashlib.sha256(b"w|float32|2\n\x00\x00\x80\x3f\x00\x00\x00\x40").hexdigest()
    assert tensor_digest({"w": torch.tensor([1.0, 2.0])}) == expected
    assert (
        tensor_digest({"n": torch.tensor(258)})
        == hashlib.sha256(b"n|int64|\n\x02\x01" + bytes(6)).hexdigest()
    )


def test_order_and_memory_layout_do_not_matter():
    other = dict(reversed(state().items()))
    other["conv.weight"] = other["conv.weight"].to(memory_format=torch.channels_last)
    other["probe"] = other["probe"].conj().resolve_conj().conj()
    other["conv.bias"] = torch.nn.Parameter(other["conv.bias"])
    assert tensor_digest(other) == tensor_digest(state())


@pytest.mark.parametrize("name", [name for name in state() if name != "empty"])
def test_one_changed_bit_of_any_tensor_changes_the_digest(name):
    changed = state()
    raw = changed[name].contiguous().reshape(-1).view(torch.uint8)
    raw[0] ^= 1
    assert tensor_digest(changed) != tensor_digest(state())


def test_names_types_and_shapes_are_part_of_the_digest():
    weight = torch.zeros(4)
    variants = [{"a": weight}, {"b": weight}, {"a": weight.reshape(2, 2)}, {"a": weight.int()}]
    assert len({tensor_digest(variant) for variant in variants}) == 4


def test_what_is_no_dense_tensor_is_refused():
    for value in ("text", 1.0, torch.eye(2).to_sparse()):
        with pytest.raises(TypeError, match="'a'"):
            tensor_digest({"a": value})


def test_an_optimizers_digest_sees_moments_steps_and_settings():
    def digest(lr=0.1, steps=2, scale=1.0):
        weight = torch.nn.Parameter(torch.arange(3.0))
        optimizer = torch.optim.Adam([weight], lr=lr, fused=True)
        for _ in range(steps):
            weight.grad = torch.ones(3) * scale
            optimizer.step()
        return optimizer_digest(optimizer.state_dict())

    assert digest() == digest()
    assert len({digest(), digest(lr=0.2), digest(steps=3), digest(scale=2.0)}) == 4


def test_an_array_digest_sees_type_shape_and_values():
    array = np.arange(6.0)
    assert array_digest(array) == array_digest(array.copy())
    variants = (array, array.reshape(2, 3), array.astype(np.float32), -array)
    assert len({array_digest(variant) for variant in variants}) == 4
