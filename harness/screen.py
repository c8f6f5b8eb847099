"""What a person sees: progress while a run goes on, and one screen when it has ended."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from harness.called import called, shown
from harness.progress import read_progress
from harness.quality import quality_rows
from harness.store import BEGUN, MANIFEST, is_refused

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from rich.text import Text

    from harness.run import Finished

__all__ = [
    "DownloadBar",
    "Line",
    "Position",
    "closing_lines",
    "duration",
    "onward",
    "picture_of",
    "print_closing",
    "watching",
]

_LOOK_SECONDS = 0.5
_LINE_SECONDS = 10.0


def duration(seconds: float) -> str:
    """Say a duration as a person would: ``45 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


@dataclass(frozen=True)
class Position:
    """How far a run is: its phase in words, the fraction of it that is done, and the last loss."""

    phase: str
    fraction: float
    detail: str

    @classmethod
    def from_progress(cls, facts: Mapping[str, Any]) -> Position:
        """Read the worker's progress file."""
        epoch, epochs = int(facts.get("epoch") or 0), int(facts.get("epochs") or 0)
        step, steps = int(facts.get("step") or 0), int(facts.get("steps") or 0)
        parts = [f"epoch {min(epoch + 1, epochs)}/{epochs}"] if epochs else []
        loss = facts.get("loss")
        if isinstance(loss, int | float):
            parts.append(f"loss {loss:.4g}")
        return cls(
            str(facts.get("phase") or "starting"), min(step / steps, 1.0) if steps else 0.0, ", ".join(parts)
        )


class Line(Protocol):
    """One way to show a position."""

    def show(self, position: Position, seconds_left: float | None) -> None:
        """Show where the run is."""
        ...


class _Plain:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._phase = ""
        self._next = 0.0

    def show(self, position: Position, seconds_left: float | None) -> None:
        now = time.monotonic()
        if position.phase == self._phase and now < self._next:
            return
        self._phase, self._next = position.phase, now + _LINE_SECONDS
        left = "" if seconds_left is None or position.fraction == 1 else f", {duration(seconds_left)} left"
        done = f" ({position.fraction:.0%}{left})" if position.fraction > 0 else ""
        detail = f": {position.detail}" if position.detail else ""
        self._stream.write(f"{position.phase}{detail}{done}\n")
        self._stream.flush()


class _Bar:
    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar = bar
        self._task = task

    def show(self, position: Position, seconds_left: float | None) -> None:
        left = "" if seconds_left is None else f"{duration(seconds_left)} left"
        self._bar.update(
            self._task,
            completed=position.fraction,
            description=position.phase,
            detail=position.detail,
            left=left,
        )


class _Watch:
    """Reads the progress file now and then, and works out how long it will take."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._next = 0.0
        self._since: tuple[str, float, float] | None = None

    def __call__(self, run_dir: Path) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _LOOK_SECONDS
        position = Position.from_progress(read_progress(run_dir))
        if self._since is None or self._since[0] != position.phase:
            self._since = (position.phase, now, position.fraction)
        _, began, at = self._since
        gained = position.fraction - at
        left = (now - began) * (1 - position.fraction) / gained if gained > 0 else None
        self._line.show(position, left)


@contextlib.contextmanager
def watching(stream: TextIO | None = None) -> Iterator[_Watch]:
    """Show progress: a bar with the time left on a terminal, now and then a line elsewhere."""
    stream = sys.stderr if stream is None else stream
    if not stream.isatty():
        yield _Watch(_Plain(stream))
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[detail]}"),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=Console(file=stream), transient=True) as bar:
        yield _Watch(_Bar(bar, bar.add_task("starting", total=1.0, detail="", left="")))


class DownloadBar:
    """Says how far a download is: at every tenth of the whole, on one line where there is a terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.total = 0
        self._stream = sys.stderr if stream is None else stream
        self._done = 0
        self._said = -1

    def update(self, step: int) -> None:
        """Count bytes that have arrived."""
        self._done = min(self._done + step, self.total) if self.total else self._done + step
        tenth = 10 * self._done // self.total if self.total else 0
        if tenth > self._said:
            self._said = tenth
            end = "\r" if self._stream.isatty() and tenth < 10 else "\n"
            self._stream.write(f"downloading: {self._done / 1e6:.1f} of {self.total / 1e6:.1f} MB{end}")
            self._stream.flush()

    def reset(self) -> None:
        """Begin again; what was said is not said again."""
        self._done = 0

    def close(self) -> None:
        """End the report, and be ready for another file."""
        self._said = -1


