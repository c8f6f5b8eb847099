"""A commented spec for a data file, ready to run."""

from __future__ import annotations

import os
import re
from pathlib import Path

from harness.errors import UserError
from harness.store import file_digest, write_durably
from ptycho_torch.config import DataConfig
from ptycho_torch.headers import ScanHeader, read_header

__all__ = ["spec_text", "write_spec"]

_SAMPLES = 20_000
"""Patterns to learn from, all epochs together; about half an hour of one core at N = 64."""

_TEMPLATE = """\
# {scan}: {n_frames} frames of {N} x {N} pixels, {modes}, {units_in_words}.
# Run it with `harness run {spec}`; `harness explain {spec}` shows every other value and its origin.
name: {name}
seed: 42
data:
  train:
    file: {file}
    sha256: {sha256}
    # Where a position points: `ptychopinn` (patch corner = position - N/2) or `center`
    # (patch corner = position - (N - 1)/2).{positions_note}
    positions: {positions}
    # What `diffraction` holds: count_amplitude, count_intensity or normalized_amplitude.{units_note}
    units: {units}
  validation_fraction: {validation_fraction}
model:
  N: {N}
  gridsize: 1               # 2: groups of four overlapping frames
  n_filters_scale: 1        # 2: twice the channels, four times the time
training:
  n_groups: {n_groups}            # at gridsize 1 the frames, without those held out
  epochs: {epochs}
  batch_size: 8
  loss: poisson
  lr_warmup_epochs: 0.5
  lr_min_ratio: 0.02
execution:
  accelerator: cpu          # auto, cpu or cuda
  learning_rate: 1e-3
  scheduler: WarmupCosine
exactness:
  profile: auto
  threads: 1                # part of the result: another number gives other bits
"""

_UNITS_IN_WORDS = {
    "count_amplitude": "roots of photon counts",
    "count_intensity": "photon counts",
    "normalized_amplitude": "amplitudes in arbitrary units",
}


def spec_text(header: ScanHeader, *, file: str, sha256: str, spec: str) -> str:
    """Compose a spec for a scan.

    Parameters
    ----------
    header
        What the scan's header says.
    file
        The scan's path as the spec is to name it.
    sha256
        The scan's digest.
    spec
        The spec's path, for its comments.
    """
    held_out = DataConfig().validation_fraction
    n_groups = max(1, header.n_frames - max(1, round(header.n_frames * held_out)))
    scan = Path(file).name
    units = header.units or DataConfig().units
    is_told = "as the file says" if header.are_units_stated else "told from the first frames' values"
    return _TEMPLATE.format(
        scan=scan,
        spec=spec,
        name=_run_name(scan),
        file=_scalar(file),
        sha256=sha256,
        N=header.N,
        n_frames=header.n_frames,
        modes="one probe mode" if header.n_modes == 1 else f"{header.n_modes} probe modes",
        units=units,
        units_in_words=_UNITS_IN_WORDS[units],
        units_note=f" Here: {is_told}." if header.units else " The file does not tell: check it.",
        positions=header.positions or DataConfig().positions,
        positions_note=" Here: as the file says."
        if header.positions
        else " The file does not tell: check it.",
        validation_fraction=held_out,
        n_groups=n_groups,
        epochs=min(100, max(10, round(_SAMPLES / n_groups))),
    )


def _run_name(scan: str) -> str:
    stem = scan.split(".", maxsplit=1)[0]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:64] or "scan"


def _scalar(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def write_spec(scan: Path, output: Path | None) -> Path:
    """Write a spec for a scan and return where it stands.

    Parameters
    ----------
    scan
        The data file.
    output
        The spec; by default ``<scan>.yaml`` beside the scan.

    Raises
    ------
    UserError
        The spec exists already, or its folder cannot be written.
    """
    header = read_header(scan)
    spec = scan.with_name(f"{scan.name.split('.')[0]}.yaml") if output is None else output
    if spec.exists():
        raise UserError(f"{spec} exists already: name another with -o")
    folder = spec.parent.resolve()
    if not folder.is_dir():
        raise UserError(f"there is no folder {spec.parent} to write {spec.name} into")
    file = os.path.relpath(scan.resolve(), folder)
    text = spec_text(header, file=file, sha256=file_digest(scan), spec=str(spec))
    try:
        write_durably(spec, text.encode("utf-8"))
    except OSError as error:
        raise UserError(f"{spec} cannot be written ({error.strerror}): name another with -o") from error
    return spec
