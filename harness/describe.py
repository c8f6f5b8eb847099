"""What an environment says of itself to whoever starts runs in it: ``python -m harness.describe``.

It prints one JSON object: the interpreter and its packages, the lock they were installed from, this
project's source files, and which optional packages are there. Images made earlier answer it too, so what it
prints is only ever added to.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from harness.code_capture import source_files, source_root
from harness.environment import find_lock, interpreter

__all__ = ["FACTS", "OPTIONAL_PACKAGES", "describe"]

OPTIONAL_PACKAGES = ("mlflow", "tensorboard", "wandb")

FACTS = frozenset({"interpreter", "lock", "source_files", "optional"})
"""Keys of a description; one that was kept earlier and lacks some is asked for anew."""


def describe() -> dict[str, Any]:
    """Describe this interpreter's environment as JSON-ready values."""
    root = source_root()
    lock = find_lock(Path(sys.prefix), root)
    return {
        "interpreter": interpreter(),
        "lock": {"text": lock[1].decode("utf-8"), "is_installed": lock[0].is_installed} if lock else None,
        "source_files": source_files(root),
        "optional": [name for name in OPTIONAL_PACKAGES if importlib.util.find_spec(name)],
    }


if __name__ == "__main__":
    json.dump(describe(), sys.stdout, sort_keys=True)
