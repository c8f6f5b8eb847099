"""Reader of CXI: HDF5 in SI units, with the geometry that brings its positions to pixels."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptycho_torch.array_headers import Archive, ArrayHeader
from ptycho_torch.hdf5 import HDF5_MAGIC, open_hdf5
from ptycho_torch.headers import DataFormat, HeaderCheck, ScanHeader
from ptycho_torch.readers.contract import companion_problems, nearest_px, value_problems, with_geometry
from ptycho_torch.readers.frames import Hold, held, stored_pieces
from ptycho_torch.readers.scan import Scan, raise_problems
from ptycho_torch.readers.units import native, root_of_counts

_DETECTOR, _SOURCE = "entry_1/instrument_1/detector_1", "entry_1/instrument_1/source_1"
DATA = ("entry_1/data_1/data", f"{_DETECTOR}/data")
TRANSLATION = (
    "entry_1/data_1/translation",
    "entry_1/sample_1/geometry_1/translation",
    f"{_DETECTOR}/translation",
)
PROBE = (f"{_SOURCE}/illumination", f"{_SOURCE}/probe", f"{_DETECTOR}/probe")
MASK, BASIS, CORNER = (f"{_DETECTOR}/{name}" for name in ("mask", "basis_vectors", "corner_position"))
_DISTANCE, _ROWS, _COLUMNS = (f"{_DETECTOR}/{name}" for name in ("distance", "y_pixel_size", "x_pixel_size"))
_WAVELENGTH, _ENERGY = f"{_SOURCE}/wavelength", f"{_SOURCE}/energy"
_NORMAL = "entry_1/sample_1/geometry_1/surface_normal"
_SCALARS = (_DISTANCE, _ROWS, _COLUMNS, _WAVELENGTH, _ENERGY)
_WANTED = (*DATA, *TRANSLATION, *PROBE, MASK, BASIS, CORNER, _NORMAL, *_SCALARS)

_PLANCK_LIGHT_J_M = 6.62607015e-34 * 299792458.0
_HAS_SIGNAL = 0x1000
"""The one bit of a CXI mask that a good pixel may have."""
_AGREE, _SQUARE, _OFF_CENTRE_PX = 0.01, 1e-3, 1.0


@dataclass(frozen=True)
class Geometry:
    """How detector and light turn metres at the sample into pixels.

    Parameters
    ----------
    wavelength_m, distance_m
        Of the light, and from sample to detector.
    steps_m
        (2, 3): the vectors from one detector pixel to the next, along rows' and columns' indices, in CXI's
        frame: z along the beam, y up, x to the left as the light sees it.
    """

    wavelength_m: float
    distance_m: float
    steps_m: NDArray[np.float64]

    def pixel_size_m(self, side: int) -> tuple[float, float]:
        """Height and width of an object pixel: wavelength * distance / (N * detector pixel), metres."""
        height, width = self.wavelength_m * self.distance_m / (side * np.linalg.norm(self.steps_m, axis=1))
        return float(height), float(width)

    def corners_px(self, translations_m: NDArray[np.float64], side: int) -> NDArray[np.float64]:
        """Turn translations of the sample (J, 3) into patch corners (row, column) from any origin, pixels.

        The light moves over the sample against the sample's own translation.
        """
        along = self.steps_m / np.linalg.norm(self.steps_m, axis=1, keepdims=True)
        corners_px = -translations_m @ along.T / np.array(self.pixel_size_m(side))
        moved: NDArray[np.float64] = corners_px - corners_px.min(axis=0)
        return moved


def read_cxi(
    path: Path, *, positions: str = "ptychopinn", units: str | None = None, hold: Hold = held
) -> Scan:
    """Read a scan from a CXI file.

    Parameters
    ----------
    path
        File with ``entry_1/data_1/data`` (J, N, N) counts, the direct beam at ``[N/2, N/2]``; translations of
        the sample (J, 3), metres; wavelength or energy, distance, and pixel size or ``basis_vectors`` of the
        detector; the probe (N, N) or (M, N, N), complex, as ``entry_1/instrument_1/source_1/illumination``.
        A mask is CXI's: zero is a good pixel.
    positions
        Without effect: the format's origin is arbitrary, so the two conventions cannot be told apart.
    units
        None or ``count_intensity``, which the format fixes.
    hold
        Where the frames are kept.

    Returns
    -------
    Scan
        Its positions are moved so that the lowest row and column are zero.

    Raises
    ------
    DataFileNotFoundError
        When there is no such file.
    DataError
        With all that is wrong with the file, a near field and a missing probe among it.
    """
    with open_hdf5(path, _WANTED) as archive:
        contents = _Contents(path, archive)
        header, problems = contents.header, []
        if units not in (None, "count_intensity"):
            problems.append(f"units {units!r} are asked for but CXI holds counts (legal: count_intensity)")
        problems += header.unfit_for_far_field()
        raise_problems(path.name, problems)
        shape = (header.n_frames, header.N, header.N)
        counts = stored_pieces(archive, contents.data, shape)
        return Scan(
            diffraction=hold((root_of_counts(native(piece)) for piece in counts), shape),
            corners_px=contents.corners_px,
            probe=contents.probe(),
            units="count_intensity",
            mask=contents.mask,
            object=None,
            source=path.name,
        )


def read_cxi_header(path: Path) -> ScanHeader | None:
    """Read the header of a CXI file, without a probe or of a near field too; None when it is no HDF5."""
    with contextlib.suppress(OSError), path.open("rb") as stream:
        if stream.read(len(HDF5_MAGIC)) != HDF5_MAGIC:
            return None
    with open_hdf5(path, _WANTED) as archive:
        contents = _Contents(path, archive)
        header, corners_px, mask = contents.header, contents.corners_px, contents.mask
        frames = stored_pieces(archive, contents.data, (header.n_frames, header.N, header.N))
        problems = value_problems(frames, mask)
        probe = contents.probe() if header.n_modes else None
        problems += companion_problems(header.n_frames, header.N, corners_px, probe, None, mask)
        raise_problems(path.name, problems)
        return with_geometry(header, corners_px)


class _Contents:
    """What a CXI file holds beside its frames, checked."""

    def __init__(self, path: Path, archive: Archive) -> None:
        self._archive = archive
        check = HeaderCheck(archive)
        self.data, translation, self._probe = (_first(archive, names) for names in (DATA, TRANSLATION, PROBE))
        stack = check.member(self.data, "iuf", "real, of shape (J, N, N)", [3])
        moves = check.member(translation, "fiu", "real, of shape (J, 3), metres", [2])
        if moves is not None and moves.shape[1] not in {2, 3}:
            check.found.append(f"{translation} has shape {moves.shape}, but must be (J, 3)")
            moves = None
        if stack is not None:
            check.frames(self.data, stack.shape, None if moves is None else moves.shape[0])
        geometry = _geometry(check)
        probe = _check_probe(check, self._probe, stack)
        check.refuse()
        if stack is None or geometry is None:
            raise AssertionError("without problems there are frames and a geometry")
        side = stack.shape[1]
        _check_centre(check, geometry, side)
        translations_m = np.zeros((stack.shape[0], 3))
        given = archive.read(translation).astype(np.float64)
        translations_m[:, : given.shape[1]] = given
        if not np.isfinite(translations_m).all():
            check.found.append(f"{translation} holds NaN or infinity: give finite metres")
            translations_m[:] = 0
        self.corners_px = geometry.corners_px(translations_m, side)
        low, high = check.extent(self.corners_px, "metres")
        self.mask = _mask(check)
        check.refuse()
        self.header = ScanHeader(
            file=str(path),
            N=side,
            n_frames=stack.shape[0],
            n_modes=0 if probe is None else (probe.shape[0] if len(probe.shape) == 3 else 1),
            units="count_intensity",
            are_units_stated=True,
            position_min_px=low,
            position_max_px=high,
            pixel_size_m=geometry.pixel_size_m(side),
            format="cxi",
            dtype=stack.dtype,
            keys=tuple(sorted(archive.members)),
        )
        # Light as wide as a step lights this many object pixels, its Fresnel number: a far field holds N/2.
        if (step_px := nearest_px(self.corners_px)) > side / 2:
            self.header = dataclasses.replace(self.header, fresnel_number=step_px)

    def probe(self) -> NDArray[np.complex64]:
        """Read the probe's modes (M, N, N)."""
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is found as such
            probe = self._archive.read(self._probe).astype(np.complex64)
        return probe.reshape(-1, *probe.shape[-2:])


