"""What a host does while its worker works."""

from __future__ import annotations

import signal

import pytest

from harness.supervision import Supervised, noticing_signals


def test_a_request_to_stop_is_answered_once_and_at_the_next_look(capsys: pytest.CaptureFixture[str]) -> None:
    looked: list[int] = []
    supervision = Supervised(-1, lambda: looked.append(1))
    with noticing_signals(supervision):
        supervision.tick()
        assert capsys.readouterr().err == ""
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
            supervision.tick()
    assert capsys.readouterr().err.splitlines() == [
        "stopping after this step, keeping what is done; once more (Ctrl-C) ends it now"
    ]
    assert (supervision.stops_asked(), len(looked)) == (2, 3)
