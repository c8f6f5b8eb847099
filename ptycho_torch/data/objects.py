"""Objects for simulated scans, drawn from nothing but their configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ptycho_torch.exact.seeding import generator
from ptycho_torch.simulate_config import DeadLeaves, GaussianField, Lines, ObjectConfig, Picture, SiemensStar

__all__ = ["dead_leaves", "draw_object", "gaussian_field", "lines", "picture", "siemens_star"]

_STAR_FRACTION = 0.9
_CLIPPED_SIGMAS = 3.0
_LINE_BLURS_PX = {1: 1.0, 5: 2.0, 10: 5.0}
"""Standard deviation of each blur of the lines, with its weight in the sum."""


def draw_object(config: ObjectConfig, seed: int) -> NDArray[np.complex64]:
    """Draw the object that a configuration describes.

    Parameters
    ----------
    config
        Kind, size and the kind's own options.
    seed
        Where all that is random comes from.

    Returns
    -------
    numpy.ndarray
        Object (H, W) complex64: ``config.shape_px``.
    """
    return _DRAWN[type(config)](config, seed)


def dead_leaves(config: DeadLeaves, seed: int) -> NDArray[np.complex64]:
    """Draw opaque discs that cover each other.

    References
    ----------
    Lee, Mumford, Huang, Int. J. Comput. Vis. 41, 35 (2001): radii distributed as ``r**-3``.
    """
    randomness = generator(seed, "simulate", "object")
    side = config.size_px
    largest = max(side / 4, config.min_radius_px)
    rows, columns = np.mgrid[:side, :side].astype(np.float64)
    amplitude, phase = np.zeros((side, side)), np.zeros((side, side))
    bare = np.ones((side, side), dtype=bool)
    while bare.any():
        inverse_square = randomness.uniform(largest**-2, config.min_radius_px**-2)
        radius = inverse_square**-0.5
        row, column = randomness.uniform(-largest, side + largest, size=2)
        drawn_amplitude = randomness.uniform(config.min_amplitude, config.max_amplitude)
        drawn_phase = randomness.uniform(0, config.max_phase_rad)
        seen = bare & ((rows - row) ** 2 + (columns - column) ** 2 <= radius**2)
        amplitude[seen], phase[seen] = drawn_amplitude, drawn_phase
        bare &= ~seen
    return _transmission(_blurred(amplitude, config.blur_px), _blurred(phase, config.blur_px))


def lines(config: Lines, seed: int) -> NDArray[np.complex64]:
    """Draw random lines on a canvas of twice the side, blur them three ways, and keep the middle.

    Of more than one object each has a canvas of its own, and the middles are put side by side.

    The stream is numpy's legacy Mersenne Twister, for the objects to be those of the published table.

    References
    ----------
    PtychoPINN, arXiv 2602.21361, Table 2.
    """
    randomness = np.random.RandomState(seed)
    side = 2 * config.size_px
    middle = slice(config.size_px // 2, config.size_px // 2 + config.size_px)
    drawn = []
    for number in range(config.number + config.count):
        canvas = np.zeros((side, side))
        for _ in range(config.n_lines):
            start_row, start_column, end_row, end_column = (side * randomness.uniform(size=4)).astype(int)
            canvas[_segment(start_row, start_column, end_row, end_column)] = 1
        if number >= config.number:
            blurred = [weight * _blurred(canvas, blur) for blur, weight in _LINE_BLURS_PX.items()]
            drawn.append(np.sum(blurred, axis=0)[middle, middle])
    return np.concatenate(drawn, axis=1).astype(np.complex64)


def gaussian_field(config: GaussianField, seed: int) -> NDArray[np.complex64]:
    """Smooth white noise for the amplitude and, independently, for the phase; three sigmas fill the range."""
    noise = (generator(seed, "simulate", part) for part in ("amplitude", "phase"))
    fields = []
    for randomness in noise:
        smooth = ndimage.gaussian_filter(
            randomness.normal(size=(config.size_px, config.size_px)), config.correlation_px, mode="wrap"
        )
        fields.append(np.clip(0.5 + smooth / (2 * _CLIPPED_SIGMAS * smooth.std()), 0, 1))
    return _within(config, *fields)


def siemens_star(config: SiemensStar, seed: int) -> NDArray[np.complex64]:
    """Draw spokes around the centre: full phase and least amplitude on a spoke; nothing is random."""
    index = np.arange(config.size_px) - (config.size_px - 1) / 2
    angle = np.arctan2(index[:, None], index[None, :])
    is_spoke = (np.cos(config.n_spokes * angle) > 0) & (
        np.hypot(index[:, None], index[None, :]) < _STAR_FRACTION * config.size_px / 2
    )
    spokes = _blurred(is_spoke.astype(np.float64), config.blur_px)
    return _within(config, 1 - spokes, spokes)


def picture(config: Picture, seed: int) -> NDArray[np.complex64]:
    """Take two of scikit-image's photographs; nothing is random."""
    names = (config.amplitude_picture, config.phase_picture)
    return _within(config, *(_photograph(name, config.size_px) for name in names))


def _photograph(name: str, side: int) -> NDArray[np.float64]:
    import skimage.color
    import skimage.data
    import skimage.transform

    image = getattr(skimage.data, name)()
    grey = skimage.color.rgb2gray(image) if image.ndim == 3 else image.astype(np.float64)
    shortest = min(grey.shape)
    first = [(length - shortest) // 2 for length in grey.shape]
    square = grey[first[0] : first[0] + shortest, first[1] : first[1] + shortest]
    resize: Callable[..., Any] = skimage.transform.resize
    resized = resize(square, (side, side), order=1, anti_aliasing=shortest > side)
    return np.asarray((resized - resized.min()) / np.ptp(resized))


def _within(
    config: GaussianField | SiemensStar | Picture, amplitude: NDArray[np.float64], phase: NDArray[np.float64]
) -> NDArray[np.complex64]:
    """Bring two images of values from 0 to 1 into the object's ranges."""
    span = config.max_amplitude - config.min_amplitude
    return _transmission(config.min_amplitude + span * amplitude, config.max_phase_rad * phase)


def _transmission(amplitude: NDArray[np.float64], phase: NDArray[np.float64]) -> NDArray[np.complex64]:
    return np.asarray(amplitude * np.exp(1j * phase), dtype=np.complex64)


def _blurred(image: NDArray[np.float64], blur_px: float) -> NDArray[np.float64]:
    return ndimage.gaussian_filter(image, blur_px, mode="reflect") if blur_px > 0 else image


def _segment(row: int, column: int, end_row: int, end_column: int) -> tuple[list[int], list[int]]:
    import skimage.draw

    line: Callable[..., Any] = skimage.draw.line
    rows, columns = line(row, column, end_row, end_column)
    return rows, columns


_DRAWN: Mapping[type[Any], Callable[[Any, int], NDArray[np.complex64]]] = {
    DeadLeaves: dead_leaves,
    Lines: lines,
    GaussianField: gaussian_field,
    SiemensStar: siemens_star,
    Picture: picture,
}
