"""Feed a reader with mutilated input, guided by coverage: ``python -m tests.fuzz TARGET SECONDS``.

Needs atheris (``pip install .[fuzz]``). What is found is written to the current folder as ``crash-*``, with
the trace on the terminal; it then becomes a test in ``tests/fuzz/test_findings.py``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["harness", "ptycho_torch", "yaml", "zipfile"], enable_loader_override=False
):
    from tests.fuzz.seeds import seeds
    from tests.fuzz.targets import TARGETS


def main(target: str, seconds: str, *more: str) -> None:
    """Run one target for some seconds, from its seeds."""
    with tempfile.TemporaryDirectory() as scratch:
        corpus = Path(scratch) / "corpus"
        corpus.mkdir()
        for number, content in enumerate(seeds(target)):
            (corpus / f"seed-{number:03}").write_bytes(content)
        options = [f"-max_total_time={seconds}", "-rss_limit_mb=2048", "-timeout=120", "-print_final_stats=1"]
        atheris.Setup(
            [sys.argv[0], *options, *more, str(corpus)],
            lambda data: TARGETS[target](data, Path(scratch)),
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
