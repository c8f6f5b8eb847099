"""Where two runs part is told by their traces, and by what each shows when it is carried out once more."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from harness.bisection import Bisection, Side, bisect_runs
from harness.manifest import DamagedError, Manifest, read_manifest
from harness.replay import Replay
from harness.report import bisection_lines
from ptycho_torch.trace import Parting, TraceLine, pack_sums
from tests.harness.conftest import Bench
from tests.harness.doctoring import CHECKPOINT, WEIGHTS, alter_part, vouch_for

NAMES = ["generator.w", "optimizer/exp_avg/generator.w"]
LINES = [
    TraceLine(n + 1, 0, n, f"d{n}", float(n).hex(), "0x1p+0", "0x1p-10", state=pack_sums([n, n]), names=NAMES)
    for n in range(4)
]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory, planted: Path) -> Manifest:
    from tests.harness.conftest import SPEC, write_scan

    folder = tmp_path_factory.mktemp("bench")
    (folder / "spec.yaml").write_text(SPEC)
    write_scan(folder / "scan.npz")
    return read_manifest(Bench(planted, folder / "spec.yaml", folder / "runs").run().path)


def side(manifest: Manifest, name: str, **changes: object) -> Side:
    """A run whose third line is another."""
    lines = [*LINES[:2], dataclasses.replace(LINES[2], **changes), LINES[3]]  # type: ignore[arg-type]
    return Side(name, Path(name), manifest, lines)


def shows(
    seen: Mapping[str, Mapping[str, str]],
) -> tuple[Callable[[Side, int], Replay], list[tuple[str, int]]]:
    """Carry out runs that do what they have recorded, and note which batch was asked for."""
    asked: list[tuple[str, int]] = []

    def replayer(one: Side, batch: int) -> Replay:
        asked.append((one.name, batch))
        return Replay("the beginning", seen[one.name])

    return replayer, asked


def test_runs_that_are_the_same_part_nowhere(manifest: Manifest) -> None:
    found = bisect_runs(side(manifest, "a"), side(manifest, "b"), None)
    assert (found.is_bitwise, found.step, found.tensor, found.causes) == (True, None, "", ())
    assert list(bisection_lines(found)) == ["bitwise: the runs are the same"]


def test_the_first_tensor_that_differs_is_named_by_the_replays(manifest: Manifest) -> None:
    first, second = side(manifest, "a"), side(manifest, "b", loss="0x1p+5")
    replayer, asked = shows(
        {
            "a": {"before/w": "1", "activation/x": "1", "activation/y": "1", "loss": "1"},
            "b": {"before/w": "1", "activation/x": "1", "activation/y": "2", "loss": "2"},
        }
    )
    found = bisect_runs(first, second, replayer)
    assert asked == [("a", 2), ("b", 2)]
    assert (found.step, found.epoch, found.batch) == (2, 0, 2)
    assert (found.tensor, found.tensors, found.told_by) == (
        "activation/y",
        ("activation/y", "loss"),
        "replay",
    )
    assert not found.is_bitwise


def test_the_update_is_looked_into_when_all_the_state_differs_after_it(manifest: Manifest) -> None:
    first, second = side(manifest, "a"), side(manifest, "b", state=pack_sums([7, 8]))
    replayer, asked = shows(
        {"a": {"gradient/w": "1", "after/w": "1"}, "b": {"gradient/w": "1", "after/w": "2"}}
    )
    found = bisect_runs(first, second, replayer)
    assert asked == [("a", 1), ("b", 1)]
    assert (found.step, found.batch, found.tensor) == (1, 1, "after/w")


@pytest.mark.parametrize("changes", [{"gradient": "0x1p+1"}, {"state": pack_sums([7, 8])}])
def test_gradients_of_several_batches_are_looked_into_from_the_first_of_them(
    manifest: Manifest, changes: dict[str, str]
) -> None:
    at = 2 if "gradient" in changes else 3
    first = [*LINES[:1], dataclasses.replace(LINES[1], step=1, gradient=None, rate=None), *LINES[2:]]
    second = list(first)
    second[at] = dataclasses.replace(first[at], **changes)  # type: ignore[arg-type]
    replayer, asked = shows({"a": {"loss": "1", "gradient/w": "1"}, "b": {"loss": "1", "gradient/w": "2"}})
    found = bisect_runs(
        Side("a", Path("a"), manifest, first), Side("b", Path("b"), manifest, second), replayer
    )
    assert asked == [("a", 1), ("b", 1)]
    assert (found.step, found.batch, found.tensor) == (1, 1, "gradient/w")


def test_one_changed_tensor_is_looked_for_between_the_steps(manifest: Manifest) -> None:
    first, second = side(manifest, "a"), side(manifest, "b", state=pack_sums([2, 8]))
    replayer, asked = shows({"a": {"before/s": "1"}, "b": {"before/s": "2"}})
    found = bisect_runs(first, second, replayer)
    assert asked == [("a", 2), ("b", 2)]
    assert (found.step, found.tensor) == (2, "before/s")


def test_a_run_that_does_not_do_again_what_it_recorded_is_named_with_step_and_tensor(
    manifest: Manifest,
) -> None:
    first, second = side(manifest, "a"), side(manifest, "b", state=pack_sums([2, 8]))
    again = {
        "a": Replay("the beginning", {"x": "1"}),
        "b": Replay("the beginning", {"x": "1"}, Parting(2, 2, 0, 2, f"before/{NAMES[1]}", "1", "2", 2)),
    }
    found = bisect_runs(first, second, lambda one, batch: again[one.name])
    assert (found.step, found.tensors) == (2, (f"before/{NAMES[1]}",))
    assert (found.causes[0].suspect.area, found.causes[0].suspect.name) == ("event", "b")


def test_a_gradient_that_was_another_once_is_named_by_the_weight_it_changed(manifest: Manifest) -> None:
    first, second = side(manifest, "a"), side(manifest, "b", gradient="0x1p+1")
    lines = [*second.lines[:3], dataclasses.replace(LINES[3], state=pack_sums([9, 9]))]
    second = dataclasses.replace(second, lines=lines)
    parting = Parting(2, 2, 0, 2, "gradient", "1", "2", 2)
    again = {"a": Replay("", {"x": "1"}), "b": Replay("", {"x": "1"}, parting)}
    found = bisect_runs(first, second, lambda one, batch: again[one.name])
    assert (found.step, found.tensors) == (2, ("gradient/generator.w",))


def test_a_run_that_cannot_be_carried_out_leaves_what_the_traces_say(manifest: Manifest) -> None:
    first, second = side(manifest, "a"), side(manifest, "b", data="other")
    found = bisect_runs(first, second, lambda one, batch: Replay(problem="its data are not here"))
    assert (found.tensor, found.told_by) == ("data", "trace")
    assert found.notes[0] == "a could not be carried out once more: its data are not here"


def test_another_environment_that_does_something_else_is_shown_to_be_the_cause(manifest: Manifest) -> None:
    first, second = side(manifest, "a"), side(manifest, "b", loss="0x1p+5")
    environment = dataclasses.replace(manifest.environment, packages={})
    second = dataclasses.replace(second, manifest=dataclasses.replace(manifest, environment=environment))
    parting = Parting(2, 2, 0, 2, "loss", "1", "2", 2)
    again = {
        "a": Replay("", {"x": "1"}),
        "b": Replay("", {"x": "1"}, parting, conditions=("package some 1 -> 2",)),
    }
    found = bisect_runs(first, second, lambda one, batch: again[one.name])
    assert (found.tensor, found.told_by) == ("loss", "trace")
    assert "with the other run's environment" in found.causes[0].reason


@pytest.mark.parametrize("changes", [{"rate": "0x1p-9"}, {"epoch": 1}])
def test_what_the_trace_tells_exactly_is_not_carried_out_again(
    manifest: Manifest, changes: dict[str, object]
) -> None:
    found = bisect_runs(side(manifest, "a"), side(manifest, "b", **changes), shows({})[0])
    assert (found.tensor, found.step, found.replays) == (next(iter(changes)), 2, {})


def test_a_training_that_goes_on_longer_parts_at_its_first_further_batch(manifest: Manifest) -> None:
    short = dataclasses.replace(side(manifest, "a"), lines=LINES[:2])
    found: Bisection = bisect_runs(short, side(manifest, "b"), shows({})[0])
    assert (found.tensor, found.step, found.batch) == ("length", 2, 2)
    first, *_ = bisection_lines(found)
    assert first == "the runs part at step 3 (epoch 1, batch 3): length"


def bisected(*paths: Path) -> Bisection:
    first, second = (Side.read(path, read_manifest(path)) for path in paths)
    return bisect_runs(first, second, None)


def test_what_a_checkpoint_alone_keeps_is_named_as_the_tensor_with_the_causes(bench: Bench) -> None:
    one, other = bench.run().path, bench.run().path
    alter_part(other, lambda name: name.endswith("data.pkl"), lambda text: text.replace(b"kept", b"Kept"))
    vouch_for(other, CHECKPOINT)
    found = bisected(one, other)
    assert (found.is_bitwise, found.parting, found.step, found.told_by) == (False, None, None, "checkpoint")
    assert found.tensors == (f"{CHECKPOINT}: kept", f"{CHECKPOINT}: Kept")
    assert list(bisection_lines(found)) == [
        f"the trainings are the same to the last bit, and {CHECKPOINT}: kept is not",
        "  no difference of values, data, code or environment is recorded",
    ]


def test_runs_whose_files_were_altered_are_never_the_same(bench: Bench) -> None:
    one, other = bench.run().path, bench.run().path
    (other / WEIGHTS).write_bytes(b"other")
    found = bisected(one, other)
    assert not found.is_bitwise
    first, *_ = bisection_lines(found)
    assert first.startswith(f"nothing is proven, files were altered: {other.name}: {WEIGHTS} is damaged")


def test_of_runs_that_were_broken_off_nothing_is_proven_but_where_a_step_differs(manifest: Manifest) -> None:
    broken = dataclasses.replace(manifest, status="interrupted")
    first, second = side(broken, "a"), side(manifest, "b")
    found = bisect_runs(dataclasses.replace(first, lines=LINES[:2]), second, shows({})[0])
    assert (found.is_bitwise, found.tensor, found.causes) == (False, "", ())
    assert list(bisection_lines(found)) == [
        "nothing is proven: the first run has not come to its end",
        "  the trainings are the same as far as both go, 2 steps",
    ]
    assert bisect_runs(first, side(broken, "b"), None).unproven.endswith("neither run has come to its end")
    assert bisect_runs(first, side(manifest, "b", rate="0x1p-9"), None).tensor == "rate"


def test_an_altered_trace_proves_nothing(bench: Bench) -> None:
    path = bench.run().path
    (path / "trace.jsonl").write_text(LINES[0].to_json() + "\n")
    manifest = read_manifest(path)
    with pytest.raises(DamagedError, match="has no trace"):
        bisect_runs(Side("a", path, manifest, []), Side("b", path, manifest, []), None)
    record = dataclasses.replace(next(iter(manifest.files.values())), sha256="0" * 64)
    recorded = dataclasses.replace(manifest, files={**manifest.files, "trace.jsonl": record})
    with pytest.raises(DamagedError, match="it proves nothing"):
        Side.read(path, recorded)
