"""The resolution of a refinement: two images from half of the frames each, correlated ring by ring."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.alignment import align_with_truth
from ptycho_torch.exact.seeding import generator
from ptycho_torch.metrics import DECIMALS
from ptycho_torch.readers.scan import Scan
from ptycho_torch.refine_config import RefineConfig
from ptycho_torch.refine_record import Pass
from ptycho_torch.refinement import refine
from ptycho_torch.ring_correlation import (
    RingCorrelation,
    fourier_ring_correlation,
    resolution_px,
    threshold_curve,
)
from ptycho_torch.stitching import Reconstruction

__all__ = ["HalfData", "correlate_halves", "probe_of_level_object"]


@dataclass(frozen=True, eq=False)
class HalfData:
    """How far two images from half of the frames each agree.

    Parameters
    ----------
    curve
        Their ring correlation.
    half_bit
        The half-bit threshold on its rings.
    figures
        ``half_bit_resolution_px`` and ``one_bit_resolution_px``: full period, pixels; 2 is Nyquist.
    """

    curve: RingCorrelation
    half_bit: NDArray[np.float64]
    figures: dict[str, float]


def correlate_halves(
    scan: Scan,
    config: RefineConfig,
    *,
    counts_per_amplitude: float,
    seed: int,
    probe: NDArray[np.complex64] | None = None,
    support: NDArray[np.bool_] | None = None,
    report: Callable[[Pass, int], None] = lambda done, total: None,
) -> HalfData:
    """Refine each half of the frames by itself and correlate the two images.

    Both begin with an object of one value, whatever ``config.start`` says: an image that has seen all frames
    would make the halves agree where they need not. A half is divided into half as
    many batches, so that each batch holds as many frames as in a refinement of all: on fewer the steps
    become too long, are taken back, and the halves end farther from their frames than the whole does.

    Parameters
    ----------
    scan
        The frames; which of them go to which half is drawn from the seed.
    probe
        Modes that both halves hold fixed, such as those that all frames have led to: only the objects are
        independent then, and no error of the probe is seen. Its gauge must be one in which an object of one
        value is near: :func:`probe_of_level_object`. None begins each half with the scan's own probe.
    config, counts_per_amplitude, seed, support, report
        As in :func:`ptycho_torch.refinement.refine`.

    References
    ----------
    van Heel & Schatz, J. Struct. Biol. 151, 250 (2005).
    """
    order = generator(seed, "half data").permutation(scan.n_frames)
    config = dataclasses.replace(config, batches=max(1, config.batches // 2))
    if probe is not None:
        scan, config = (
            dataclasses.replace(scan, probe=probe),
            dataclasses.replace(config, probe=False, modes=1),
        )
    first, second = (
        refine(
            scan,
            config,
            counts_per_amplitude=counts_per_amplitude,
            seed=seed,
            frames=np.sort(half),
            support=support,
            report=report,
        ).image
        for half in (order[::2], order[1::2])
    )
    both = np.minimum(first.coverage, second.coverage)
    aligned = align_with_truth(first.object, both, np.zeros(2, dtype=np.int64), second.object)
    curve = fourier_ring_correlation(aligned.object, aligned.truth)
    figures = {
        "half_bit_resolution_px": resolution_px(curve, "half-bit"),
        "one_bit_resolution_px": resolution_px(curve, "one-bit"),
    }
    return HalfData(
        curve,
        threshold_curve(curve, "half-bit"),
        {name: round(value, DECIMALS) for name, value in figures.items()},
    )


def probe_of_level_object(image: Reconstruction, probe: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Give a probe the phase ramp of the object that goes with it, so that the object keeps none.

    No frame can tell a ramp on the object from the opposite one on the probe. But an object of one value,
    from which the halves begin, has none, and a probe that is held cannot take it over. Steps that see a
    patch at a time do not wind it up either: the object stays level on the whole, far from its frames, and
    undulates instead, in each half differently.

    Parameters
    ----------
    image, probe
        Object and probe modes (M, N, N) of one reconstruction.

    Returns
    -------
    numpy.ndarray
        The probe, turned by the object's mean step of the phase along each axis, weighted by the coverage.
    """
    obj, turned = image.object.astype(np.complex128), probe.astype(np.complex128)
    for axis in (0, 1):
        along, coverage = np.moveaxis(obj, axis, 0), np.moveaxis(image.coverage, axis, 0)
        step = np.angle((coverage[1:] * along[1:] * along[:-1].conj()).sum())
        ramp = np.exp(1j * step * (np.arange(probe.shape[-1]) - probe.shape[-1] / 2))
        turned *= ramp[:, None] if axis == 0 else ramp
    return turned.astype(np.complex64)
