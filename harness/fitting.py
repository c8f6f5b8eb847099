"""Whether the scans suffice for what a spec asks of them: frames for groups, an object for patches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.errors import Problem
from ptycho_torch.demand import check_demand, frames_held_together, held_out_frames
from ptycho_torch.errors import DataError
from ptycho_torch.headers import ScanHeader
from ptycho_torch.layers import DEFAULT_LAYERS
from ptycho_torch.simulate_config import RasterScan

if TYPE_CHECKING:
    from harness.sources import FoundScan
    from harness.spec import RunSpec
    from ptycho_torch.payloads import TrainingPayload

__all__ = ["assumed", "misfits", "open_positions"]

_WIDEST_GROUP = 4
"""Frames of a group lie at most this many frame sides apart; they should overlap, after all."""


def open_positions(header: ScanHeader, positions: str) -> str | None:
    """Say that a position convention is assumed, where the file leaves it open.

    Parameters
    ----------
    header
        The scan's header.
    positions
        What is assumed.
    """
    if header.format != "npz" or header.positions is not None:
        return None
    corners = {"ptychopinn": "position - N/2", "center": "position - (N - 1)/2"}
    other = next(name for name in corners if name != positions)
    return (
        f"{header.name} does not state what its positions point at, so {positions} is assumed: a patch's "
        f"corner is {corners[positions]}; with data.positions: {other} it is {corners[other]}"
    )


def assumed(payload: TrainingPayload, header: ScanHeader) -> list[str]:
    """Say what was assumed of the scan to train on, because neither it nor the spec says so, and what idles.

    Parameters
    ----------
    payload
        The configurations as resolved.
    header
        The scan's header.
    """
    said = []
    if payload.origins["data.positions"].layer in DEFAULT_LAYERS:
        said.append(open_positions(header, payload.data.positions))
    if payload.model.allow_tf32 and payload.execution_config.accelerator == "cpu":
        # Beside a processor that was asked for by name it is refused.
        said.append("model.allow_tf32 has no effect here: auto became a processor, which has no TF32")
    training = payload.training
    is_told = payload.origins["training.batch_size"].layer not in DEFAULT_LAYERS
    if is_told and training.batch_size > training.n_groups:
        said.append(
            f"training.batch_size is {training.batch_size}, but training.n_groups {training.n_groups}: "
            f"every step takes all {training.n_groups} groups"
        )
    return [sentence for sentence in said if sentence is not None]


def misfits(spec: RunSpec, payload: TrainingPayload, found: Mapping[str, FoundScan]) -> list[Problem]:
    """Say what a resolved configuration asks of the scans that they cannot give.

    Parameters
    ----------
    spec
        The spec, for the places.
    payload
        The configurations as resolved.
    found
        Role to scan; there is one to train on.
    """
    mixed = {role: _mixed(spec, payload, f"data.{role}", scan) for role, scan in found.items()}
    problems = mixed["train"] or _demand(spec, payload, found["train"].header, is_split="test" not in found)
    if "test" in found:
        problems += mixed["test"] or _demand_of_test(spec, payload, found["test"].header)
    if payload.model.gridsize > 1:
        for role in ("train", "test"):
            problems += _spread(spec, payload, f"data.{role}", found[role].header) if role in found else []
    for role, scan in found.items():
        if scan.path is not None:
            problems += _outside(spec, f"data.{role}", scan.header, payload.data.positions)
            problems += _units(spec, f"data.{role}", scan.header, payload.data.units)
    return problems


def _mixed(spec: RunSpec, payload: TrainingPayload, key: str, scan: FoundScan) -> list[Problem]:
    """Refuse groups that could hold frames of two objects of one simulation, which lie side by side."""
    simulate = None if scan.simulated is None else scan.simulated.simulate
    if simulate is None or simulate.object.n_objects == 1 or payload.model.gridsize == 1:
        return []
    base, count = f"{key}.simulate.object", simulate.object.n_objects
    if payload.model.grouping == "nearest":
        sentence = (
            f"is {count}, but the nearest ones of a frame (model.grouping is 'nearest') may lie on another "
            "object: set model.grouping to 'square', or model.gridsize to 1"
        )
        return [spec.problem(sentence, f"{base}.count")]
    if simulate.n_squares:
        return []
    raster = simulate.scan
    if not isinstance(raster, RasterScan) or not raster.n_squares:
        sentence = (
            f"is {count}, but only squares (model.grouping) keep their frames apart, and this scan has none: "
            "give a raster without jitter (scan.jitter_px: 0) or position errors, or set model.gridsize to 1"
        )
        return [spec.problem(sentence, f"{base}.count")]
    sentence = (
        f"is {simulate.object.size_px}, so the frames of {count} objects lie on no raster of one spacing "
        "with gaps between them (model.grouping is 'square'): give a multiple of "
        f"{raster.step_px:g} (scan.step_px) that is above {raster.step_px * raster.columns:g} "
        f"({raster.columns} scan.columns)"
    )
    return [spec.problem(sentence, f"{base}.size_px")]


def _units(spec: RunSpec, key: str, header: ScanHeader, units: str) -> list[Problem]:
    asked = units if key == "data.train" else spec.get(f"{key}.units") or header.units
    if header.are_units_stated or header.units != "count_intensity" or asked == header.units:
        return []
    cure = f"{header.name} holds whole numbers, which look like counts: write count_intensity"
    written = f"{key}.units" if spec.find(f"{key}.units") else "data.units"
    return [spec.problem(f"is {asked!r}, but {cure}", written)]


def _demand(spec: RunSpec, payload: TrainingPayload, header: ScanHeader, *, is_split: bool) -> list[Problem]:
    data, n_groups = payload.data, payload.training.n_groups
    if payload.model.grouping == "square":
        return _squares(spec, payload, header, is_split=is_split)
    n_frames = data.n_subsample or header.n_frames
    cluster = frames_held_together(payload.model.gridsize, data.neighbor_count)
    if cluster > n_frames:
        sentence = f"is {data.neighbor_count}, but there are {n_frames} frames in all: lower it"
        return [spec.problem(sentence, "data.neighbor_count")]
    try:
        held_out = held_out_frames(n_frames, data.validation_fraction if is_split else 0.0, cluster)
    except DataError as error:
        return [spec.problem(f"asks too much: {error}", "data.validation_fraction")]
    left = n_frames - held_out
    if n_groups > left and not data.oversample:
        kept = f" of which {held_out} are held out for validation" if held_out else ""
        sentence = (
            f"is {n_groups}, but {header.name} has {n_frames} frames{kept}: "
            f"lower it to {max(left, 1)}, or set data.oversample to true"
        )
        return [spec.problem(sentence, "training.n_groups")]
    return _groups(spec, payload, left, n_groups, "training.n_groups")


def _squares(spec: RunSpec, payload: TrainingPayload, header: ScanHeader, *, is_split: bool) -> list[Problem]:
    if is_split and payload.data.validation_fraction > 0:
        sentence = (
            f"is {payload.data.validation_fraction}, but no squares (model.grouping) are left where single "
            "frames are held out: set it to 0, or give data.test"
        )
        return [spec.problem(sentence, "data.validation_fraction")]
    if payload.data.n_subsample is not None:
        sentence = "leaves no squares (model.grouping) where frames are left out: drop it"
        return [spec.problem(sentence, "data.n_subsample")]
    n_groups, known = payload.training.n_groups, header.n_squares
    if known == 0:
        sentence = (
            f"is 'square', but the positions of {header.name} are no raster of one spacing in each "
            "direction: set it to 'nearest'"
        )
        return [spec.problem(sentence, "model.grouping")]
    if n_groups > known:
        sentence = f"is {n_groups}, but {header.name} has only {known} squares of 2 x 2 frames: lower it"
        return [spec.problem(sentence, "training.n_groups")]
    return []


def _demand_of_test(spec: RunSpec, payload: TrainingPayload, header: ScanHeader) -> list[Problem]:
    if payload.model.grouping == "square":
        return [] if header.n_squares else [spec.problem(f"{header.name} is no raster", "data.test")]
    return _groups(spec, payload, header.n_frames, header.n_frames, "data.test")


def _groups(spec: RunSpec, payload: TrainingPayload, n_frames: int, n_groups: int, key: str) -> list[Problem]:
    data, size = payload.data, payload.model.gridsize**2
    try:
        check_demand(n_frames, size, n_groups, data.neighbor_count, is_oversampled=data.oversample)
    except DataError as error:
        return [spec.problem(str(error).removeprefix(f"{key} "), key)]
    return []


def _spread(spec: RunSpec, payload: TrainingPayload, key: str, header: ScanHeader) -> list[Problem]:
    near = header.neighbours_px[: payload.data.neighbor_count]
    if not near or near[-1] <= _WIDEST_GROUP * header.N:
        return []
    sentence = (
        f"{header.name}: a frame's {len(near)} nearest ones lie up to {near[-1]:.0f} px away, "
        f"but a group's canvas holds {_WIDEST_GROUP * header.N}: check the positions, "
        "or set model.gridsize to 1"
    )
    return [spec.problem(sentence, f"{key}.file" if spec.find(f"{key}.file") else f"{key}.source")]


def _outside(spec: RunSpec, key: str, header: ScanHeader, positions: str) -> list[Problem]:
    lowest, highest = header.position_min_px, header.position_max_px
    if header.object_shape is None or lowest is None or highest is None:
        return []
    if key != "data.train":
        positions = spec.get(f"{key}.positions") or header.positions or positions
    half = header.N / 2 if positions == "ptychopinn" else (header.N - 1) / 2
    limits = [side - header.N for side in header.object_shape]
    is_inside = all(
        low - half >= 0 and high - half <= limit
        for low, high, limit in zip(lowest, highest, limits, strict=True)
    )
    if is_inside:
        return []
    rows, columns = header.object_shape
    corners = ", ".join(
        f"{axis} {low - half:g} to {high - half:g} (legal: 0 to {limit})"
        for axis, low, high, limit in zip(("rows", "columns"), lowest, highest, limits, strict=True)
    )
    sentence = (
        f"{header.name}: patches leave the {rows}x{columns} object, their corners stand at {corners}: "
        f"check the position convention ({positions}), and that x is the column"
    )
    return [spec.problem(sentence, f"{key}.file" if spec.find(f"{key}.file") else f"{key}.source")]
