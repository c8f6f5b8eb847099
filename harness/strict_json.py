"""Our own dataclasses, read back from JSON exactly as they were written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from pydantic_core import ValidationError

from harness.errors import HarnessError
from ptycho_torch.validation import describe_problems

__all__ = ["Strict", "read_strictly"]

StrictT = TypeVar("StrictT")


class Strict:
    """What is read back from JSON exactly as it was written, or not at all."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = {"extra": "forbid", "strict": True}


def read_strictly(kind: type[StrictT], text: str, what: str) -> StrictT:
    """Make one of our dataclasses of its JSON.

    Raises
    ------
    HarnessError
        It is none; `what` names it.
    """
    from pydantic import TypeAdapter  # pydantic itself takes long to load, and most commands read nothing

    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        told = "; ".join(describe_problems(what, error).problems[:5])
        raise HarnessError(f"the {what} cannot be read: {told}") from None
