"""What a site sets for images: in the environment, else in the ``.env`` of the checkout, as for compose."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from harness.errors import UserError

__all__ = ["REPOSITORY", "repository", "site_settings"]

REPOSITORY = "ptychopinn-harness"
"""Repository of the images that are built from a checkout, unless another is named; the tag is the target."""

_SETTING = r"\s*(?:export\s+)?(\w+)\s*=\s*(['\"]?)(.*?)\2(?:\s+#.*)?\s*"
"""A line of ``.env``: what follows a blank and ``#`` is a note, unless it stands within the quotes."""


def site_settings(root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return every setting: those of `environ`, and those of ``.env`` that it does not overrule.

    Parameters
    ----------
    root
        The checkout.
    environ
        The caller's environment.

    Raises
    ------
    UserError
        The file is not text in UTF-8.
    """
    file = root / ".env"
    try:
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{file}:{line}: is not UTF-8 text: save it as UTF-8") from error
    pairs = (re.fullmatch(_SETTING, line) for line in lines)
    return {**{pair[1]: pair[3] for pair in pairs if pair is not None}, **environ}


def repository(root: Path, environ: Mapping[str, str] | None = None) -> str:
    """Return the repository of a checkout's images: the setting ``IMAGE``, as compose takes it.

    Parameters
    ----------
    root
        The checkout.
    environ
        The caller's environment; by default this process's.
    """
    return site_settings(root, os.environ if environ is None else environ).get("IMAGE") or REPOSITORY
