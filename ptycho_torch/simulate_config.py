"""What a simulated scan is made of. Read by the harness too, so nothing here needs torch.

Objects, probes and scans come in kinds. What all kinds of one ingredient share stands in its base class; the
options of a kind are the fields of a class of its own, which the tables at the end find by name.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias

from ptycho_torch.config import NonNegativeInt, PositiveInt, frozen_config
from ptycho_torch.config_defaults import added
from ptycho_torch.field_types import Demands
from ptycho_torch.object_config import (
    DeadLeaves,
    GaussianField,
    Length,
    Lines,
    ObjectConfig,
    Picture,
    SiemensStar,
)
from ptycho_torch.probe_config import AnnularProbe, DiskProbe, FileProbe, GaussianProbe, ProbeConfig
from ptycho_torch.validation import Rule

__all__ = [
    "KINDS",
    "AnnularProbe",
    "DeadLeaves",
    "DetectorConfig",
    "DiskProbe",
    "FermatScan",
    "FileProbe",
    "GaussianField",
    "GaussianProbe",
    "Lines",
    "ObjectConfig",
    "Picture",
    "ProbeConfig",
    "RasterScan",
    "ScanConfig",
    "SiemensStar",
    "SimulateConfig",
]


_MARGIN_PX = 2
"""What the interpolation of a patch needs around it, each side."""
LARGEST_POSITION_ERROR = 5.0
"""Standard deviations by which a recorded position is wrong at most, each axis; one of 2e6 draws is cut."""


def _block(cls: Any) -> Any:
    return dataclasses.field(default_factory=cls)


@frozen_config
class ScanConfig:
    """Where the probe is put: what all kinds share.

    Parameters
    ----------
    kind
        ``raster``: rows and columns, displaced at random. ``fermat``: a spiral of even density.
    step_px
        Distance of neighbouring positions, pixels; of a spiral, the root of the area per position.
    position_error_px
        Standard deviation, each axis, by which recorded positions are wrong, pixels; at most five of them.
    """

    kind: Literal["raster", "fermat"] = "raster"
    step_px: Annotated[float, Demands(ge=0.01, le=4096)] = 4.0
    position_error_px: Length = 0.0


def _refuse_merging_squares(square_px: float, step_px: float) -> str | None:
    if 0 < square_px < 1:
        return f"is {square_px:g}, so frames of a square stand at one place: give 0 or 1 and more"
    if square_px == 0 or 2 * square_px + 1 <= step_px:
        return None
    return (
        f"is {square_px:g}, but squares a step_px of {step_px:g} apart must leave a gap that is a pixel "
        f"wider than they are: lower it to {max(step_px - 1, 0) / 2:g} or less, or raise step_px"
    )


@frozen_config(rules=(Rule(("square_px", "step_px"), _refuse_merging_squares),))
class RasterScan(ScanConfig):
    """Rows and columns.

    Parameters
    ----------
    rows, columns
        Number of places along each axis.
    jitter_px
        Largest uniform displacement of a position from the raster, each axis, pixels.
    square_px
        0: one position at a place. From 1 on four, the corners of a square of this side: groups of gridsize 2
        that are farther apart, by a pixel at least, than their frames are.
    """

    kind: Literal["raster"] = "raster"
    rows: Annotated[int, Demands(ge=1, le=512)] = 24
    columns: Annotated[int, Demands(ge=1, le=512)] = 24
    jitter_px: Length = 1.0
    square_px: Length = added(0.0)

    @property
    def n_frames(self) -> int:
        """Number of positions."""
        return self.rows * self.columns * (4 if self.square_px else 1)

    @property
    def n_squares(self) -> int:
        """Number of squares of 2 x 2 neighbours; none where positions are displaced."""
        is_displaced = self.jitter_px > 0 or self.position_error_px > 0
        if is_displaced:
            return 0
        return self.rows * self.columns if self.square_px else (self.rows - 1) * (self.columns - 1)

    def is_one_raster(self, distance_px: float) -> bool:
        """Say whether rasters like this side by side are one, with more than a step between any two.

        Parameters
        ----------
        distance_px
            From each raster to the next one, along the columns, pixels.
        """
        steps = distance_px / self.step_px
        return math.isclose(steps, round(steps)) and round(steps) > self.columns

    @property
    def reach_px(self) -> float:
        """Largest extent of the true positions, the wider of both axes."""
        return (max(self.rows, self.columns) - 1) * self.step_px + self.square_px + 2 * self.jitter_px


@frozen_config
class FermatScan(ScanConfig):
    """A Fermat spiral: position k at the radius ``step sqrt(k / pi)``, turned by k golden angles.

    Parameters
    ----------
    n_positions
        Number of positions.

    References
    ----------
    Huang, Yan, Harder, Hwu, Robinson, Chu, Opt. Express 22, 12634 (2014).
    """

    kind: Literal["fermat"] = "fermat"
    n_positions: Annotated[int, Demands(ge=1, le=512**2)] = 576

    @property
    def n_frames(self) -> int:
        """Number of positions."""
        return self.n_positions

    @property
    def n_squares(self) -> int:
        """Number of squares of 2 x 2 neighbours: a spiral has none."""
        return 0

    @property
    def reach_px(self) -> float:
        """Largest extent of the true positions, the wider of both axes."""
        return 2 * self.step_px * math.sqrt((self.n_positions - 1) / math.pi)


@frozen_config
class DetectorConfig:
    """What the detector does to the frames.

    Parameters
    ----------
    dead_pixel_fraction
        Fraction of the pixels that count nothing, in all frames; they are masked.
    saturation_counts
        Counts above which a pixel shows this number; null: it never saturates.
    """

    dead_pixel_fraction: Annotated[float, Demands(ge=0, lt=1)] = 0.0
    saturation_counts: PositiveInt | None = None


Object: TypeAlias = DeadLeaves | Lines | GaussianField | SiemensStar | Picture
Probe: TypeAlias = AnnularProbe | DiskProbe | GaussianProbe | FileProbe
ScanKind: TypeAlias = RasterScan | FermatScan


@frozen_config
class SimulateConfig:
    """A simulated scan: object, probe, positions, photons and the seed of all that is drawn.

    Parameters
    ----------
    object, probe, scan
        The three ingredients, each of one kind.
    detector
        What the detector does to the frames.
    nphotons
        Mean number of photons per frame.
    seed
        Seed of the object, the positions and the photon noise; the run's own seed does not touch them.
    """

    object: Object = _block(DeadLeaves)
    probe: Probe = _block(AnnularProbe)
    scan: ScanKind = _block(RasterScan)
    detector: DetectorConfig = _block(DetectorConfig)
    nphotons: Annotated[float, Demands(gt=0, le=1e15)] = 1e6
    seed: NonNegativeInt = 0

    @property
    def n_frames(self) -> int:
        """Number of frames of the scan, over all objects."""
        return self.object.n_objects * self.scan.n_frames

    @property
    def n_squares(self) -> int:
        """Number of squares of 2 x 2 neighbours, each on one object; none where not all lie on one raster."""
        count, scan = self.object.n_objects, self.scan
        is_raster = isinstance(scan, RasterScan) and (count == 1 or scan.is_one_raster(self.object.size_px))
        return count * scan.n_squares if is_raster else 0

    @property
    def needed_object_px(self) -> float:
        """Side of the smallest object that holds its patches, pixels.

        They lie in it with the margins of interpolation, and where their recorded positions put them.
        """
        margin_px = max(_MARGIN_PX, LARGEST_POSITION_ERROR * self.scan.position_error_px)
        return self.scan.reach_px + self.probe.N + 2 * margin_px


KINDS: Mapping[str, Mapping[str, type[Any]]] = MappingProxyType(
    {
        "object": {
            "dead_leaves": DeadLeaves,
            "lines": Lines,
            "gaussian_field": GaussianField,
            "siemens_star": SiemensStar,
            "picture": Picture,
        },
        "probe": {
            "annular": AnnularProbe,
            "disk": DiskProbe,
            "gaussian": GaussianProbe,
            "file": FileProbe,
        },
        "scan": {"raster": RasterScan, "fermat": FermatScan},
    }
)
"""Ingredient and kind to the class of the kind's options; an ingredient's first kind is its default."""
