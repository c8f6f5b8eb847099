"""What a scan file holds, told without holding its frames: side, frames, modes, units and positions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptycho_torch.array_headers import ArrayHeader, one_line
from ptycho_torch.errors import DataError, NoArchiveError
from ptycho_torch.variants import READERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptycho_torch.array_headers import Archive
    from ptycho_torch.readers.scan import Scan

__all__ = ["DataFormat", "HeaderCheck", "ScanHeader", "infer_units", "read_header"]

DIFFRACTION_KEYS = ("diffraction", "diff3d")
UNITS = ("count_amplitude", "count_intensity", "normalized_amplitude")
POSITION_CONVENTIONS = ("ptychopinn", "center")
MAX_FRAMES = 1 << 24
MAX_SPAN_PX = 1 << 15
SAMPLE_ITEMS = 1 << 20
"""Values of a stack from which its units are told."""


@dataclass(frozen=True)
class ScanHeader:
    """What is known of a scan before its frames are read.

    Parameters
    ----------
    file
        The file; None for a simulated scan.
    N
        Side of a frame, pixels.
    n_frames
        Number of frames.
    n_modes
        Number of probe modes; 0 when the file holds no probe.
    units
        What the frames hold, see ``DataConfig.units``; None when the file does not tell.
    are_units_stated
        The file names its units; else they were told from the values of the first frames.
    positions
        Position convention that the file names, see ``DataConfig.positions``; None when it names none.
    position_min_px, position_max_px
        Smallest and largest position (row, column) in the file's own convention, pixels.
    n_repeated_positions
        Positions at which more than one frame was taken.
    neighbours_px
        For k = 1, 2, ... the largest distance of a frame to its k-th nearest other one, pixels.
    n_squares
        Squares of 2 x 2 neighbours that the positions form on a raster; 0 where they are none.
    object_shape
        Shape of the reference object; None without one.
    pixel_size_m
        Height and width of an object pixel, metres; None when the file does not tell.
    fresnel_number
        Least Fresnel number of what was measured, for data that are no far field; None for a far field, and
        when the file does not tell.
    format, dtype, keys
        ``npz`` (the project's own), ``tike``, ``cxi`` or ``simulated``; numpy's name of the frames' type; the
        arrays' names.
    """

    file: str | None
    N: int
    n_frames: int
    n_modes: int = 1
    units: str | None = None
    are_units_stated: bool = False
    positions: str | None = None
    position_min_px: tuple[float, float] | None = None
    position_max_px: tuple[float, float] | None = None
    n_repeated_positions: int = 0
    neighbours_px: tuple[float, ...] = ()
    n_squares: int = 0
    object_shape: tuple[int, int] | None = None
    pixel_size_m: tuple[float, float] | None = None
    fresnel_number: float | None = None
    format: str = "simulated"
    dtype: str = "<f4"
    keys: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The file's name without its folder, for messages and records."""
        return "the simulated scan" if self.file is None else Path(self.file).name

    def unfit_for_far_field(self) -> list[str]:
        """Say why the scan cannot be given to a model that propagates a known probe to the far field."""
        problems = []
        if self.fresnel_number is not None:
            problems.append(
                f"these are near-field data: light that overlaps from frame to frame has a Fresnel number of "
                f"{self.fresnel_number:.0f} (its width * the detector's / wavelength / distance), where the "
                f"far field of {self.N} pixels allows N/2 = {self.N // 2}: the models here are far-field"
            )
        if self.n_modes == 0:
            problems.append(
                "there is no probe: write one, complex of shape (N, N) or (M, N, N), as "
                "entry_1/instrument_1/source_1/illumination"
            )
        return problems


@dataclass(frozen=True)
class DataFormat:
    """A format of data files, as one module of ``ptycho_torch.readers`` knows it.

    Parameters
    ----------
    read_header
        Path to :class:`ScanHeader`, without holding all frames; None when the file has another format. Raises
        ``DataError`` when it has this one and anything is wrong with it.
    read
        Path, position convention and units to ``ptycho_torch.readers.Scan``; raises ``DataError``.
    is_streamed
        `read` takes ``hold``, see ``ptycho_torch.readers.frames.Hold``, and holds a few frames itself.
    title
        What a person calls it, where that is not its name in the table of formats.
    """

    read_header: Callable[[Path], ScanHeader | None]
    read: Callable[..., Scan]
    is_streamed: bool = False
    title: str = ""


_ANY_OTHER = "npz"
"""The format of a file that no other takes for its own: it says what is wrong with the file."""


def read_header(path: str | Path) -> ScanHeader:
    """Read the header of a scan file, in the format that its content shows.

    Raises
    ------
    DataFileNotFoundError
        When there is no such file.
    DataError
        With all that is wrong with it; every frame is looked at once.
    """
    path = Path(path)
    candidates = [name for name in READERS if name != _ANY_OTHER] if path.is_file() else []
    for name in (*candidates, _ANY_OTHER):
        try:
            header: ScanHeader | None = READERS[name].read_header(path)
        except NoArchiveError:
            titles = ", ".join(READERS[one].title or one for one in READERS)
            raise DataError(f"{path.name}: is of no format that is read here: {titles}") from None
        if header is not None:
            return header
    raise AssertionError(f"the format {_ANY_OTHER} answers for every file")


def infer_units(sample: NDArray[Any]) -> str | None:
    """Tell from values what frames hold: counts, roots of counts, or amplitudes in arbitrary units.

    Parameters
    ----------
    sample
        Real values of the first frames. Values too large for their squares to be exact are left out.

    Returns
    -------
    str or None
        One of ``DataConfig.units``; None when the values do not tell, all being zero for instance.
    """
    import numpy as np

    if sample.dtype.kind in "iu":
        return "count_intensity"
    precision = float(np.finfo(sample.dtype).eps)
    values = sample[np.isfinite(sample) & (sample != 0)].astype(np.float64)
    values = values[values < 0.05 / precision]
    if values.size == 0:
        return None
    if np.array_equal(values, np.rint(values)):
        return "count_intensity" if values.max() > 1 else None
    squares = values**2
    squares = squares[squares < 0.05 / precision]
    if squares.size == 0:
        return None
    is_counts = np.all(np.abs(squares - np.rint(squares)) <= 4 * precision * squares)
    return "count_amplitude" if is_counts else "normalized_amplitude"


class HeaderCheck:
    """Notes what is wrong with the members of one archive."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.found: list[str] = []
        self.missing: list[str] = []

    def member(self, name: str, kinds: str, legal: str, ranks: Iterable[int]) -> ArrayHeader | None:
        """Look up a member that must be there, of these kinds and ranks."""
        members = self.archive.members
        if name not in members:
            self.missing.append(name)
            return None
        header = members[name]
        if header.is_pickled:
            self.found.append(f"{name} holds pickled Python objects, which are never read: store numbers")
        elif header.kind not in kinds:
            self.found.append(f"{name} has type {header.dtype}, but must be {legal}")
        elif len(header.shape) not in ranks:
            self.found.append(f"{name} has shape {header.shape}, but must be {legal}")
        else:
            return header
        return None

    def refuse(self) -> None:
        """Raise all that was noted."""
        if self.missing:
            names = [one_line(name, 40) for name in sorted(self.archive.members)]
            held = one_line(", ".join(names), 200) or "no arrays"
            self.found.insert(0, f"missing are {', '.join(self.missing)}; the file holds {held}")
        if self.found:
            raise DataError("\n".join(f"{self.archive.source}: {sentence}" for sentence in self.found))

    def frames(self, name: str, shape: tuple[int, ...], n_positions: int | None) -> None:
        """Check the stack's shape (J, N, N) against itself and the positions."""
        n_frames, rows, columns = shape
        if rows != columns and n_frames == rows and columns == n_positions:
            cure = "store it as (J, N, N), for instance with numpy.moveaxis(stack, -1, 0)"
            self.found.append(f"{name} has shape {shape} with the frames on the last axis: {cure}")
        elif rows != columns or rows == 0:
            self.found.append(f"{name} has shape {shape}, but its frames must be square: (J, N, N)")
        elif n_frames == 0:
            self.found.append(f"{name} has shape {shape}: there are no frames")
        elif n_positions is not None and n_positions != n_frames:
            self.found.append(f"there are {n_positions} positions for {n_frames} frames: give one each")

    def sample(self, name: str) -> NDArray[Any]:
        """Read the first frames' values, flat."""
        return self.archive.read(name, SAMPLE_ITEMS)

    def extent(
        self, positions: NDArray[Any], wanted: str = "pixels"
    ) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return the smallest and the largest position (row, column), pixels; zeros without any.

        `positions` is (J, 2), and `wanted` the unit in which the file should have them.
        """
        import numpy as np

        if positions.size == 0 or not np.all(np.isfinite(positions)):
            return (0.0, 0.0), (0.0, 0.0)
        low, high = positions.min(axis=0).tolist(), positions.max(axis=0).tolist()
        if 0 < (span := max(high[0] - low[0], high[1] - low[1])) < 0.5:
            self.found.append(f"the positions span {span:.3g} px: give them in {wanted}")
        elif span > MAX_SPAN_PX:
            self.found.append(
                f"the positions span {span:.3g} px, but at most {MAX_SPAN_PX} are held: give them in {wanted}"
            )
        return (low[0], low[1]), (high[0], high[1])

    def stated(self, name: str, legal: tuple[str, ...]) -> str | None:
        """Read a text that the file may state about itself."""
        header = self.archive.members.get(name)
        if header is None:
            return None
        text = str(self.archive.read(name)) if (header.kind, header.shape) == ("U", ()) else None
        if text not in legal:
            shown = "no text" if text is None else repr(one_line(text))
            self.found.append(f"{name} is {shown}, but must be one of {', '.join(legal)}")
        return text
