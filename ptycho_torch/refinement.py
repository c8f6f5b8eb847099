"""Refine an object, and on request the probe, by gradient steps through the forward model.

No network takes part: what is minimised is the distance of the predicted diffraction from the measured one.
Frames are visited in keyed batches. Each batch gives a gradient, preconditioned by the illumination, and the
lengths of the steps that its linearised model finds best. A pass that goes worse than the best one before is
taken back and tried again with fewer, larger batches and shorter steps, and that is recorded.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptycho_torch.canvas import ScanCanvas
from ptycho_torch.errors import DataError
from ptycho_torch.exact.seeding import generator
from ptycho_torch.measured_frames import MeasuredFrames, far_field, intensity
from ptycho_torch.misfits import MISFITS, Misfit, amplitudes
from ptycho_torch.phase_slope import Slope, SlopeFit, without_slope
from ptycho_torch.physics.modes import orthogonal_modes, with_added_modes
from ptycho_torch.readers.scan import Scan
from ptycho_torch.refine_config import RefineConfig
from ptycho_torch.refine_record import DivergenceError, Pass, Refined
from ptycho_torch.step_lengths import best_lengths, floored, quotient
from ptycho_torch.stitching import Reconstruction

__all__ = ["refine"]

logger = logging.getLogger(__name__)

RISE = 0.01
"""A pass is taken back when its misfit exceeds the best one so far by this fraction; the order of the frames
alone, which differs from pass to pass, moves it by less."""
MOST_TAKEN_BACK = 10
LEVELLED_BEFORE, LEVELLED_AFTER = 3, 3
"""How often the image's slope is taken out before the first pass, and after how many passes once more."""


@dataclass
class _State:
    obj: Tensor
    probe: Tensor
    obj_velocity: Tensor
    probe_velocity: Tensor
    slope: Slope | None

    def copy(self) -> _State:
        return _State(**vars(self))  # no step changes a tensor in its place


def refine(
    scan: Scan,
    config: RefineConfig,
    *,
    counts_per_amplitude: float,
    seed: int,
    start: tuple[Reconstruction, NDArray[np.complex64]] | None = None,
    frames: NDArray[np.int64] | None = None,
    support: NDArray[np.bool_] | None = None,
    report: Callable[[Pass, int], None] = lambda done, total: None,
) -> Refined:
    """Refine the object of a scan, and the probe where `config` asks for it.

    Parameters
    ----------
    scan
        The frames; masked pixels count for nothing. Only rows of it are read.
    config
        How.
    counts_per_amplitude
        Factor from the scan's amplitude to the square root of counts.
    seed
        Decides in what order frames are visited.
    start
        Image and probe to start from; None starts from an object of one value and the scan's own probe.
    frames
        The frames to use; None uses all.
    support
        Where the probe may be other than zero, (N, N), at the start and in every step; None: everywhere.
    report
        Called after every pass, with the pass and the number of passes in all.

    Raises
    ------
    DataError
        There are no frames, or they are dark, or the probe is within its support.
    DivergenceError
        The misfit rises however short the steps.
    """
    used = np.arange(scan.n_frames, dtype=np.int64) if frames is None else np.asarray(frames, dtype=np.int64)
    return _Refinement(scan, config, counts_per_amplitude, seed, used, start, support).run(report)


