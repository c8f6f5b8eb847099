"""Figures that a run must reach."""

from __future__ import annotations

import pytest

from harness.errors import UserError
from harness.gate import METRICS, Requirement, read_requirements, unmet
from harness.quality import _FIGURES, REFINED
from harness.spreads import read_spreads


def test_conditions_are_read() -> None:
    assert read_requirements(["phase_correlation>=0.8", "frc_0.5_resolution_px <= 4e0"]) == (
        Requirement("phase_correlation", True, 0.8),
        Requirement("frc_0.5_resolution_px", False, 4.0),
    )


@pytest.mark.parametrize("text", ["", "x", "x=1", "x>=", "x>=1e", "x>1", "x>=nan"])
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is no condition"):
        read_requirements([text])


def test_a_figure_that_no_run_has_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no figure 'phasecorrelation', did you mean 'phase_correlation'\?"):
        read_requirements(["phasecorrelation>=0.8"])
    with pytest.raises(UserError, match="there are added_phase_rad, .*, val_loss"):
        read_requirements(["42>=0.8"])


def test_every_figure_that_is_measured_or_shown_may_be_required() -> None:
    measured = {name for spread in read_spreads().values() for name in spread.figures}
    assert measured
    assert measured <= METRICS
    assert all({name, f"{REFINED}{name}"} & METRICS for name, _ in _FIGURES)


def test_a_figure_below_its_floor_above_its_ceiling_or_absent_is_named() -> None:
    demands = (Requirement("a", True, 0.8), Requirement("b", False, 4.0), Requirement("c", True, 0.0))
    assert list(unmet(demands, {"a": 0.8, "b": 4, "c": 0})) == []
    assert list(unmet(demands, {"a": 0.79, "b": 4.1, "c": "nan"})) == [
        "a is 0.79, required is >= 0.8",
        "b is 4.1, required is <= 4",
        "c was not measured, required is >= 0",
    ]
