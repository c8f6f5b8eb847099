"""Pictures of a reconstruction: the same input gives the same bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from ptycho_torch.alignment import Aligned, well_covered
from ptycho_torch.durable import open_durably
from ptycho_torch.errors import DataError
from ptycho_torch.stitching import Reconstruction

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 110
AMPLITUDE_MAP = "viridis"
PHASE_MAP = "RdBu_r"
TURN_MAP = "twilight"
DIFFERENCE_MAP = "PuOr_r"
NOT_COVERED = "0.85"
CLIP_PERCENT = 0.5
"""Fraction of pixels at either end that may lie beyond the colour bar, per cent."""

_FLAT = 1e-3
"""Least range of a reference, in radians or in amplitude, that the colours of a comparison follow."""

FloatArray = NDArray[np.float64]


def save_pictures(
    reconstruction: Reconstruction,
    folder: str | Path,
    *,
    aligned: Aligned | None = None,
    metrics: Mapping[str, float] | None = None,
    title: str = "",
) -> tuple[Path, ...]:
    """Write ``phase.png`` and ``amplitude.png``, and ``comparison.png`` where there is a truth.

    The colours follow the well-covered pixels; pixels without coverage are grey. Phases are centred on
    their mean. A phase picture has a diverging map, and a cyclic one when phases fill the circle. Each file
    is there whole or not at all.

    Parameters
    ----------
    reconstruction
        The stitched object.
    folder
        Where the pictures go; it must exist.
    aligned
        Reconstruction and truth on the same pixels, from
        :func:`ptycho_torch.alignment.align_with_truth`; None makes no comparison.
    metrics
        Figures to print under the comparison.
    title
        First line of every picture, for example the run's name.

    Returns
    -------
    tuple[Path, ...]
        The files, in the order written.

    Raises
    ------
    DataError
        When no pixel of the object is covered.
    """
    is_covered = reconstruction.coverage > 0
    if not is_covered.any():
        raise DataError("no pixel of the object is covered, so there is nothing to draw")
    rows, columns = (np.flatnonzero(is_covered.any(axis=axis)) for axis in (1, 0))
    crop = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    obj, shown = reconstruction.object[crop].astype(np.complex128), is_covered[crop]
    judged = well_covered(reconstruction.coverage)[crop]
    origin = (
        int(reconstruction.frame_origin_px[0] + rows[0]),
        int(reconstruction.frame_origin_px[1] + columns[0]),
    )
    counts = f"{reconstruction.accepted} of {reconstruction.total} patches"
    pictures = {}
    with mpl.rc_context():
        mpl.rcdefaults()
        for name, image in (("phase", _phase(obj, judged)), ("amplitude", np.abs(obj))):
            pictures[f"{name}.png"] = _draw_one(
                name, image, (shown, judged), origin, f"{counts}  {title}".strip()
            )
        if aligned is not None:
            pictures["comparison.png"] = _draw_comparison(aligned, metrics or {}, title)
    paths = []
    for name, content in pictures.items():
        path = Path(folder) / name
        with open_durably(path) as stream:
            stream.write(content)
        paths.append(path)
    return tuple(paths)


def _phase(obj: NDArray[np.complex128], judged: NDArray[np.bool_]) -> FloatArray:
    # Rounded: the last bit of an arc tangent must not decide a pixel's colour.
    return np.asarray(np.round(np.angle(obj * np.conj(obj[judged].sum())), 6))


def _style(name: str, image: FloatArray) -> dict[str, Any]:
    low, high = (float(limit) for limit in np.percentile(image, [CLIP_PERCENT, 100 - CLIP_PERCENT]))
    if name == "amplitude":
        room = 1e-3 * max(abs(high), 1e-6)
        return {"cmap": AMPLITUDE_MAP, "vmin": low, "vmax": high if high - low > room else low + room}
    reach = max(abs(low), abs(high), 1e-3)
    if reach > 0.9 * math.pi:
        return {"cmap": TURN_MAP, "vmin": -math.pi, "vmax": math.pi}
    return {"cmap": PHASE_MAP, "vmin": -reach, "vmax": reach}


def _unit(name: str) -> str:
    return "phase (rad)" if name == "phase" else "amplitude"


def _draw_one(
    name: str,
    image: FloatArray,
    masks: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    origin: tuple[int, int],
    title: str,
) -> bytes:
    shown, judged = masks
    height, width = image.shape
    size = 5.0
    figure = Figure(
        figsize=(size * min(width / height, 2.5) + 1.4, size + 0.9), dpi=DPI, layout="constrained"
    )
    axes = figure.add_subplot()
    _show(figure, axes, np.ma.masked_where(~shown, image), origin, _style(name, image[judged]), _unit(name))
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xlabel("column on the object grid (px)", fontsize=8)
    axes.set_ylabel("row (px)", fontsize=8)
    return _png(figure)


def _draw_comparison(aligned: Aligned, metrics: Mapping[str, float], title: str) -> bytes:
    height, width = aligned.truth.shape
    side = 3.2
    figure = Figure(
        figsize=(3 * side * min(width / height, 2.0) + 3.2, 2 * side + 1.6), dpi=DPI, layout="constrained"
    )
    panels = figure.subplots(2, 3, squeeze=False)
    for line, name in enumerate(("phase", "amplitude")):
        part = np.angle if name == "phase" else np.abs
        obj, truth = (np.round(part(image), 6) for image in (aligned.object, aligned.truth))
        if name == "phase":
            difference = np.round(np.angle(aligned.object * aligned.truth.conj()), 6)
        else:
            difference = obj - truth
        style = _style(name, obj if float(np.ptp(truth)) < _FLAT else truth)
        reach = max(float(np.percentile(np.abs(difference), 100 - CLIP_PERCENT)), 1e-3)
        spread = {"cmap": DIFFERENCE_MAP, "vmin": -reach, "vmax": reach}
        for axes, image, kind, look in (
            (panels[line][0], obj, "prediction", style),
            (panels[line][1], truth, "reference", style),
            (panels[line][2], difference, "prediction - reference", spread),
        ):
            _show(figure, axes, np.ma.asarray(image), aligned.origin_px, look, "")
            axes.set_title(f"{_unit(name)}: {kind}", fontsize=9, loc="left")
            if axes is not panels[line][0]:
                axes.set_yticks([])
            if line == 0:
                axes.set_xticks([])
    figure.suptitle(title, fontsize=10)
    figure.supxlabel(_caption(metrics), fontsize=8)
    return _png(figure)


def _caption(metrics: Mapping[str, float]) -> str:
    wanted = {
        "phase_correlation": "phase correlation {:.3f}",
        "phase_ssim": "phase SSIM {:.3f}",
        "amplitude_correlation": "amplitude correlation {:.3f}",
        "amplitude_ssim": "amplitude SSIM {:.3f}",
        "frc_0.5_resolution_px": "resolution (FRC 0.5) {:.1f} px",
    }
    return "     ".join(text.format(metrics[name]) for name, text in wanted.items() if name in metrics)


def _show(
    figure: Figure,
    axes: Axes,
    image: np.ma.MaskedArray[Any, Any],
    origin: tuple[int, int],
    style: Mapping[str, Any],
    label: str,
) -> None:
    height, width = image.shape
    row, column = origin
    extent = (column - 0.5, column + width - 0.5, row + height - 0.5, row - 0.5)
    drawn = axes.imshow(image, extent=extent, interpolation="nearest", origin="upper", **style)
    axes.set_facecolor(NOT_COVERED)
    axes.tick_params(labelsize=7)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.9, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    bar.set_label(label, fontsize=8)
    length = _scale_bar_px(width)
    left, bottom = column + 0.04 * width, row + 0.95 * height
    outline = [withStroke(linewidth=4, foreground="black")]
    axes.plot([left, left + length], [bottom, bottom], color="white", linewidth=2.5, path_effects=outline)
    axes.text(
        left + length / 2,
        bottom - 0.02 * height,
        f"{length} px",
        color="white",
        ha="center",
        va="bottom",
        fontsize=8,
        path_effects=[withStroke(linewidth=2, foreground="black")],
    )


def _scale_bar_px(width: int) -> int:
    nice: list[int] = [step * 10**power for power in range(5) for step in (1, 2, 5)]
    return int(max(step for step in nice if step <= max(width / 4, 1)))


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(content, format="png", metadata={"Software": None})  # else the version stands in the file
    return content.getvalue()
