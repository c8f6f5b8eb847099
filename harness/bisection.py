"""The first step and the first tensor where two runs part, and what may be the cause, likeliest first."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from harness.causes import Cause, rank
from harness.manifest import DamagedError, Manifest
from harness.store import file_digest
from harness.suspects import Area, Suspect, suspects
from harness.verdict import Verdict
from harness.verification import damage_of, verdict_on
from ptycho_torch.trace import TRACE, Parting, TraceLine, find_parting, read_trace, state_before

if TYPE_CHECKING:
    from harness.replay import Replay

__all__ = ["Bisection", "Replayer", "Side", "bisect_runs"]

Replayer: TypeAlias = "Callable[[Side, int], Replay]"
"""Carries a run out once more up to the batch of this number."""

_TOLD_BY_THE_TRACE = ("rate", "length", "epoch", "batch")
"""What a replay could name no better."""

_KEPT_BESIDE = ("checkpoints/", "kept.")
"""Beginnings of results that a checkpoint holds beside what the trace tells."""


@dataclass(frozen=True)
class Side:
    """One of two runs: what it is called, its folder, its record, its trace, and what is damaged.

    Raises
    ------
    DamagedError
        The trace is not what the manifest says it is.
    """

    name: str
    path: Path
    manifest: Manifest
    lines: Sequence[TraceLine]
    damage: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path, manifest: Manifest) -> Side:
        """Read a run's trace and make sure that it is the recorded one."""
        recorded = manifest.files.get(TRACE)
        if recorded is not None and (
            not (path / TRACE).is_file() or file_digest(path / TRACE) != recorded.sha256
        ):
            raise DamagedError(f"{path / TRACE} is damaged: it is not the recorded one, so it proves nothing")
        try:
            lines = read_trace(path / TRACE)
        except ValueError as error:
            raise DamagedError(f"{path / TRACE} is damaged: {error}") from error
        return cls(path.name, path, manifest, lines, damage_of((path, manifest)))


@dataclass(frozen=True)
class Bisection:
    """Where two runs part, and why.

    Parameters
    ----------
    first, second
        Names of the runs.
    is_bitwise
        Whether everything that came out is the same.
    parting
        The first line of the traces that differs; None where none does.
    step, epoch, batch
        Optimizer steps done before the batch in which the first tensor differs, and which batch it is; None
        where the trainings are the same.
    tensor
        The first tensor that differs, in the order of computation: ``before/`` (weights and optimizer slots
        with which the batch began), ``batch/``, ``activation/``, ``loss``, ``gradient/``, ``rate``,
        ``after/``; the part of a checkpoint (``checkpoints/last.ckpt: ...``) where that is all that differs;
        ``products`` where only results differ, empty where nothing does.
    tensors
        All tensors that differ there.
    told_by
        ``trace``, ``replay`` or ``checkpoint``: how the tensor is known.
    replays
        What each run showed when it was carried out once more; by its name.
    notes
        What could not be had, a sentence each.
    causes
        Every difference, the likeliest cause first.
    unproven
        Why the runs cannot be called the same although no step differs: a file was altered, or a run has not
        come to its end.
    """

    first: str
    second: str
    is_bitwise: bool
    parting: Parting | None
    step: int | None
    epoch: int | None
    batch: int | None
    tensor: str
    tensors: tuple[str, ...]
    told_by: str
    replays: Mapping[str, Replay]
    notes: tuple[str, ...]
    causes: tuple[Cause, ...]
    unproven: str = ""


@dataclass(frozen=True)
class _Found:
    line: int
    tensors: tuple[str, ...]
    told_by: str = "trace"
    event: Suspect | None = None


def bisect_runs(first: Side, second: Side, replayer: Replayer | None) -> Bisection:
    """Find the first step and tensor where two runs part, and rank what may be the cause.

    Parameters
    ----------
    first, second
        The runs.
    replayer
        Carries one of them out once more; None leaves it at what the traces say.

    Raises
    ------
    DamagedError
        One run has no trace, or a checkpoint cannot be read.
    """
    for side in (first, second):
        if not side.lines:
            raise DamagedError(f"{side.name} has no trace, so nothing is known of its steps: see compare")
    damage = (*first.damage, *second.damage)
    altered = f"nothing is proven, files were altered: {damage[0]}" if damage else ""
    verdict = verdict_on(*((side.path, side.manifest) for side in (first, second)), damage=damage)
    parting = find_parting(first.lines, second.lines)
    differing = suspects(first.manifest, second.manifest, (first.name, second.name))
    search = _Search(first, second, replayer)
    is_open = dataclasses.replace(verdict, parting=parting).kind == "unfinished"
    found = None if parting is None or is_open else search.look(parting)
    tensors, told_by = ((), "") if is_open else _results(verdict)
    line = None
    if found is not None:
        tensors, told_by = found.tensors, found.told_by
        line = max((first.lines, second.lines), key=len)[found.line]
        differing = (*differing, *([found.event] if found.event else []))
    tensor = tensors[0] if tensors else ""
    step = None if found is None else _steps_before(max((first.lines, second.lines), key=len), found.line)
    return Bisection(
        first=first.name,
        second=second.name,
        is_bitwise=verdict.is_bitwise and parting is None,
        parting=parting,
        step=step,
        epoch=None if line is None else line.epoch,
        batch=None if line is None else line.batch,
        tensor=tensor,
        tensors=() if tensor == "products" else tensors,
        told_by=told_by,
        replays=search.replays,
        notes=tuple(search.notes),
        causes=rank(differing, tensor, step or 0, search.shown) if tensor else (),
        unproven=altered or (verdict.headline if is_open else ""),
    )