class _Refinement:
    def __init__(
        self,
        scan: Scan,
        config: RefineConfig,
        counts_per_amplitude: float,
        seed: int,
        frames: NDArray[np.int64],
        start: tuple[Reconstruction, NDArray[np.complex64]] | None,
        support: NDArray[np.bool_] | None,
    ) -> None:
        self.config, self.seed = config, seed
        self.frames = MeasuredFrames(scan, counts_per_amplitude, frames)
        self.canvas = ScanCanvas(scan.corners_px, scan.side_px)
        self.misfit: Misfit = MISFITS[config.gradient]
        self._support = None if support is None else torch.from_numpy(support)
        probe = scan.probe if start is None else start[1]
        probe = probe if support is None else np.where(support, probe, np.complex64(0))
        if not probe.any():
            raise DataError(f"{scan.source}: the probe is dark wherever it may be other than zero")
        probe = with_added_modes(probe, config.modes)
        self.state = self._begin(scan, probe, None if start is None else start[0])
        self.batches, self.rate = min(config.batches, len(frames)), 1.0

    def _begin(self, scan: Scan, probe: NDArray[np.complex64], image: Reconstruction | None) -> _State:
        waves = torch.from_numpy(np.ascontiguousarray(probe))
        light = float(intensity(waves).sum(dtype=torch.float64))
        mean_counts = self.frames.mean_counts()
        if not mean_counts > 0:
            raise DataError(f"{scan.source}: there are no frames to refine on, or all of them are dark")
        level = complex(math.sqrt(mean_counts / light))
        if image is None:
            obj = torch.full(self.canvas.frame.shape, level, dtype=torch.complex64)
        else:
            obj = self.canvas.lay(image.object, image.frame_origin_px, level)
            covered = self.canvas.lay(image.coverage, image.frame_origin_px, 0).real > 0
            obj = torch.where(covered, obj, torch.full_like(obj, level))
        slope = None if image is None or self.config.probe else (0.0, 0.0)
        return _State(obj, waves, torch.zeros_like(obj), torch.zeros_like(waves), slope)

    def run(self, report: Callable[[Pass, int], None]) -> Refined:
        best, is_levelled = self._misfit_now(), self.state.slope is not None
        best = self._levelled(best) if is_levelled else best
        passes = [Pass(0, best, 0.0, 0.0, self.batches, self.rate, False)]
        done = taken_back = 0
        while done < self.config.passes:
            before = self.state.copy()
            if is_levelled and 0 < done <= LEVELLED_AFTER:
                self._level()
            one = self._judged(self._pass(done + 1, taken_back))
            if not one.misfit <= best * (1 + RISE):
                taken_back += 1
                one = self._take_back(one, best, before, taken_back)
            else:
                best, done = min(best, one.misfit), done + 1
                report(one, self.config.passes)
            passes.append(one)
        return self._ended(tuple(passes))

    def _judged(self, one: Pass) -> Pass:
        # A batch's misfit is of before its step, so only the next one sees what the last step did: none does
        # after the last pass, and where one batch is all there is, the next pass could not take it back.
        is_seen_later = one.batches > 1 and one.number < self.config.passes
        return one if is_seen_later else dataclasses.replace(one, misfit=self._misfit_now())

    def _take_back(self, one: Pass, best: float, before: _State, taken_back: int) -> Pass:
        zeros = torch.zeros_like(before.obj), torch.zeros_like(before.probe)
        self.state = _State(before.obj, before.probe, *zeros, before.slope)
        self.batches, self.rate = max(1, self.batches // 2), self.rate / 2
        sentence = f"pass {one.number} diverged, its misfit is {one.misfit:.4g} after {best:.4g}"
        if taken_back > MOST_TAKEN_BACK:
            raise DivergenceError(
                f"{sentence}, with steps of {one.rate:.2g} times the given ones: lower refine.object_rate "
                "and refine.probe_rate, and check probe, positions and units"
            )
        told = "%s: taken back, and again with %d batches and %g times the given steps"
        logger.warning(told, sentence, self.batches, self.rate)
        return Pass(**{**vars(one), "is_taken_back": True})

    def _misfit_now(self) -> float:
        total = 0.0
        for frames in self.frames.blocks():
            waves = self.canvas.extract(self.state.obj, frames)[:, None] * self.state.probe
            measured = self.frames.amplitude(frames)
            total += self.misfit(intensity(far_field(waves)), measured, self.frames.used)[1]
        return total / self.frames.num_values

    def _levelled(self, misfit: float) -> float:
        """Level the object that it begins with, unless that makes its misfit worse, and return the misfit."""
        before = self.state.copy()
        for _ in range(LEVELLED_BEFORE):
            self._level()
        levelled = self._misfit_now()
        self.state = self.state if levelled < misfit else before
        return min(levelled, misfit)

    def _level(self) -> None:
        """Take the phase slope out of the object that its frames do not have, as far as one step tells."""
        state, frames = self.state, self.frames
        fit, taken = SlopeFit(frames.used), state.slope or (0.0, 0.0)
        for block in frames.blocks():
            waves = self.canvas.extract(state.obj, block)[:, None] * state.probe
            field = far_field(waves)
            fit.add(waves, field, *amplitudes(intensity(field), frames.amplitude(block), frames.used))
        found = fit.slope()
        state.obj, state.obj_velocity = (without_slope(one, found) for one in (state.obj, state.obj_velocity))
        state.slope = taken[0] + found[0], taken[1] + found[1]

    def _pass(self, number: int, taken_back: int) -> Pass:
        order = generator(self.seed, "refine", number, taken_back).permutation(self.frames.numbers)
        done = (number - 1) / max(self.config.passes - 1, 1)
        factor = self.rate * (1 - (1 - self.config.last_rate) * done)
        total, steps = 0.0, []
        for place, batch in enumerate(np.array_split(order, self.batches)):
            # With all of it from the first step on, the first pass from a flat object may diverge.
            momentum = self.config.momentum * (place / self.batches if number == 1 else 1)
            moves_probe = self.config.probe and number > self.config.probe_after
            loss, step = self._batch(np.sort(batch), factor, momentum, moves_probe=moves_probe)
            total += loss
            steps.append(step)
        means = [math.fsum(step[kind] for step in steps) / len(steps) for kind in (0, 1)]
        return Pass(
            number, total / self.frames.num_values, means[0], means[1], self.batches, self.rate, False
        )

    def _batch(
        self, batch: NDArray[np.int64], factor: float, momentum: float, *, moves_probe: bool
    ) -> tuple[float, tuple[float, float]]:
        state, config = self.state, self.config
        obj_gradient, probe_gradient = torch.zeros_like(state.obj), torch.zeros_like(state.probe)
        probe_weight = torch.zeros(state.probe.shape[-2:])
        mirrored = state.probe.conj().resolve_conj()
        total, first = 0.0, None
        for frames in self.frames.blocks(batch):
            patches = self.canvas.extract(state.obj, frames)
            residual, loss = self._residual(patches, frames)
            total += loss
            obj_gradient += self.canvas.place((mirrored * residual).sum(dim=1), frames)
            if moves_probe:
                probe_gradient += (patches.conj().resolve_conj()[:, None] * residual).sum(dim=0)
                probe_weight += intensity(patches)
            first = (frames, patches, residual) if first is None else first
        if first is None:
            return 0.0, (0.0, 0.0)
        light = self.canvas.spread(intensity(state.probe), batch)
        obj_move = obj_gradient / floored(light, config.weight_floor)
        probe_move = None
        if moves_probe:
            probe_move = self._held(probe_gradient / floored(probe_weight, config.weight_floor))
        best = self._best_steps(*first, obj_move, probe_move)
        steps = config.object_rate * factor * best[0], config.probe_rate * factor * best[1]
        self._move(obj_move, probe_move, steps, momentum)
        return total, steps

    def _residual(self, patches: Tensor, frames: NDArray[np.int64]) -> tuple[Tensor, float]:
        field = far_field(patches[:, None] * self.state.probe)
        ratio, loss = self.misfit(intensity(field), self.frames.amplitude(frames), self.frames.used)
        return torch.fft.ifft2(field * ratio[:, None], norm="ortho"), loss

    def _held(self, probe_move: Tensor) -> Tensor:
        return probe_move if self._support is None else torch.where(self._support, probe_move, 0)

    def _best_steps(
        self,
        frames: NDArray[np.int64],
        patches: Tensor,
        residual: Tensor,
        obj_move: Tensor,
        probe_move: Tensor | None,
    ) -> tuple[float, float]:
        by_object = self.canvas.extract(obj_move, frames)[:, None] * self.state.probe
        by_probe = None if probe_move is None else patches[:, None] * probe_move
        return best_lengths(by_object, by_probe, residual)

    def _move(
        self, obj_move: Tensor, probe_move: Tensor | None, steps: tuple[float, float], momentum: float
    ) -> None:
        state = self.state
        state.obj_velocity = momentum * state.obj_velocity - steps[0] * obj_move
        state.obj = state.obj + state.obj_velocity
        if probe_move is None:
            return
        power = float(intensity(state.probe).sum(dtype=torch.float64))
        state.probe_velocity = momentum * state.probe_velocity - steps[1] * probe_move
        moved = state.probe + state.probe_velocity
        # Object and probe share one scale that no frame can tell: the probe keeps its power.
        factor = math.sqrt(quotient(power, float(intensity(moved).sum(dtype=torch.float64))))
        state.probe = moved * factor
        state.obj = state.obj / factor if factor > 0 else state.obj

    def _ended(self, passes: tuple[Pass, ...]) -> Refined:
        probe = orthogonal_modes(self.state.probe.numpy())
        light = intensity(self.state.probe)
        coverage = (self.canvas.spread(light, self.frames.numbers) / light.max()).numpy()
        obj = np.where(coverage > 0, self.state.obj.numpy(), np.complex64(0))
        origin = np.asarray(self.canvas.frame.origin_px, dtype=np.int64)
        image = Reconstruction(obj, coverage, origin, len(self.frames.numbers), len(self.frames.numbers))
        return Refined(image, probe, passes, self.state.slope)
