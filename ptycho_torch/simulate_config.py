"""What a simulated scan is made of. Read by the harness too, so nothing here needs torch."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

from pydantic import Field

from ptycho_torch.config import NonNegativeInt, PositiveFloat, frozen_config

__all__ = ["ObjectConfig", "ProbeConfig", "ScanConfig", "SimulateConfig"]

NonNegativeFloat = Annotated[float, Field(ge=0)]
UnitFraction = Annotated[float, Field(ge=0, le=1)]


def _block(cls: Any) -> Any:
    return dataclasses.field(default_factory=cls)


@frozen_config
class ObjectConfig:
    """The object that is scanned.

    Parameters
    ----------
    kind
        ``dead_leaves``: overlapping discs of random radius, amplitude and phase.
    size_px
        Side of the square object grid, pixels.
    min_radius_px
        Radius of the smallest disc, pixels.
    blur_px
        Standard deviation of the Gaussian blur that softens the edges, pixels.
    max_phase_rad
        Largest phase, radians; phases fill 0 to this value.
    min_amplitude, max_amplitude
        Range of the transmission amplitude.
    """

    kind: Literal["dead_leaves"] = "dead_leaves"
    size_px: Annotated[int, Field(ge=32, le=4096)] = 166
    min_radius_px: PositiveFloat = 5.0
    blur_px: NonNegativeFloat = 1.0
    max_phase_rad: NonNegativeFloat = 1.2
    min_amplitude: UnitFraction = 0.6
    max_amplitude: UnitFraction = 1.0


@frozen_config
class ProbeConfig:
    """The illumination.

    Parameters
    ----------
    kind
        ``annular``: the defocused focus of a lens with a round central stop.
    N
        Side of the detector frame and of the probe's grid, pixels.
    pupil_radius_px
        Outer radius of the pupil, detector pixels.
    stop_fraction
        Radius of the central stop over the pupil's.
    defocus_waves
        Quadratic phase at the pupil's edge, wavelengths.
    """

    kind: Literal["annular"] = "annular"
    N: Literal[64, 128, 256] = 64
    pupil_radius_px: PositiveFloat = 10.0
    stop_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.4
    defocus_waves: float = 0.8


@frozen_config
class ScanConfig:
    """Where the probe is put.

    Parameters
    ----------
    rows, columns
        Number of scan positions along each axis.
    step_px
        Distance of neighbouring positions, pixels.
    jitter_px
        Largest uniform displacement of a position from the raster, each axis, pixels.
    """

    rows: Annotated[int, Field(ge=1, le=512)] = 24
    columns: Annotated[int, Field(ge=1, le=512)] = 24
    step_px: PositiveFloat = 4.0
    jitter_px: NonNegativeFloat = 1.0

    def needed_object_px(self, N: int) -> float:
        """Return the side of the smallest object that holds every patch of side `N`, two pixels of margin."""
        return (max(self.rows, self.columns) - 1) * self.step_px + N + 2 * self.jitter_px + 4


@frozen_config
class SimulateConfig:
    """A simulated scan: object, probe, positions, photons and the seed of all that is drawn.

    Parameters
    ----------
    object, probe, scan
        The three ingredients.
    nphotons
        Mean number of photons per frame.
    seed
        Seed of the object, the positions and the photon noise; the run's own seed does not touch them.
    """

    object: ObjectConfig = _block(ObjectConfig)
    probe: ProbeConfig = _block(ProbeConfig)
    scan: ScanConfig = _block(ScanConfig)
    nphotons: PositiveFloat = 1e6
    seed: NonNegativeInt = 0

    @property
    def n_frames(self) -> int:
        """Number of frames of the scan."""
        return self.scan.rows * self.scan.columns