def _results(verdict: Verdict) -> tuple[tuple[str, ...], str]:
    if not verdict.results:
        return (), ""
    if all(name.startswith(_KEPT_BESIDE) for name in verdict.results):
        return verdict.results, "checkpoint"
    return ("products",), ""


def _steps_before(lines: Sequence[TraceLine], index: int) -> int:
    return lines[index - 1].step if index else 0


class _Search:
    def __init__(self, first: Side, second: Side, replayer: Replayer | None) -> None:
        self.sides = first, second
        self.replays: dict[str, Replay] = {}
        self.notes: list[str] = []
        self.shown: tuple[Area, ...] = ()
        self._replayer = replayer

    def look(self, parting: Parting) -> _Found:
        at = parting.line
        known = self._known(parting)
        if parting.kind in _TOLD_BY_THE_TRACE or (parting.kind.startswith("before/") and at == 0):
            return known
        if self._replayer is None:
            self.notes.append("nothing was carried out once more: the tensor is what the traces say")
            return known
        for batch in self._batches(known):
            found = self._replayed(self._replayer, batch, known)
            if found is not None:
                return found
        return known

    def _known(self, parting: Parting) -> _Found:
        if not parting.kind.startswith("before/"):
            return _Found(parting.line, (parting.kind,))
        return _Found(parting.line, tuple(f"before/{name}" for name in self._states_differ(parting.line)))

    def _batches(self, known: _Found) -> tuple[int, ...]:
        line, tensor = known.line, known.tensors[0]
        if tensor == "gradient":
            return tuple(range(self._window_begins(line), line + 1))
        # A whole step changes every weight; what changed one tensor alone came between two steps.
        if not tensor.startswith("before/") or len(known.tensors) == 1:
            return (line,)
        return (*range(self._window_begins(line - 1), line), line)

    def _window_begins(self, line: int) -> int:
        # The trace has a gradient where a step follows; it was gathered since the batch after the last one.
        lines = self.sides[0].lines
        while line > 0 and lines[line - 1].gradient is None:
            line -= 1
        return line

    def _replayed(self, replayer: Replayer, batch: int, known: _Found) -> _Found | None:
        for side in self.sides:
            self.replays[side.name] = replayer(side, batch)
        shown = [self.replays[side.name] for side in self.sides]
        for side, one in zip(self.sides, shown, strict=True):
            if one.problem:
                self.notes.append(f"{side.name} could not be carried out once more: {one.problem}")
            elif not one.repeats and one.conditions:
                self.shown = ("environment",)
                self.notes.append(
                    f"{side.name} does something else under other conditions than its own "
                    f"({'; '.join(one.conditions)}), so its tensors cannot be seen here"
                )
        if any(one.problem or (not one.repeats and one.conditions) for one in shown):
            return known
        strays = [(side, one) for side, one in zip(self.sides, shown, strict=True) if not one.repeats]
        if strays:
            return self._event(
                *min(strays, key=lambda pair: pair[1].parting.line if pair[1].parting else batch)
            )
        differing = tuple(_differing(shown[0].seen, shown[1].seen))
        return _Found(batch, differing, "replay") if differing else None

    def _event(self, side: Side, shown: Replay) -> _Found:
        parting = shown.parting
        if parting is None:
            raise DamagedError(
                f"the replay of {side.name} ended before the batch, and its trace does not say why"
            )
        sentence = (
            f"{side.name} does not do again what it has recorded: under its own conditions the training "
            f"goes on otherwise at step {parting.step + 1} ({parting.kind})"
        )
        tensors: tuple[str, ...] = (parting.kind,)
        if parting.kind.startswith("before/"):
            tensors = tuple(f"before/{name}" for name in self._states_differ(parting.line)) or tensors
        elif parting.kind == "gradient":
            tensors = self._gradients_by_their_effect(parting.line) or tensors
        return _Found(parting.line, tensors, "trace", Suspect("event", side.name, sentence, parting.step))

    def _states_differ(self, line: int) -> list[str]:
        one, other = (state_before(side.lines, line) for side in self.sides)
        return _differing(one, other)

    def _gradients_by_their_effect(self, line: int) -> tuple[str, ...]:
        # The optimizer takes every weight by itself, so one gradient that was another changed one weight.
        if not all(line + 1 < len(side.lines) for side in self.sides):
            return ()
        names = {name: None for name in self._states_differ(line + 1) if not name.startswith("optimizer/")}
        return tuple(f"gradient/{name}" for name in names)


def _differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return [
        name
        for name in (*one, *(name for name in other if name not in one))
        if one.get(name) != other.get(name)
    ]
