"""The commented spec that ``harness new`` writes for a data file; it runs as it is."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ptycho_torch.config import DataConfig
from ptycho_torch.demand import frames_held_together, held_out_frames
from ptycho_torch.errors import DataError
from ptycho_torch.headers import ScanHeader

__all__ = ["ASSUMED_POSITIONS", "spec_text", "suggested_name"]

ASSUMED_POSITIONS = "ptychopinn"
"""The position convention that is written where the file states none."""

_SAMPLES = {64: 16_000, 128: 8_000}
_VALIDATION_FRACTION = 0.05
_FEWEST_EPOCHS, _MOST_EPOCHS = 10, 200

_TEMPLATE = """\
# A run spec. `harness plan {spec}` shows what would run, `harness run {spec}` runs it,
# `harness explain {spec} KEY` tells where a value comes from.
# Everything that is not written here has a default; the full list: docs/configuration.md

name: {name}
seed: 42                            # everything random is drawn from it

data:
  train:
    file: {file}
    sha256: {sha256}
{positions}{units}  validation_fraction: {fraction}         # of the {n_frames} frames; held out{nphotons}

model:
  N: {N}                             # side of the frames, pixels
  gridsize: 1                       # 2: groups of four overlapping frames explain one another
  n_filters_scale: 1                # 2: twice the channels, about three times the time
  attention: false                  # true: gates behind the encoder's stages
  probe_big: false                  # true: the patch's outer frame is reconstructed too

training:
  n_groups: {n_groups}{pad}# training samples an epoch; at most the frames that are trained on
  epochs: {epochs}
  batch_size: 8
  loss: poisson                     # or mae
  lr_warmup_fraction: 0.03          # of all epochs, in which the learning rate rises; then it falls
  lr_min_ratio: 0.02                # to this part of it

execution:                          # how the run executes; the rate and its schedule, too
  accelerator: auto                 # a GPU where there is one, else the CPU
  learning_rate: 1e-3
  scheduler: WarmupCosine

exactness:
  profile: auto                     # portable where it can run: the same bits on every x86-64 CPU with AVX2
  threads: 1                        # part of the result: another number may give other bits

products:
  reconstruction: true              # stitch the object
  pictures: true                    # and draw its phase and amplitude
"""


def suggested_name(file: str) -> str:
    """Make a run's name of a file's name."""
    stem = re.sub(r"(\.npz)?(\.bz2)?$", "", file.rsplit("/", 1)[-1])
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-")[:64]
    return name or "run"


_NOTHING: Mapping[str, Any] = MappingProxyType({})


def spec_text(
    header: ScanHeader, *, file: str, sha256: str, spec: str, values: Mapping[str, Any] = _NOTHING
) -> str:
    """Write a commented spec for a scan.

    Parameters
    ----------
    header
        The scan's header.
    file
        The data file's path, relative to where the spec will stand.
    sha256
        Its digest.
    spec
        The spec's own path, for the comment at its head.
    values
        Dotted key to value, written in the place of what would stand there, or at the end of their blocks; a
        comment behind a value that is replaced goes with it. There are as many groups as they leave.
    """
    n_used = values.get("data.n_subsample") or header.n_frames
    n_groups = _groups_left(n_used, header, values)
    epochs = round(_SAMPLES.get(header.N, _SAMPLES[128]) / n_groups)
    epochs = min(max(epochs, _FEWEST_EPOCHS), _MOST_EPOCHS)
    text = _TEMPLATE.format(
        spec=shlex.quote(spec),
        name=_scalar(suggested_name(file)),
        file=_scalar(file),
        sha256=_scalar(sha256),
        positions=_positions(header),
        units=_units(header),
        fraction=_VALIDATION_FRACTION,
        n_frames=n_used,
        nphotons=_photons(header),
        N=header.N,
        n_groups=n_groups,
        pad=" " * max(2, 24 - len(str(n_groups))),
        epochs=epochs,
    )
    lines = text.split("\n")
    for key, value in values.items():
        _write(lines, key.split("."), json.dumps(value, ensure_ascii=False))
    return "\n".join(lines)


def _groups_left(n_frames: int, header: ScanHeader, values: Mapping[str, Any]) -> int:
    """Return how many groups there can be; 1 where too much is asked, which planning tells better."""
    if values.get("model.grouping") == "square":
        return max(1, header.n_squares)
    neighbor_count = values.get("data.neighbor_count", DataConfig.neighbor_count)
    cluster = frames_held_together(values.get("model.gridsize", 1), neighbor_count)
    fraction = values.get("data.validation_fraction", _VALIDATION_FRACTION)
    is_split = not any(key.startswith("data.test.") for key in values)
    try:
        held_out = held_out_frames(n_frames, fraction if is_split else 0, cluster)
    except DataError:
        return 1
    return max(1, n_frames - held_out)


def _write(lines: list[str], path: list[str], value: str) -> None:
    start, end = 0, len(lines)
    for depth, name in enumerate(path):
        head, inner = f"{'  ' * depth}{name}:", "  " * (depth + 1)
        at = next((i for i in range(start, end) if lines[i].startswith(head)), None)
        if at is None:
            while not lines[end - 1].strip():
                end -= 1
            heads = [f"{'  ' * (depth + below)}{part}:" for below, part in enumerate(path[depth:])]
            lines[end:end] = [*heads[:-1], f"{heads[-1]} {value}"]
            return
        if depth == len(path) - 1:
            lines[at] = f"{head} {value}"
        start = at + 1
        end = next((i for i in range(start, end) if lines[i] and not lines[i].startswith(inner)), end)


def _scalar(text: str) -> str:
    is_plain = re.fullmatch(r"[A-Za-z_./][A-Za-z0-9_./-]*", text) and text.lower() not in _WORDS
    return text if is_plain else json.dumps(text)


_WORDS = frozenset({"true", "false", "null", "none", "yes", "no", "on", "off", ".nan", ".inf"})


def _positions(header: ScanHeader) -> str:
    if header.format == "tike":
        return ""
    stated = header.positions or ASSUMED_POSITIONS
    told = "as the file states" if header.positions else "or center: the middle of the patch's pixels"
    return f"    positions: {stated}{' ' * max(2, 21 - len(stated))}# {told}\n"


def _units(header: ScanHeader) -> str:
    if header.format == "tike":
        return ""
    if header.units is None:
        return "    units: normalized_amplitude      # the values do not tell: check this\n"
    told = "as the file states" if header.are_units_stated else "told from the values of the first frames"
    return f"    units: {header.units}{' ' * max(2, 25 - len(header.units))}# {told}\n"


def _photons(header: ScanHeader) -> str:
    if header.units in {"count_amplitude", "count_intensity"}:
        return ""
    return "\n  nphotons: 1e5                     # photons per frame: normalised data do not tell"
