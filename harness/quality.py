"""The figures of quality of a run, for a person, and those among them that mean nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from harness.resolved import REFINE

if TYPE_CHECKING:
    from harness.manifest import Manifest

__all__ = ["REFINED", "figures", "is_resolution", "quality_rows", "void_resolutions"]

_FIGURES = (
    ("phase_correlation", "phase correlation"),
    ("amplitude_correlation", "amplitude correlation"),
    ("phase_ssim", "phase SSIM"),
    ("amplitude_ssim", "amplitude SSIM"),
    ("frc_0.5_resolution_px", "resolution (FRC 0.5, px)"),
    ("r_factor", "R-factor"),
    ("r_factor_poisson_floor", "its Poisson floor"),
    ("half_bit_resolution_px", "half-data resolution (half-bit, px)"),
)
REFINED = "refined_"
"""Beginning of the names of a refined image's figures; those without it are the network's."""

_OF_NETWORK = "the network collapsed, so a resolution means nothing"
_OF_HALVES = "the network collapsed and no half begins with its image: a half-data resolution means nothing"


def figures(metrics: Mapping[str, Any], prefix: str = "") -> str:
    """Say the figures of quality whose names begin so, in one line; empty when a run has none."""
    known = ((label, metrics.get(f"{prefix}{name}")) for name, label in _FIGURES)
    return ", ".join(f"{label} {value:.3f}" for label, value in known if isinstance(value, int | float))


def quality_rows(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield the figures of quality as label and line: the network's, on the test scan, of a refined image.

    In the place of what means nothing stands the reason.
    """
    void = void_resolutions(manifest)
    for label, prefix in (("quality", ""), ("test scan", "test_"), ("refined", REFINED)):
        told = {name: value for name, value in manifest.metrics.items() if name not in void}
        reasons = {void[f"{prefix}{name}"] for name, _ in _FIGURES if f"{prefix}{name}" in void}
        said = "; ".join(filter(None, (figures(told, prefix), *reasons)))
        if said:
            yield label, said


def is_resolution(name: str) -> bool:
    """Tell whether a metric is a resolution, which means nothing of the image of a network that collapsed."""
    return "resolution_px" in name or "frc" in name


def void_resolutions(manifest: Manifest) -> dict[str, str]:
    """Return each resolution among a run's metrics that means nothing, with the reason.

    Rings of an image that shows nothing agree with the truth by chance. The halves of a refinement begin
    with a flat object, whatever it begins with itself: where that is the image of a network that collapsed,
    their resolution would be told of what they are not.
    """
    if manifest.status != "collapsed" and not manifest.collapse.get("is_collapsed"):
        return {}
    resolutions = [name for name in manifest.metrics if is_resolution(name)]
    void = {name: _OF_NETWORK for name in resolutions if not name.startswith(REFINED)}
    start = manifest.resolved.get(f"{REFINE}.start")
    if start is not None and start.value == "network":
        halves = {f"{REFINED}{bits}_resolution_px" for bits in ("half_bit", "one_bit")}
        void |= {name: _OF_HALVES for name in resolutions if name in halves}
    return void
