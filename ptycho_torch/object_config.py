"""The kinds of objects that a simulated scan may have, each with its own options. Needs no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from ptycho_torch.config import frozen_config
from ptycho_torch.config_defaults import added
from ptycho_torch.field_types import Demands
from ptycho_torch.validation import Rule

__all__ = [
    "DeadLeaves",
    "GaussianField",
    "Length",
    "Lines",
    "ObjectConfig",
    "Picture",
    "SiemensStar",
]

LargestPhase = Annotated[float, Demands(ge=0, le=1000)]
Length = Annotated[float, Demands(ge=0, le=4096)]
"""No longer than the largest object is wide, pixels."""
UnitFraction = Annotated[float, Demands(ge=0, le=1)]
PictureName = Literal[
    "astronaut", "brick", "camera", "cell", "chelsea", "coffee", "coins", "grass", "gravel", "moon"
]  # fmt: skip


def _refuse_empty_range(min_amplitude: float, max_amplitude: float) -> str | None:
    if min_amplitude <= max_amplitude:
        return None
    return f"is {min_amplitude:g}, above max_amplitude {max_amplitude:g}: lower it, or raise max_amplitude"


_CONTRAST_RULES = (Rule(("min_amplitude", "max_amplitude"), _refuse_empty_range),)


@frozen_config
class ObjectConfig:
    """The object that is scanned: what all kinds share.

    Parameters
    ----------
    kind
        ``dead_leaves``: overlapping discs of random radius, amplitude and phase. ``lines``: random lines,
        sharp and blurred, without phase. ``gaussian_field``: smooth random amplitude and phase.
        ``siemens_star``: spokes around a centre. ``picture``: photographs as amplitude and as phase.
    size_px
        Side of the square object grid, pixels.
    """

    kind: Literal["dead_leaves", "lines", "gaussian_field", "siemens_star", "picture"] = "dead_leaves"
    size_px: Annotated[int, Demands(ge=32, le=4096)] = 166

    @property
    def n_objects(self) -> int:
        """Number of objects of this size that lie side by side in one grid, from left to right."""
        return 1

    @property
    def shape_px(self) -> tuple[int, int]:
        """Rows and columns of the grid that holds them all."""
        return self.size_px, self.n_objects * self.size_px


@frozen_config(rules=_CONTRAST_RULES)
class _Contrast(ObjectConfig):
    """An object whose amplitude and phase fill ranges.

    Parameters
    ----------
    max_phase_rad
        Largest phase, radians; phases fill 0 to this value.
    min_amplitude, max_amplitude
        Range of the transmission amplitude.
    """

    max_phase_rad: LargestPhase = 1.2
    min_amplitude: UnitFraction = 0.6
    max_amplitude: UnitFraction = 1.0


@frozen_config(rules=_CONTRAST_RULES)
class DeadLeaves(_Contrast):
    """Overlapping discs.

    Parameters
    ----------
    min_radius_px
        Radius of the smallest disc, pixels.
    blur_px
        Standard deviation of the Gaussian blur that softens the edges, pixels.
    """

    kind: Literal["dead_leaves"] = "dead_leaves"
    min_radius_px: Annotated[float, Demands(ge=1, le=4096)] = 5.0
    blur_px: Length = 1.0


@frozen_config
class Lines(ObjectConfig):
    """Random lines of one pixel, sharp and blurred: the object of the published SIM-LINES table.

    Parameters
    ----------
    n_lines
        Number of lines that are drawn, over four times the object's area.
    number
        Which object it is of those that are drawn one after another from the same seed, from zero.
    count
        How many of those, from `number` on, lie side by side, each scanned alike; no frame sees two of them.
    """

    kind: Literal["lines"] = "lines"
    n_lines: Annotated[int, Demands(ge=1, le=100_000)] = 400
    number: Annotated[int, Demands(ge=0, le=1000)] = 0
    count: Annotated[int, Demands(ge=1, le=8)] = added(1)

    @property
    def n_objects(self) -> int:
        """Number of objects that lie side by side: `count`."""
        return self.count


@frozen_config(rules=_CONTRAST_RULES)
class GaussianField(_Contrast):
    """Two independent smooth random fields.

    Parameters
    ----------
    correlation_px
        Standard deviation of the Gaussian that smooths white noise, pixels.
    """

    kind: Literal["gaussian_field"] = "gaussian_field"
    correlation_px: Annotated[float, Demands(gt=0, le=4096)] = 4.0


@frozen_config(rules=_CONTRAST_RULES)
class SiemensStar(_Contrast):
    """Spokes around the centre of the object, thinner than the outermost tenth of it.

    Parameters
    ----------
    n_spokes
        Number of spokes; between two of them the gap is as wide as they are.
    blur_px
        Standard deviation of the Gaussian blur that softens the edges, pixels.
    """

    kind: Literal["siemens_star"] = "siemens_star"
    n_spokes: Annotated[int, Demands(ge=2, le=1000)] = 36
    blur_px: Length = 1.0


@frozen_config(rules=_CONTRAST_RULES)
class Picture(_Contrast):
    """Two of scikit-image's photographs, brought to the object's size.

    Parameters
    ----------
    amplitude_picture, phase_picture
        The photograph whose grey values become amplitude, and the one that becomes phase.
    """

    kind: Literal["picture"] = "picture"
    amplitude_picture: PictureName = "camera"
    phase_picture: PictureName = "moon"
