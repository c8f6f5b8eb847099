"""The process that simulates a scan into a file: told on its standard input, telling on its standard output.

Started as ``python -m harness.simulator``, under the environment of an exactness profile; nobody imports it.
"""

from __future__ import annotations

import json
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.code_capture import digest_of_files, source_files, source_root
from harness.lifeline import stop_with_the_host
from harness.simulate import PACKAGES, Order
from harness.store import file_digest
from ptycho_torch.data.simulate import simulate_scan
from ptycho_torch.errors import DataError
from ptycho_torch.readers import save_scan, scan_digest
from ptycho_torch.readers.frames import hold_in, pieces
from ptycho_torch.readers.scan import Scan
from ptycho_torch.scratch import scratch_in


def simulated(order: Order) -> dict[str, Any]:
    """Simulate a scan into a file, and tell what came out; memory does not grow with the frames.

    Raises
    ------
    DataError
        The scan cannot be, or is none that could be read back.
    """
    path = Path(order.output)
    probe = None if order.probe is None else Path(order.probe)
    scan = simulate_scan(order.simulate, hold=hold_in(scratch_in(path.parent)), probe_file=probe)
    scan.check()
    save_scan(path, scan)
    return {
        "sha256": file_digest(path),
        "size": path.stat().st_size,
        "scan_digest": scan_digest(scan),
        "shape": list(scan.diffraction.shape),
        "num_modes": len(scan.probe),
        "units": scan.units,
        "photons_per_frame": _photons_per_frame(scan),
        "masked_pixels": 0 if scan.mask is None else int((~scan.mask).sum()),
        "source_digest": digest_of_files(source_files(source_root())),
        "packages": {"python": sys.version.split()[0], **{name: version(name) for name in PACKAGES}},
    }


def _photons_per_frame(scan: Scan) -> float:
    photons = sum(float((piece.astype("f8") ** 2).round().sum()) for piece in pieces(scan.diffraction))
    return photons / scan.n_frames


def main() -> int:
    """Carry out the order that stands on the standard input and return the exit status."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    stop_with_the_host(Path.cwd())
    try:
        answer = simulated(Order.from_json(sys.stdin.read()))
    except DataError as error:
        answer = {"refused": str(error)}
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
