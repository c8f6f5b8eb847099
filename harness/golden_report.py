"""What the three lanes found, for a person, for a CI system's tables, and for a program."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from harness.errors import UserError
from harness.golden import GoldenFile, Key, predecessor, reasons
from harness.golden_check import Check, Lane, Report, moved
from harness.report import as_json
from harness.store import write_durably

__all__ = ["accepted_lines", "json_text", "junit_text", "markdown_text", "report_lines", "write_reports"]

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MARKS = {"holds": "✓", "differs": "✗", "missing": "?", "not measured": "–"}


def report_lines(report: Report) -> Iterator[str]:
    """Say what was found, a screen of it."""
    yield f"{'spec':<11}{report.spec}"
    yield f"{'key':<11}{report.key}"
    for lane in report.lanes:
        yield f"{lane.name:<11}{_MARKS[lane.status]} {lane.headline}"
        yield from (f"{'':<13}moved: {sentence}" for sentence in lane.moved)
        yield from (f"{'':<13}why:   {sentence}" for sentence in lane.why)
    for label, run in zip(("run", "again"), report.runs, strict=False):
        yield f"{label:<11}{run}"
    yield f"{'exit code':<11}{int(report.exit_code)}"


def accepted_lines(key: Key, before: GoldenFile, after: GoldenFile) -> Iterator[str]:
    """Say what an accepted golden moved, and why.

    Parameters
    ----------
    key
        The key under which it was accepted.
    before, after
        The golden file as it was and as it is.
    """
    nearest, now = predecessor(before, key), after.goldens[str(key)]
    if nearest is None:
        yield f"{'moved':<11}nothing: there was no golden that it could be held against"
    else:
        held_against, was = nearest
        yield f"{'before':<11}{held_against}"
        told = [f"{'moved':<11}{sentence}" for sentence in moved(was, now)]
        yield from told or [f"{'moved':<11}nothing"]
        yield from (f"{'why':<11}{sentence}" for sentence in reasons(was, now))
    for name in sorted({*before.published, *after.published}):
        values = [
            published[name].value if name in published else "absent"
            for published in (before.published, after.published)
        ]
        if values[0] != values[1]:
            yield f"{'published':<11}{name}: {values[0]} -> {values[1]}"
    if not after.published:
        yield f"{'published':<11}nothing: no spread of such figures was measured (benchmarks/spread.py)"


def json_text(report: Report) -> str:
    """Render a report as JSON."""
    lanes = [{"status": lane.status, **dataclasses.asdict(lane)} for lane in report.lanes]
    return as_json(
        {
            "spec": report.spec,
            "golden_file": report.golden_file,
            "key": dataclasses.asdict(report.key),
            "holds": report.exit_code == 0,
            "exit_code": int(report.exit_code),
            "lanes": lanes,
            "runs": report.runs,
        }
    )


def junit_text(report: Report) -> str:
    """Render a report as JUnit XML: a suite for each lane, a case for each thing that it looked at."""
    suites = ET.Element("testsuites", name=f"harness golden check {report.spec}")
    for lane in report.lanes:
        counted = {
            kind: sum(check.status == status for check in lane.checks)
            for kind, status in (("failures", "differs"), ("errors", "missing"), ("skipped", "not measured"))
        }
        attributes = {"name": lane.name, "tests": str(len(lane.checks))}
        attributes |= {kind: str(number) for kind, number in counted.items()}
        suite = ET.SubElement(suites, "testsuite", attributes)
        for check in lane.checks:
            suite.append(_case(lane, check))
    ET.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _case(lane: Lane, check: Check) -> ET.Element:
    case = ET.Element("testcase", classname=f"golden.{lane.name}", name=_legal(check.name))
    kind = {"differs": "failure", "missing": "error", "not measured": "skipped"}.get(check.status)
    if kind is not None:
        told = ET.SubElement(case, kind, message=_legal(check.sentence))
        if kind == "failure":
            told.text = _legal("\n".join((*lane.moved, *(f"why: {sentence}" for sentence in lane.why))))
    return case


def _legal(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)


def markdown_text(report: Report) -> str:
    """Render a report as a summary in Markdown."""
    rows = [f"### `{report.spec}`: {'holds' if report.exit_code == 0 else 'does not hold'}", ""]
    rows += [f"Key: {report.key}", "", "| lane | | what was found |", "|---|---|---|"]
    rows += [f"| {lane.name} | {_MARKS[lane.status]} | {_cell(lane.headline)} |" for lane in report.lanes]
    for title, kept in (("moved", "moved"), ("why", "why")):
        told = [f"- {_cell(sentence)}" for lane in report.lanes for sentence in getattr(lane, kept)]
        rows += ["", f"**{title}**", "", *told] if told else []
    return "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def write_reports(report: Report, junit: Path | None, json: Path | None, markdown: Path | None) -> None:
    """Write a report to the files that are wanted.

    Parameters
    ----------
    report
        The report.
    junit, json, markdown
        The files; folders that are missing are made.

    Raises
    ------
    UserError
        A file cannot be written.
    """
    wanted = ((junit, junit_text), (json, json_text), (markdown, markdown_text))
    for path, render in wanted:
        if path is None:
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, render(report).encode("utf-8"))
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror}): name another file") from error
