"""Lanes in lockstep: processes that do a unit of work each, then wait until the others have had their turn.

What else a shared machine does meets neighbours alike, so two lanes are compared turn by turn. A lane calls
its :class:`Pause` after every unit; the driver calls :func:`lockstep`. A lane prints a line of JSON for every
unit, and a last one with its own figures; a line to it is its turn, the end of its input sets it free.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from harness.plan import worker_environment

ROOT = Path(__file__).resolve().parents[1]

Figures = dict[str, float]
"""What a lane itself says at its end, by name."""


@dataclass(frozen=True)
class Lane:
    """What is run: a lane of ``benchmarks.lanes`` under a profile (None: none) with some threads."""

    name: str
    profile: str | None = "strict"
    threads: int = 1

    def __str__(self) -> str:
        return f"{self.name}, {self.profile or 'no profile'}, threads {self.threads}"


@dataclass(frozen=True)
class Unit:
    """What a lane did in one turn: groups, patches or GFLOP, in so much time; waiting does not count."""

    amount: float
    cpu_s: float
    wall_s: float

    @property
    def per_cpu_second(self) -> float:
        """The rate by processor time."""
        return self.amount / self.cpu_s

    @property
    def per_second(self) -> float:
        """The rate by the clock."""
        return self.amount / self.wall_s


Turn = Mapping[Lane, Unit]
"""What every lane did in one turn of all."""


@dataclass(frozen=True)
class Round:
    """What fresh processes did in lockstep: turn by turn, and what each told at its end."""

    turns: Sequence[Turn]
    figures: Mapping[Lane, Figures]


class Pause:
    """A lane's side: called after a unit of work it tells what that took, and returns at the next turn.

    The first unit counts from the start of the process: all that comes once. When the input has ended nobody
    waits any more. The standard output is the driver's, so what else is printed goes to the standard error.
    """

    def __init__(self) -> None:
        self.units: list[Unit] = []
        self._driver: TextIO = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._cpu, self._wall = 0.0, time.monotonic()

    def __call__(self, amount: float, *, cpu_s: float | None = None, wall_s: float | None = None) -> None:
        """Tell and wait; the times are those since the turn began, unless they are given."""
        cpu, wall = time.process_time() - self._cpu, time.monotonic() - self._wall
        self.units.append(Unit(amount, cpu if cpu_s is None else cpu_s, wall if wall_s is None else wall_s))
        self._tell(dataclasses.asdict(self.units[-1]))
        sys.stdin.readline()
        self._cpu, self._wall = time.process_time(), time.monotonic()

    def end(self, figures: Figures) -> None:
        """Tell the lane's own figures, the last that is told."""
        self._tell(figures)

    def _tell(self, message: Figures) -> None:
        self._driver.write(json.dumps(message) + "\n")
        self._driver.flush()


class _Process:
    """The driver's side of one lane, which is killed when its ``with`` block is left."""

    def __init__(self, lane: Lane, steps: int) -> None:
        caller = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
        environment = worker_environment(lane.profile or "strict", lane.threads, caller, str(ROOT))
        if lane.profile is not None:
            environment["BENCHMARK_PROFILE"] = lane.profile
        command = [sys.executable, "-m", "benchmarks.lanes", lane.name, str(steps)]
        self._lane = lane
        self._popen = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._turns, self._told = self._popen.stdin, self._popen.stdout

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._popen.kill()
        self._popen.wait()
        self._told.close()
        with contextlib.suppress(BrokenPipeError):
            self._turns.close()

    def unit(self) -> Unit:
        """Wait for what the lane did."""
        return Unit(**self._read())

    def turn(self) -> Unit:
        """Give the lane its turn, and wait for what it did."""
        with contextlib.suppress(BrokenPipeError):  # what it left is told by reading
            self._turns.write("\n")
            self._turns.flush()
        return self.unit()

    def end(self) -> Figures:
        """Set the lane free, and wait for what it tells at its end."""
        self._turns.close()
        figures = self._read()
        for line in self._told:
            figures = json.loads(line)
        if self._popen.wait() != 0:
            self._fail()
        return figures

    def _read(self) -> Figures:
        line = self._told.readline()
        if not line:
            self._fail()
        message: Figures = json.loads(line)
        return message

    def _fail(self) -> None:
        status = self._popen.wait()
        how = f"was killed by signal {-status}" if status < 0 else f"left with exit status {status}"
        sys.exit(f"the lane ({self._lane}) {how} before it was done; its own words, if any, stand above")


def lockstep(lanes: Sequence[Lane], steps: int) -> Round:
    """Start each lane, let all do so many units in turns, and end them: never are two at work at a time."""
    with contextlib.ExitStack() as stack:
        processes: dict[Lane, _Process] = {}
        for lane in lanes:
            processes[lane] = stack.enter_context(_Process(lane, steps))
            processes[lane].unit()  # start-up and all that comes once
        turns = [{lane: process.turn() for lane, process in processes.items()} for _ in range(steps)]
        return Round(turns, {lane: process.end() for lane, process in processes.items()})


def measure(lane: Lane, steps: int) -> Figures:
    """Run a lane by itself from start to end, and return what it tells then."""
    with _Process(lane, steps) as process:
        return process.end()
