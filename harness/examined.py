"""One batch that a worker is to look into, and what it saw: two small files between host and worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from harness.store import read_json, write_json

__all__ = ["ask_for_batch", "batch_asked_for", "read_examination"]

_ASKED = "examine.json"
_SEEN = "examination.json"


def ask_for_batch(run_dir: Path, batch: int) -> None:
    """Have the worker of a run folder look into one batch, and end there.

    Parameters
    ----------
    run_dir
        The run folder.
    batch
        Number of the batch, counted from the training's first one.
    """
    write_json(run_dir / _ASKED, {"batch": batch})


def batch_asked_for(run_dir: Path) -> tuple[int, Callable[[Mapping[str, str]], None]] | None:
    """Return the batch that the worker is to look into, and who is to be told; None in any other run."""
    if not (run_dir / _ASKED).is_file():
        return None

    def tell(seen: Mapping[str, str]) -> None:
        # Pairs, for their order is that of the computation.
        write_json(run_dir / _SEEN, [list(pair) for pair in seen.items()])

    return read_json(run_dir / _ASKED)["batch"], tell


def read_examination(run_dir: Path) -> dict[str, str]:
    """Return the digests that the worker saw, in the order of computation; empty if it never came there."""
    path = run_dir / _SEEN
    return dict(read_json(path)) if path.is_file() else {}
