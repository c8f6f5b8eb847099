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

from pydantic import Field

from ptycho_torch.config import NonNegativeInt, PositiveFloat, PositiveInt, frozen_config
from ptycho_torch.object_config import (
    DeadLeaves,
    GaussianField,
    Lines,
    NonNegativeFloat,
    ObjectConfig,
    Picture,
    SiemensStar,
)

__all__ = [
    "KINDS",
    "AnnularProbe",
    "DeadLeaves",
    "DetectorConfig",
    "DiskProbe",
    "FermatScan",
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


def _block(cls: Any) -> Any:
    return dataclasses.field(default_factory=cls)


@frozen_config
class ProbeConfig:
    """The illumination: what all kinds share.

    Parameters
    ----------
    kind
        ``annular``: the defocused focus of a lens with a round central stop. ``disk``: an evenly lit disk.
        ``gaussian``: a Gaussian beam.
    N
        Side of the detector frame and of the probe's grid, pixels.
    n_modes
        Number of mutually incoherent modes; each has one more node than the one before it.
    mode_power_ratio
        Power of a mode over that of the mode before it.
    """

    kind: Literal["annular", "disk", "gaussian"] = "annular"
    N: Literal[64, 128, 256] = 64
    n_modes: Annotated[int, Field(ge=1, le=8)] = 1
    mode_power_ratio: Annotated[float, Field(gt=0, le=1)] = 0.25


@frozen_config
class AnnularProbe(ProbeConfig):
    """A zone plate's focus.

    Parameters
    ----------
    pupil_radius_px
        Outer radius of the pupil, detector pixels.
    stop_fraction
        Radius of the central stop over the pupil's.
    defocus_waves
        Quadratic phase at the pupil's edge, wavelengths.
    """

    kind: Literal["annular"] = "annular"
    pupil_radius_px: PositiveFloat = 10.0
    stop_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.4
    defocus_waves: float = 0.8


@frozen_config
class DiskProbe(ProbeConfig):
    """A pinhole's image.

    Parameters
    ----------
    radius_px
        Radius of the disk, object pixels.
    edge_px
        Standard deviation of the Gaussian blur of its edge, pixels.
    curvature_waves
        Quadratic phase at the disk's edge, wavelengths.
    """

    kind: Literal["disk"] = "disk"
    radius_px: PositiveFloat = 11.0
    edge_px: NonNegativeFloat = 1.0
    curvature_waves: float = 0.0


@frozen_config
class GaussianProbe(ProbeConfig):
    """A Gaussian beam.

    Parameters
    ----------
    fwhm_px
        Full width of the intensity at half its maximum, object pixels.
    curvature_waves
        Quadratic phase at that width's edge, wavelengths.
    """

    kind: Literal["gaussian"] = "gaussian"
    fwhm_px: PositiveFloat = 14.0
    curvature_waves: float = 0.0


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
        Standard deviation, each axis, by which the recorded positions are wrong, pixels.
    """

    kind: Literal["raster", "fermat"] = "raster"
    step_px: PositiveFloat = 4.0
    position_error_px: NonNegativeFloat = 0.0


@frozen_config
class RasterScan(ScanConfig):
    """Rows and columns.

    Parameters
    ----------
    rows, columns
        Number of scan positions along each axis.
    jitter_px
        Largest uniform displacement of a position from the raster, each axis, pixels.
    """

    kind: Literal["raster"] = "raster"
    rows: Annotated[int, Field(ge=1, le=512)] = 24
    columns: Annotated[int, Field(ge=1, le=512)] = 24
    jitter_px: NonNegativeFloat = 1.0

    @property
    def n_frames(self) -> int:
        """Number of positions."""
        return self.rows * self.columns

    @property
    def reach_px(self) -> float:
        """Largest extent of the true positions, the wider of both axes."""
        return (max(self.rows, self.columns) - 1) * self.step_px + 2 * self.jitter_px


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
    n_positions: Annotated[int, Field(ge=1, le=512**2)] = 576

    @property
    def n_frames(self) -> int:
        """Number of positions."""
        return self.n_positions

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

    dead_pixel_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    saturation_counts: PositiveInt | None = None


Object: TypeAlias = DeadLeaves | Lines | GaussianField | SiemensStar | Picture
Probe: TypeAlias = AnnularProbe | DiskProbe | GaussianProbe
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

    object: Annotated[Object, Field(discriminator="kind")] = _block(DeadLeaves)
    probe: Annotated[Probe, Field(discriminator="kind")] = _block(AnnularProbe)
    scan: Annotated[ScanKind, Field(discriminator="kind")] = _block(RasterScan)
    detector: DetectorConfig = _block(DetectorConfig)
    nphotons: PositiveFloat = 1e6
    seed: NonNegativeInt = 0

    @property
    def n_frames(self) -> int:
        """Number of frames of the scan."""
        return self.scan.n_frames

    @property
    def needed_object_px(self) -> float:
        """Side of the smallest object that holds every patch and the margin of its interpolation, pixels."""
        return self.scan.reach_px + self.probe.N + 2 * _MARGIN_PX


KINDS: Mapping[str, Mapping[str, type[Any]]] = MappingProxyType(
    {
        "object": {
            "dead_leaves": DeadLeaves,
            "lines": Lines,
            "gaussian_field": GaussianField,
            "siemens_star": SiemensStar,
            "picture": Picture,
        },
        "probe": {"annular": AnnularProbe, "disk": DiskProbe, "gaussian": GaussianProbe},
        "scan": {"raster": RasterScan, "fermat": FermatScan},
    }
)
"""Ingredient and kind to the class of the kind's options; an ingredient's first kind is its default."""