def picture_of(finished: Finished) -> Path | None:
    """Return the picture to look at first: the phase, else any."""
    pictures = [made.path for made in finished.manifest.products if made.path.endswith(".png")]
    pictures.sort(key=lambda path: (Path(path).stem != "phase", "phase" not in path, path))
    return finished.path / pictures[0] if pictures else None


def closing_lines(finished: Finished) -> Iterator[tuple[str, str]]:
    """Yield what a person wants to know of an ended run, as label and text."""
    manifest, path = finished.manifest, shown(finished.path)
    yield "status", manifest.status + (f": {manifest.error}" if manifest.error else "")
    picture = picture_of(finished)
    if picture is not None:
        yield "picture", shown(picture)
    comparison = finished.path / "products" / "comparison.png"
    if comparison.is_file():
        yield "pictures", shown(comparison)
    yield from quality_rows(manifest)
    again = manifest.refinement.get("taken_back")
    if isinstance(again, list) and again:
        yield (
            "diverged",
            f"{len(again)} passes of the refinement, taken back: see products/refined/passes.csv",
        )
    seconds = sum(attempt.seconds for attempt in manifest.attempts)
    cpu = manifest.cpu_seconds
    yield "time", duration(seconds) + (f" ({cpu:.0f} CPU-seconds)" if cpu is not None else "")
    yield "folder", path
    for label, name in (("weights", "checkpoints"), ("products", "products"), ("log", "logs/worker.log")):
        if any(file.startswith(name) for file in manifest.files):
            yield label, f"{path}/{name}"
    digest = manifest.compared.get("final_tensor_digest")
    if digest:
        yield "digest", f"{digest} (of the weights)"
    yield from onward(finished.path, manifest.status)


def onward(run_dir: Path, status: str) -> Iterator[tuple[str, str]]:
    """Yield what can be done with a run that has ended, as label and command, the next thing to do first.

    Parameters
    ----------
    run_dir, status
        Its folder, and how it ended; of one that was broken off there is nothing yet to verify,
        and one that can only fail again is neither continued nor repeated.
    """
    if status == "failed" and is_refused(run_dir):
        return
    if status in {"interrupted", "failed"} and (run_dir / BEGUN).is_file():
        yield "continue", called("resume", run_dir)
    if (run_dir / MANIFEST).is_file():
        yield "again", called("rerun", run_dir)
    if status in {"completed", "collapsed"}:
        yield "check", called("verify", run_dir)


def print_closing(finished: Finished, stream: TextIO | None = None) -> None:
    """Print the closing screen, with a small picture on a colour terminal."""
    stream = sys.stdout if stream is None else stream
    picture = picture_of(finished)
    if stream.isatty() and picture is not None:
        from rich.console import Console

        console = Console(file=stream)
        drawn = thumbnail(picture) if console.color_system in {"256", "truecolor"} else None
        if drawn is not None:
            console.print(drawn, end="")
    for label, text in closing_lines(finished):
        stream.write(f"{label:<11}{text}\n")
    stream.flush()


def thumbnail(picture: Path, columns: int = 48) -> Text | None:
    """Draw a picture with half blocks for a colour terminal; None where no picture library is installed."""
    try:
        from PIL import Image
    except ImportError:
        return None
    from rich.text import Text

    with Image.open(picture) as image:
        rows = max(2, round(columns * image.height / image.width) // 2 * 2)
        pixels = image.convert("RGB").resize((columns, rows))
    text = Text()
    for row in range(0, rows, 2):
        for column in range(columns):
            upper, lower = pixels.getpixel((column, row)), pixels.getpixel((column, row + 1))
            text.append("▀", style=f"rgb{upper} on rgb{lower}".replace(" ", "").replace("onrgb", " on rgb"))
        text.append("\n")
    return text
