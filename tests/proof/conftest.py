"""What proofs share: the forks, a count of points attacked and found equal, and the table at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.proof.forked import Forks

_KEY = "proof"


class Tally:
    """Counts the points at which something was attacked, and those where all was as it must be."""

    def __init__(self, what: str, known: list[tuple[str, object]]) -> None:
        self._what, self._known = what, known
        self._points = 0
        self._problems: list[str] = []

    def point(self, name: str, problems: Sequence[str]) -> None:
        """Count a point and what was wrong there."""
        self._points += 1
        if problems:
            self._problems.append(f"{name}: {'; '.join(problems)}")

    def close(self) -> None:
        """Report, and fail when anything was wrong."""
        equal = self._points - len(self._problems)
        self._known.append((_KEY, (self._what, self._points, equal)))
        assert self._points > 0
        assert not self._problems, "\n".join(self._problems)


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """The count of a test; its first docstring line says what is attacked."""
    what = (request.node.obj.__doc__ or "").strip().splitlines()[0].rstrip(".")
    return Tally(what, request.node.user_properties)


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    server = Forks(tmp_path_factory.mktemp("forks"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("proof")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was attacked, at how many points, how many came out equal, and in how many seconds."""
    rows: dict[str, list[float]] = {}
    for report in (one for reports in terminalreporter.stats.values() for one in reports):
        if getattr(report, "when", "") != "call":
            continue
        for key, found in report.user_properties:
            if key == _KEY:
                what, points, equal = found
                row = rows.setdefault(what, [0, 0, 0])
                for index, value in enumerate((points, equal, report.duration)):
                    row[index] += value
    if not rows:
        return
    width = max(map(len, rows))
    terminalreporter.write_sep("=", "what was attacked")
    terminalreporter.write_line(f"{'':<{width}}  points   equal  seconds")
    for what, (points, equal, seconds) in rows.items():
        terminalreporter.write_line(f"{what:<{width}}  {points:6.0f}  {equal:6.0f}  {seconds:7.0f}")
