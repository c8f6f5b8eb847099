"""The figures of quality of a run, and those that mean nothing."""

from __future__ import annotations

import dataclasses

import pytest

from harness.listing import show_lines
from harness.manifest import Leaf, Manifest
from harness.quality import figures, quality_rows, void_resolutions
from harness.screen import closing_lines
from tests.harness.conftest import Bench

FIGURES = {
    "phase_correlation": 0.3,
    "frc_0.5_resolution_px": 6.4,
    "test_r_factor": 0.5,
    "upstream_amplitude_frc50": 9.0,
    "refined_r_factor": 0.1,
    "refined_frc_0.5_resolution_px": 2.1,
    "refined_half_bit_resolution_px": 2.7,
    "refined_one_bit_resolution_px": 3.1,
}
START = "products.refine.start"


def ended(manifest: Manifest, status: str, start: str | None) -> Manifest:
    resolved = {key: leaf for key, leaf in manifest.resolved.items() if key != START}
    if start is not None:
        resolved[START] = Leaf(start, "entry point")
    return dataclasses.replace(
        manifest,
        status=status,  # type: ignore[arg-type]
        metrics=FIGURES,
        resolved=resolved,
    )


def test_figures_that_were_not_measured_are_left_out() -> None:
    assert figures({}) == ""
    assert figures({"phase_correlation": 0.86, "r_factor": "nan"}) == "phase correlation 0.860"


@pytest.mark.parametrize(
    ("status", "start", "void"),
    [
        ("completed", "network", set()),
        ("collapsed", None, {"frc_0.5_resolution_px", "upstream_amplitude_frc50"}),
        ("collapsed", "flat", {"frc_0.5_resolution_px", "upstream_amplitude_frc50"}),
        (
            "collapsed",
            "network",
            {
                "frc_0.5_resolution_px",
                "upstream_amplitude_frc50",
                "refined_half_bit_resolution_px",
                "refined_one_bit_resolution_px",
            },
        ),
    ],
)
def test_a_resolution_means_nothing_where_a_network_collapsed_that_it_would_be_told_of(
    bench: Bench, status: str, start: str | None, void: set[str]
) -> None:
    manifest = ended(bench.run().manifest, status, start)
    assert set(void_resolutions(manifest)) == void
    rows = dict(quality_rows(manifest))
    assert ("resolution (FRC 0.5, px) 6.400" in rows["quality"]) == (status == "completed")
    assert ("the network collapsed" in rows["quality"]) == (status == "collapsed")
    assert rows["test scan"] == "R-factor 0.500"
    is_void = "refined_half_bit_resolution_px" in void
    assert ("half-data resolution (half-bit, px) 2.700" in rows["refined"]) == (not is_void)
    assert ("half-data resolution means nothing" in rows["refined"]) == is_void
    assert "resolution (FRC 0.5, px) 2.100" in rows["refined"]


def test_halves_of_an_image_that_another_run_made_are_told_of_no_network_that_collapsed(bench: Bench) -> None:
    manifest = ended(bench.run().manifest, "completed", "network")
    elsewhere = dataclasses.replace(manifest, collapse={"is_collapsed": True, "reasons": ["it did"]})
    assert "refined_half_bit_resolution_px" in void_resolutions(elsewhere)
    assert "refined_half_bit_resolution_px" not in void_resolutions(manifest)


def test_the_closing_screen_and_show_tell_the_reason_in_the_place_of_the_figure(bench: Bench) -> None:
    finished = bench.run()
    manifest = ended(finished.manifest, "collapsed", "network")
    closing = dict(closing_lines(dataclasses.replace(finished, manifest=manifest)))
    assert closing["quality"].endswith("; the network collapsed, so a resolution means nothing")
    assert closing["refined"].endswith("a half-data resolution means nothing")
    assert any("phase correlation 0.900" in line for line in show_lines(finished.path))
