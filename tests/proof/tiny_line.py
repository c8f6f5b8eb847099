"""Puts the proofs' own network into the table from outside, without a line there: a plugin of `make proof`.

It must be loaded before the configuration, which takes its legal names from the table.
"""

from __future__ import annotations

import sys

from ptycho_torch.variants import GENERATORS

assert "ptycho_torch.config" not in sys.modules, "the legal names are fixed already"
GENERATORS._entries["tiny"] = "tests.proof.tiny:TinyGenerator"
