"""The worker's part that reads: inputs whose digests are what was resolved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.resolved import INIT_FROM
from harness.run_sources import CheckpointSource, FileSource, ImageSource, SimulatedSource, probe_role
from harness.store import INPUTS, file_digest, read_json
from ptycho_torch.data.simulate import simulate_scan
from ptycho_torch.errors import CheckpointError, DataError
from ptycho_torch.exact.checkpoint_io import DurableCheckpointIO
from ptycho_torch.exact.digest import tensor_digest
from ptycho_torch.readers import Scan, read_scan, scan_digest
from ptycho_torch.reference import with_reference
from ptycho_torch.simulate_config import FileProbe

if TYPE_CHECKING:
    from harness.resolved import ResolvedRun
    from harness.run_sources import Source

__all__ = [
    "ChangedInputError",
    "checked_input",
    "collapse_of",
    "read_data",
    "read_network",
    "scan_facts",
    "starting_weights",
]


class ChangedInputError(DataError):
    """An input is another file than was resolved; once it is put back, the run can go on."""


def checked_input(run_dir: Path, resolved: ResolvedRun, role: str) -> Path:
    """Return where an input of a run lies on this machine, once its digest is what was resolved.

    Raises
    ------
    ChangedInputError
        It is another file by now.
    """
    source = resolved.sources[role]
    path: Path = run_dir / read_json(run_dir / INPUTS)[role]
    digest = file_digest(path)
    if digest != source.sha256:
        raise ChangedInputError(
            f"{source.name}: the {role} data changed after the run was resolved, its sha256 is now {digest}"
        )
    return path


def scan_facts(scan: Scan) -> dict[str, Any]:
    """Say what was found in a scan, for the record."""
    return {
        "shape": list(scan.diffraction.shape),
        "num_modes": int(scan.probe.shape[0]),
        "units": scan.units,
        "has_object": scan.object is not None,
    }


def read_data(resolved: ResolvedRun, run_dir: Path) -> tuple[dict[str, Scan], dict[str, dict[str, Any]]]:
    """Read or simulate every scan of a run; returns role to scan, and role to what is recorded of it."""
    scans: dict[str, Scan] = {}
    facts: dict[str, dict[str, Any]] = {}
    for role, source in resolved.sources.items():
        if isinstance(source, FileSource):
            path = checked_input(run_dir, resolved, role)
            scan = read_scan(
                path, format=source.header.format, positions=source.positions, units=source.units
            )
            digest = source.sha256
        elif isinstance(source, SimulatedSource):
            has_file = isinstance(source.simulate.probe, FileProbe)
            file = checked_input(run_dir, resolved, probe_role(role)) if has_file else None
            scan = simulate_scan(source.simulate, probe_file=file)
            digest = scan_digest(scan)
        else:  # an image is no scan, nor is a probe or a network
            continue
        scans[role] = scan
        facts[role] = {"sha256": digest, **scan_facts(scan)}
    if "reference" in scans:
        with_reference(scans["train"], scans["reference"])  # what does not belong together is not trained on
    return scans, facts


def collapse_of(source: Source) -> dict[str, Any]:
    """Say, as a run does, whether the network collapsed that an input comes from; empty where it did not."""
    if not isinstance(source, CheckpointSource | ImageSource) or not source.has_collapsed:
        return {}
    return {"is_collapsed": True, "reasons": [f"the network of {source.run} did"]}


def read_network(run_dir: Path, resolved: ResolvedRun, role: str) -> dict[str, Any]:
    """Read the checkpoint that is an input of a run: tensors and plain values, and no code.

    Raises
    ------
    CheckpointError
        Its weights are not those that were resolved.
    DataError
        It is another file by now.
    """
    source = resolved.sources[role]
    if not isinstance(source, CheckpointSource):
        raise HarnessError(f"{role} must be a trained network, not a {source.kind}")
    checkpoint = DurableCheckpointIO().load_checkpoint(checked_input(run_dir, resolved, role))
    if tensor_digest(checkpoint["state_dict"]) != source.tensor_digest:
        whose = f" of {source.run}" if source.run else ""
        raise CheckpointError(f"{source.name}: the weights{whose} are not those that were recorded")
    return checkpoint


def starting_weights(run_dir: Path, resolved: ResolvedRun) -> dict[str, Any] | None:
    """Return the weights that a training starts from; None where it starts from chance."""
    if INIT_FROM not in resolved.sources:
        return None
    weights: dict[str, Any] = read_network(run_dir, resolved, INIT_FROM)["state_dict"]
    return weights