def _first(archive: Archive, names: tuple[str, ...]) -> str:
    return next((name for name in names if name in archive.members), names[0])


def _geometry(check: HeaderCheck) -> Geometry | None:
    distance = _scalar(check, _DISTANCE)
    energy = _scalar(check, _ENERGY) if _ENERGY in check.archive.members else None
    has_wavelength = _WAVELENGTH in check.archive.members or energy is None
    wavelength = _scalar(check, _WAVELENGTH) if has_wavelength else None
    from_energy = None if energy is None else _PLANCK_LIGHT_J_M / energy
    if wavelength and from_energy and abs(wavelength / from_energy - 1) > _AGREE:
        check.found.append(
            f"the wavelength is {wavelength:.4g} m but the energy's is {from_energy:.4g} m: correct one "
            "(the energy is in joule)"
        )
    steps_m = _steps(check)
    _check_flat(check)
    wavelength = wavelength or from_energy
    if distance is None or wavelength is None or steps_m is None:
        return None
    return Geometry(wavelength, distance, steps_m)


def _scalar(check: HeaderCheck, name: str) -> float | None:
    header = check.member(name, "fiu", "a number", [0, 1])
    if header is None:
        return None
    values = check.archive.read(name).astype(np.float64).ravel()
    is_sound = values.size > 0 and bool(np.isfinite(values).all()) and values.min() > 0
    if not is_sound or values.max() > values.min() * (1 + _AGREE):
        check.found.append(f"{name} must be one number above zero, SI units, not {values[:3].tolist()}")
        return None
    return float(values[0])


