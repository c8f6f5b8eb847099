"""Lazy tables of variants: a name, and the ``module:attribute`` that implements it."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from ptycho_torch.errors import ConfigError


class Registry(Mapping[str, Any]):
    """A read-only table from a variant's name to the object that implements it.

    The object is imported when it is first looked up, so a heavy import is paid only by who uses it.

    Parameters
    ----------
    kind
        What the table holds, in the words of an error message (``"loss"``).
    entries
        Name to ``"package.module:attribute"``.
    """

    def __init__(self, kind: str, entries: dict[str, str]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> Any:
        if name not in self._entries:
            near = difflib.get_close_matches(name, self._entries, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                [f"there is no {self.kind} named {name!r}{hint} (legal: {', '.join(self._entries)})"]
            )
        module, attribute = self._entries[name].split(":")
        return getattr(importlib.import_module(module), attribute)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
