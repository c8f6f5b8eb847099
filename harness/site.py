"""What a site sets for images: in the environment, else in the ``.env`` of the checkout, as for compose."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

__all__ = ["REPOSITORY", "repository", "site_settings"]

REPOSITORY = "ptychopinn-harness"
"""Repository of the images that are built from a checkout, unless another is named; the tag is the target."""


def site_settings(root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return every setting: those of `environ`, and those of ``.env`` that it does not overrule.

    Parameters
    ----------
    root
        The checkout.
    environ
        The caller's environment.
    """
    file = root / ".env"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    pairs = (re.fullmatch(r"\s*(?:export\s+)?(\w+)\s*=\s*(['\"]?)(.*?)\2\s*", line) for line in lines)
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
