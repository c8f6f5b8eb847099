"""What a reproduction came to, for a person, for a program, and as a page with pictures."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.reproduce.arms import ArmResult, ArmRun
from harness.reproduce.recipe import FigureBlock, Recipe
from harness.reproduce.verdicts import Row, exit_code_of, ours
from harness.screen import duration
from harness.store import render_json, write_durably

__all__ = ["Reproduction", "as_plain", "page", "text_lines", "write_reproduction"]

_PICTURE = "comparison.png"
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid #8886 }
td.reproduced { color: #1a7f37 } td.not-reproduced { color: #cf222e } td.not-comparable { color: #9a6700 }
img { max-width: 100% } figure { margin: 1rem 0 } code { font-size: .9em }
"""


@dataclass(frozen=True)
class Reproduction:
    """A recipe, what came of its arms, and the verdicts.

    Parameters
    ----------
    recipe, results, rows
        The recipe, its arms' results and a row for each published figure.
    is_fast, shortened
        Whether only the fast row was run, and what shortened it.
    date
        When, in UTC.
    """

    recipe: Recipe
    results: tuple[ArmResult, ...]
    rows: tuple[Row, ...]
    is_fast: bool
    shortened: str
    date: str

    @property
    def machines(self) -> tuple[str, ...]:
        """The processors, and the cards, that the runs were made on."""
        environments = [one.manifest.environment for result in self.results for one in result.runs]
        told = (", ".join([one.cpu.model, *(card.name for card in one.gpu)]) for one in environments)
        return tuple(dict.fromkeys(told))

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all runs, those that were reused too."""
        return sum(one.cpu_seconds for result in self.results for one in result.runs)


def as_plain(made: Reproduction) -> dict[str, Any]:
    """Return a reproduction as what ``result.json`` holds."""
    return {
        "version": 1,
        "recipe": made.recipe.name,
        "title": made.recipe.title,
        "source": {**vars(made.recipe.source), "differs": list(made.recipe.source.differs)},
        "is_fast": made.is_fast,
        "shortened": made.shortened,
        "date": made.date,
        "machines": list(made.machines),
        "cpu_seconds": round(made.cpu_seconds, 1),
        "exit_code": int(exit_code_of(made.rows, made.results)),
        "arms": {result.arm.name: _plain_arm(result) for result in made.results},
        "figures": {row.figure.name: _plain_row(row) for row in made.rows},
    }


def _plain_arm(result: ArmResult) -> dict[str, Any]:
    return {
        "title": result.arm.title,
        "spec": result.arm.spec.name,
        "set": [one.text for one in result.arm.overrides],
        "not_run": result.not_run,
        "runs": [
            {
                "seed": one.seed,
                "run": one.path.name,
                "how": one.how,
                "status": one.manifest.status,
                "manifest_digest": one.manifest.manifest_digest,
                "commit": one.manifest.code.commit,
                "cpu_seconds": one.cpu_seconds,
            }
            for one in result.runs
        ],
    }


def _plain_row(row: Row) -> dict[str, Any]:
    return {
        **vars(row.figure.told),
        "values": list(row.values),
        "mean": row.mean,
        "standard_deviation": row.deviation,
        "verdict": row.verdict,
        "why": row.why,
    }


def text_lines(made: Reproduction) -> Iterator[str]:
    """Say what was found, a screen of it."""
    yield f"{'recipe':<11}{made.recipe.name}: {made.recipe.title}"
    yield f"{'source':<11}{made.recipe.source.citation}"
    for sentence in made.recipe.source.differs:
        yield f"{'differs':<11}{sentence}"
    for result in made.results:
        yield f"{'arm':<11}{result.arm.name}: {_arm_in_words(result)}"
    yield f"{'machine':<11}{'; '.join(made.machines) or 'nothing was run'}"
    yield f"{'time':<11}{made.date}, {duration(made.cpu_seconds)} of processor time in all runs"
    cells = [("figure", "published", "ours", "verdict", "")]
    cells += [
        (row.figure.name, f"{row.figure.told.published:g}", ours(row), row.verdict, row.why)
        for row in made.rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    for line in cells:
        padded = (text.ljust(width) for text, width in zip(line, [*widths, 0], strict=True))
        yield "  ".join(padded).rstrip()


def _arm_in_words(result: ArmResult) -> str:
    if result.not_run:
        return f"not run, because {result.not_run}"
    return "; ".join(_run_in_words(one) for one in result.runs)


def _run_in_words(one: ArmRun) -> str:
    how = "" if one.how == "run" else f", {one.how}"
    status = "" if one.manifest.status == "completed" else f", {one.manifest.status}"
    return f"seed {one.seed}, {one.path.name}{how}{status} ({one.cpu_seconds:.0f} CPU-seconds)"


def page(made: Reproduction) -> str:
    """Return a reproduction as one HTML file that holds its pictures."""
    source = made.recipe.source
    head = ("figure", "where", "published", "ours", "is met by", "verdict")
    rows = "".join(_html_row(row) for row in made.rows)
    differs = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in source.differs)
    arms = "".join(_html_arm(result) for result in made.results)
    mode = " (fast)" if made.is_fast else ""
    title = html.escape(f"{made.recipe.title}{mode}")
    machines = html.escape("; ".join(made.machines) or "nothing was run")
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style>\n<h1>{title}</h1>\n"
        f'<p>{html.escape(source.citation)} (<a href="{html.escape(source.url)}">source</a>)</p>\n'
        f"<p>{made.date}, on {machines}, {made.cpu_seconds:.0f} CPU-seconds in all runs</p>\n"
        f"<table><tr>{''.join(f'<th>{one}</th>' for one in head)}</tr>\n{rows}</table>\n"
        + (f"<h2>In what ours differs</h2>\n<ul>{differs}</ul>\n" if differs else "")
        + f"<h2>What was run</h2>\n{arms}</html>\n"
    )


def _html_row(row: Row) -> str:
    told = row.figure.told
    cells = (row.figure.name, told.at, f"{told.published:g}", ours(row), _demand(told))
    tds = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
    kind = row.verdict.replace(" ", "-")
    return f'<tr>{tds}<td class="{kind}"><b>{row.verdict}</b><br>{html.escape(row.why)}</td></tr>\n'


def _demand(told: FigureBlock) -> str:
    bounds: Mapping[str, float | None] = {
        "within ±": told.within,
        "at least ": told.at_least,
        "at most ": told.at_most,
    }
    return next((f"{words}{bound:g}" for words, bound in bounds.items() if bound is not None), "-")


def _html_arm(result: ArmResult) -> str:
    sets = ", ".join(one.text for one in result.arm.overrides) or "as it is"
    told = html.escape(f"{result.arm.spec.name}: {sets}. {_arm_in_words(result)}")
    pictures = "".join(
        f'<figure><img alt="{html.escape(name)}" src="data:image/png;base64,{content}">'
        f"<figcaption><code>{html.escape(name)}</code></figcaption></figure>\n"
        for name, content in _pictures(result.runs[:1])
    )
    return (
        f"<h3>{html.escape(result.arm.name)}: {html.escape(result.arm.title)}</h3>\n<p>{told}</p>\n{pictures}"
    )


def _pictures(runs: Sequence[ArmRun]) -> Iterator[tuple[str, str]]:
    for one in runs:
        for made in one.manifest.products:
            path = one.path / made.path
            if path.name == _PICTURE and path.is_file():
                content = base64.b64encode(path.read_bytes()).decode("ascii")
                yield f"{one.path.name}/{made.path}", content


def write_reproduction(made: Reproduction, runs_dir: Path) -> tuple[Path, Path]:
    """Write ``result.json`` and ``page.html`` below the folder of runs, and return both paths.

    A later call for the same recipe replaces them.
    """
    folder = runs_dir / "reproduced" / (made.recipe.name + ("-fast" if made.is_fast else ""))
    folder.mkdir(parents=True, exist_ok=True)
    result, shown_as = folder / "result.json", folder / "page.html"
    write_durably(result, render_json(as_plain(made)))
    write_durably(shown_as, page(made).encode("utf-8"))
    return result, shown_as
