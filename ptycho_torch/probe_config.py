"""The kinds of probes that a simulated scan may have, each with its own options. Needs no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from ptycho_torch.config import frozen_config
from ptycho_torch.config_defaults import added
from ptycho_torch.field_types import Demands
from ptycho_torch.object_config import Length

__all__ = ["AnnularProbe", "DiskProbe", "FileProbe", "GaussianProbe", "ProbeConfig"]

Waves = Annotated[float, Demands(ge=-1000, le=1000)]
Extent = Annotated[float, Demands(ge=0.5, le=256)]
"""Of what lies on a probe's grid, of which the largest has 256 pixels a side."""


@frozen_config
class ProbeConfig:
    """The illumination: what all kinds share.

    Parameters
    ----------
    kind
        ``annular``: the defocused focus of a lens with a round central stop. ``disk``: an evenly lit disk.
        ``gaussian``: a Gaussian beam. ``file``: the probe of a file.
    N
        Side of the detector frame and of the probe's grid, pixels.
    n_modes
        Number of mutually incoherent modes; each has one more node than the one before it.
    mode_power_ratio
        Power of a mode over that of the mode before it.
    """

    kind: Literal["annular", "disk", "gaussian", "file"] = "annular"
    N: Literal[64, 128, 256] = 64
    n_modes: Annotated[int, Demands(ge=1, le=8)] = 1
    mode_power_ratio: Annotated[float, Demands(gt=0, le=1)] = 0.25


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
    pupil_radius_px: Extent = 10.0
    stop_fraction: Annotated[float, Demands(ge=0, lt=1)] = 0.4
    defocus_waves: Waves = 0.8


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
    radius_px: Extent = 11.0
    edge_px: Length = 1.0
    curvature_waves: Waves = 0.0


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
    fwhm_px: Extent = 14.0
    curvature_waves: Waves = 0.0


@frozen_config
class FileProbe(ProbeConfig):
    """The probe of a file, such as one that was retrieved from a measurement.

    Its power is made one; a file that holds several modes gives them all, and no more are added.

    Parameters
    ----------
    file
        NPZ file with ``probeGuess`` (N, N) or (M, N, N), relative to the spec or to a data folder.
    sha256
        Digest that the file must have.
    blur_px
        Standard deviation of the Gaussian that blurs the modulus and the unwrapped phase, pixels; 0: none.
    """

    kind: Literal["file"] = "file"
    file: Annotated[str, Demands(min_length=1, max_length=1024)]
    sha256: Annotated[str, Demands(pattern=r"^[0-9a-f]{64}$")]
    blur_px: Length = added(0.0)
