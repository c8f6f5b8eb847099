"""Operations whose rounding depends on the processor's vendor, and a watch that finds them in a computation.

They start from the processor's table of reciprocal roots, which no standard prescribes. Each stands here with
an example that gives other bits on another vendor's processor: ``tests/proof/test_portable.py`` shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

VENDOR_DEPENDENT: Mapping[str, Callable[[Tensor], Tensor]] = {
    "aten::sqrt": torch.sqrt,
    "aten::_foreach_sqrt": lambda values: torch._foreach_sqrt([values])[0],
    "aten::pow": lambda values: values.pow(0.5),
    "aten::atan": torch.atan,
    "aten::asin": torch.asin,
    "aten::acos": torch.acos,
    "aten::tan": lambda values: torch.tan(values.double()),
    "aten::_euclidean_dist": lambda values: torch.cdist(
        values.reshape(100, -1), values.reshape(100, -1).flip(0)
    ),
}
"""Name of the operation, to an example of it for values between 0 and 1."""


class Watch(TorchDispatchMode):
    """Note every operation, backward passes and optimizers included, that gives other bits elsewhere.

    A root in double precision that is at once rounded to single precision is none of them: a single-precision
    number's root is further from the middle between two such numbers than double precision can err.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.found: list[str] = []
        self._roots: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func._schema.name.removesuffix("_")
        self.seen.add(name)
        is_rounded = name == "aten::_to_copy" and kwargs.get("dtype") is torch.float32
        if not is_rounded and any(arg is root for arg in args for root in self._roots):
            self.found.append(f"{name} of a root in double precision that is not rounded yet")
        if name == "aten::sqrt" and args[0].dtype is torch.float64:
            self._roots.append(out)
        elif name == "aten::pow":
            # Torch takes other ways for whole exponents; 0.5 is a root.
            if args[1] == 0.5:
                self.found.append(name)
        elif name in VENDOR_DEPENDENT:
            self.found.append(name)
        return out
