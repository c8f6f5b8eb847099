"""What an image that runs must not hold."""

from __future__ import annotations

import re

__all__ = ["UNWANTED"]

UNWANTED = re.compile(
    r"(.*/)?(\w+-linux-gnu-)?(gcc|cc|cc1|cc1plus|c\+\+|g\+\+|cpp|clang|ld|ld\.bfd|ld\.gold|as|make|git)(-[\d.]+)?"
    r"|.*/\.cache/.+|var/cache/apt/.+|var/lib/apt/lists/(?!lock$).+|root/\..*/.+"
    r"|opt/ptychopinn/(.*/)?(pip[\d.]*(/.*)?|[^/]*\.whl)"  # the official base has a pip of its own
)
"""Paths of compilers and their parts, of caches, and of installers and wheels in our part of the image."""