def _steps(check: HeaderCheck) -> NDArray[np.float64] | None:
    if BASIS not in check.archive.members:
        rows, columns = _scalar(check, _ROWS), _scalar(check, _COLUMNS)
        if rows is None or columns is None:
            return None
        # CXI: the first row is on top, the first column on the left as the detector is looked at.
        return np.array([[0.0, -rows, 0.0], [-columns, 0.0, 0.0]])
    header = check.member(BASIS, "f", "real, of shape (3, 2)", [2])
    if header is None:
        return None
    steps_m = check.archive.read(BASIS).astype(np.float64)
    steps_m = steps_m.T if steps_m.shape == (3, 2) else steps_m
    if steps_m.shape != (2, 3) or not np.isfinite(steps_m).all() or not (steps_m != 0).any(axis=1).all():
        check.found.append(f"{BASIS} must be two vectors, not zero, of shape (3, 2)")
        return None
    first, second = steps_m / np.linalg.norm(steps_m, axis=1, keepdims=True)
    if max(abs(first @ second), abs(first[2]), abs(second[2])) > _SQUARE:
        check.found.append(
            f"{BASIS} must be square to each other and to the beam: a tilted detector is not read"
        )
        return None
    return steps_m


def _check_flat(check: HeaderCheck) -> None:
    if _NORMAL not in check.archive.members:
        return
    normal = check.archive.read(_NORMAL).astype(np.float64).ravel()
    if normal.size != 3 or not np.hypot(*normal[:2]) <= _SQUARE * abs(normal[2]):
        check.found.append(f"{_NORMAL} is {normal.tolist()[:3]}: a sample that is tilted is not read")


def _check_centre(check: HeaderCheck, geometry: Geometry, side: int) -> None:
    if CORNER not in check.archive.members:
        return
    corner = check.archive.read(CORNER).astype(np.float64).ravel()
    if corner.size < 2 or not np.isfinite(corner).all():
        check.found.append(f"{CORNER} must be a place (x, y, z), metres")
        return
    beam_px = -geometry.steps_m[:, :2] @ corner[:2] / (geometry.steps_m**2).sum(axis=1)
    if np.abs(beam_px - side / 2).max() > _OFF_CENTRE_PX:
        row, column = beam_px
        check.found.append(
            f"{CORNER} puts the direct beam at row {row:.1f}, column {column:.1f}, but it must stand at "
            f"[{side // 2}, {side // 2}]: crop the frames around it"
        )


def _check_probe(check: HeaderCheck, name: str, stack: ArrayHeader | None) -> ArrayHeader | None:
    if name not in check.archive.members:
        return None
    probe = check.member(name, "c", "complex, of shape (N, N) or (M, N, N)", [2, 3])
    if probe is not None and stack is not None and (probe.shape[-2:] != stack.shape[1:] or 0 in probe.shape):
        check.found.append(f"{name} has shape {probe.shape}, but the frames are {stack.shape[1:]} pixels")
    return probe


def _mask(check: HeaderCheck) -> NDArray[np.bool_] | None:
    if MASK not in check.archive.members:
        return None
    header = check.member(MASK, "iub", "whole numbers, of shape (N, N)", [2])
    if header is None:
        return None
    bits = check.archive.read(MASK).astype(np.int64)
    return np.asarray((bits & ~_HAS_SIGNAL) == 0)


CXI = DataFormat(read_header=read_cxi_header, read=read_cxi, is_streamed=True, title="CXI (in HDF5)")
