"""What the harness says when it stops: problems with their place in a file, and the exit codes."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ptycho_torch.errors import PtychoError

if TYPE_CHECKING:
    from ptycho_torch.layers import Place

__all__ = ["ExitCode", "HarnessError", "Problem", "SpecError", "UserError"]


class ExitCode(enum.IntEnum):
    """Exit codes of every command."""

    OK = 0
    RUN_FAILED = 1
    BAD_INPUT = 2
    DIFFERS = 3
    INTERRUPTED = 130
    TERMINATED = 143


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong with what the user wrote.

    Parameters
    ----------
    sentence
        What is wrong, the value, the legal values and the likely cure.
    place
        File, line and column of the offending text; None when it stands in no file.
    key
        The dotted key it concerns (``training.n_groups``), or empty.
    source_line
        The line of text at `place`, shown with a caret under the column.
    """

    sentence: str
    place: Place | None = None
    key: str = ""
    source_line: str | None = None

    def render(self) -> str:
        """Format as ``file:line:column key: sentence`` with a caret line under the place."""
        head = " ".join(part for part in (str(self.place) if self.place else "", self.key) if part)
        text = f"{head}: {self.sentence}" if head else self.sentence
        if self.source_line is None or self.place is None:
            return text
        line, column = _window(self.source_line, self.place.column)
        return f"{text}\n    {line}\n    {' ' * (column - 1)}^"


def _window(line: str, column: int, width: int = 100) -> tuple[str, int]:
    """Cut a long line (…) to the part around a 1-based column; control characters become spaces."""
    printable = "".join(character if character.isprintable() else " " for character in line.rstrip("\r\n"))
    column = max(1, min(column, len(printable) + 1))
    start = max(0, min(column - 1 - width // 2, len(printable) - width))
    shown = printable[start : start + width]
    before = "…" if start > 0 else ""
    after = "…" if start + width < len(printable) else ""
    return f"{before}{shown[len(before) : len(shown) - len(after)]}{after}", column - start


class HarnessError(PtychoError):
    """Base of the harness's own errors; ``exit_code`` is what the command line returns for it."""

    exit_code: ExitCode = ExitCode.RUN_FAILED


class UserError(HarnessError):
    """The user asked for something that cannot be done as it stands; exit code 2, never a stack trace."""

    exit_code = ExitCode.BAD_INPUT


class SpecError(UserError, ValueError):
    """A spec is wrong; all its problems are reported together.

    Parameters
    ----------
    problems
        Every problem found, in the order of the file.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problem.render() for problem in self.problems))
