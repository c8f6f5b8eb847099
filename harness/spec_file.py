"""Find and read the file of a run spec."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.called import is_composed
from harness.errors import UserError

__all__ = ["RECIPE_ENDING", "read_spec_file"]

RECIPE_ENDING = ".recipe.yaml"
"""How the name of a recipe's file ends, so that it is told from a spec."""


def read_spec_file(path: Path) -> bytes:
    """Read a spec's file, or a little more than the largest that is taken.

    Raises
    ------
    UserError
        There is no such file, or it cannot be read; specs that are near are named.
    """
    from harness.yaml_loader import MAX_BYTES

    if not path.exists():
        near = sorted(str(p.relative_to(path.parent)) for p in _specs_near(path.parent))
        there = f" (specs there: {', '.join(near[:8])})" if near else ""
        if is_composed() and not near:
            there = ": a container sees the specs below runs/, by the paths that they have in the checkout"
        raise UserError(f"{path}: there is no such spec{there}")
    if not path.is_file():
        raise UserError(f"{path}: a spec is a file, this is not one")
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: the spec cannot be read: {error.strerror}") from error


def _specs_near(folder: Path) -> Iterator[Path]:
    for pattern in ("*.yaml", "runs/*.yaml"):
        for path in folder.glob(pattern):
            if not path.name.startswith(".") and not path.name.endswith(RECIPE_ENDING):
                yield path
