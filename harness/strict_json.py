"""Our own dataclasses, read back from JSON exactly as they were written."""

from __future__ import annotations

from typing import ClassVar, TypeVar

import pydantic
from pydantic import ConfigDict, TypeAdapter

from harness.errors import HarnessError
from ptycho_torch.validation import describe_problems

__all__ = ["Strict", "read_strictly"]

StrictT = TypeVar("StrictT")


class Strict:
    """What is read back from JSON exactly as it was written, or not at all."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)


def read_strictly(kind: type[StrictT], text: str, what: str) -> StrictT:
    """Make one of our dataclasses of its JSON.

    Raises
    ------
    HarnessError
        It is none; `what` names it.
    """
    try:
        return TypeAdapter(kind).validate_json(text)
    except pydantic.ValidationError as error:
        told = "; ".join(describe_problems(what, error).problems[:5])
        raise HarnessError(f"the {what} cannot be read: {told}") from None
