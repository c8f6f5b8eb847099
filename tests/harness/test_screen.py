"""What a person sees."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pytest

from harness.progress import write_progress
from harness.screen import (
    DownloadBar,
    Position,
    closing_lines,
    duration,
    print_closing,
    thumbnail,
    watching,
)
from harness.store import append_event, is_refused
from tests.harness.conftest import Bench


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.9, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_are_said_as_a_person_would(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_position_is_read_from_any_progress_the_worker_may_have_written() -> None:
    assert Position.from_progress({}) == Position("starting", 0.0, "")
    told = {"phase": "training", "epoch": 1, "epochs": 4, "step": 30, "steps": 60, "loss": 0.25}
    assert Position.from_progress(told) == Position("training", 0.5, "epoch 2/4, loss 0.25")
    assert Position.from_progress({"phase": "x", "step": 9, "steps": 4}).fraction == 1.0


def test_elsewhere_than_on_a_terminal_a_phase_is_one_line(tmp_path: Path) -> None:
    stream = io.StringIO()
    with watching(stream) as look:
        look(tmp_path)
        write_progress(tmp_path, "training", epoch=0, epochs=2, step=1, steps=4, loss=0.5)
        time.sleep(0.6)
        look(tmp_path)
        look(tmp_path)
    assert stream.getvalue().splitlines() == ["starting", "training: epoch 1/2, loss 0.5 (25%)"]


def test_on_a_terminal_there_is_a_bar_with_the_time_left(tmp_path: Path) -> None:
    stream = Terminal()
    with watching(stream) as look:
        for step in (1, 2):
            write_progress(tmp_path, "training", epoch=0, epochs=2, step=step, steps=4, loss=0.5)
            look(tmp_path)
            time.sleep(0.6)
        look(tmp_path)
        time.sleep(0.2)
    assert "training" in stream.getvalue()
    assert "left" in stream.getvalue()


def test_the_closing_screen_names_result_folder_and_the_commands_to_repeat_it(bench: Bench) -> None:
    finished = bench.run()
    lines = dict(closing_lines(finished))
    assert lines["status"] == "completed"
    assert lines["quality"] == "phase correlation 0.900"
    assert lines["folder"] == str(finished.path)
    assert lines["digest"].split()[0] == finished.manifest.compared["final_tensor_digest"]
    assert list(lines)[-2:] == ["again", "check"]
    (finished.path / "products" / "comparison.png").write_bytes(b"")
    assert dict(closing_lines(finished))["pictures"].endswith("products/comparison.png")
    assert lines["again"] == f"harness rerun {finished.path}"
    assert lines["check"] == f"harness verify {finished.path}"
    stream = io.StringIO()
    print_closing(finished, stream)
    assert str(finished.path / "checkpoints") in stream.getvalue()


def test_the_closing_screen_of_a_failed_run_says_why_and_where_to_look(bench: Bench) -> None:
    lines = dict(closing_lines(bench.run("fail")))
    assert lines["status"] == "failed: the loss is not a number"
    assert lines["log"].endswith("logs/worker.log")


@pytest.mark.parametrize("behaviour", ["fail", "killed", "crash"])
def test_the_closing_screen_of_a_broken_off_run_says_first_how_it_is_continued(
    bench: Bench, behaviour: str
) -> None:
    finished = bench.run(behaviour)
    assert list(closing_lines(finished))[-2:] == [
        ("continue", f"harness resume {finished.path}"),
        ("again", f"harness rerun {finished.path}"),
    ]


def test_a_picture_becomes_half_blocks_of_its_colours(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[4:] = (255, 128, 0)
    image.fromarray(pixels).save(tmp_path / "picture.png")
    drawn = thumbnail(tmp_path / "picture.png", columns=8)
    assert drawn is not None
    assert drawn.plain.splitlines() == ["▀" * 8] * 4
    styles = {str(span.style) for span in drawn.spans}
    assert styles == {"rgb(0,0,0) on rgb(0,0,0)", "rgb(255,128,0) on rgb(255,128,0)"}


def test_a_download_reports_each_tenth_once() -> None:
    stream = io.StringIO()
    bar = DownloadBar(stream)
    bar.total = 1_000_000
    for _ in range(1000):
        bar.update(1000)
    bar.reset()
    bar.update(bar.total)
    bar.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 11
    assert lines[-1] == "downloading: 1.0 of 1.0 MB"


def test_neither_resume_nor_rerun_is_offered_where_a_run_can_only_fail_again(bench: Bench) -> None:
    finished = bench.run("refuse")
    lines = dict(closing_lines(finished))
    assert lines["status"].startswith("failed")
    assert not {"continue", "again", "check"} & lines.keys()
    append_event(finished.path, "started")
    assert not is_refused(finished.path)
