"""``python -m harness``: the command line, for where no ``harness`` script is installed."""

from __future__ import annotations

import sys

from harness.cli import main

if __name__ == "__main__":
    sys.exit(main())
