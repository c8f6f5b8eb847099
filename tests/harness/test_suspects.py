"""Everything in which two runs differ is listed once, thing by thing."""

from __future__ import annotations

from dataclasses import replace

from harness.manifest import Attempt, Manifest, read_manifest
from harness.suspects import known_answers_that_differ, suspects
from tests.harness.conftest import Bench, commit, write_scan


def named(found: object) -> list[tuple[str, str]]:
    return [(one.area, one.name) for one in found]  # type: ignore[attr-defined]


def test_a_run_and_its_repetition_differ_in_nothing(bench: Bench) -> None:
    one, other = (read_manifest(bench.run().path) for _ in range(2))
    assert suspects(one, other) == ()


def test_a_known_answer_that_one_version_did_not_ask_for_is_no_difference(bench: Bench) -> None:
    one = read_manifest(bench.run().path)
    answers = one.exactness.observed["known_answers"]
    assert isinstance(answers, dict)

    def answering(**more: str) -> Manifest:
        observed = {**one.exactness.observed, "known_answers": {**answers, **more}}
        return replace(one, exactness=replace(one.exactness, observed=observed))

    assert list(known_answers_that_differ(one, answering(new="n"))) == []
    assert list(known_answers_that_differ(answering(new="n"), one)) == []
    (sentence,) = known_answers_that_differ(one, answering(new="n", exp="other"))
    assert sentence.startswith("known answers exp:")


def test_values_data_and_every_source_file_are_listed(own_bench: Bench) -> None:
    one = read_manifest(own_bench.run().path)
    write_scan(own_bench.data, n_frames=24)
    for path in ("harness/plan.py", "ptycho_torch/module.py"):
        with (own_bench.root / path).open("a") as file:
            file.write("# another line\n")
    commit(own_bench.root)
    other = read_manifest(own_bench.run("complete", "training.epochs=3").path)
    assert named(suspects(one, other)) == [
        ("inputs", "training.epochs"),
        ("data", "train"),
        ("code", "harness/plan.py"),
        ("code", "ptycho_torch/module.py"),
    ]


def test_what_was_read_off_other_data_is_no_difference_of_its_own(bench: Bench) -> None:
    one = read_manifest(bench.run().path)
    leaf = replace(one.resolved["data.units"], value="count_amplitude", source="inferred from data")
    was = replace(one, resolved={**one.resolved, "data.units": leaf})
    now = {**one.resolved, "data.units": replace(leaf, value="normalized_amplitude")}
    assert named(suspects(was, replace(was, resolved=now))) == [("inputs", "data.units")]
    other_data = tuple(replace(record, sha256="0" * 64) for record in one.data)
    assert named(suspects(was, replace(was, resolved=now, data=other_data))) == [("data", "train")]


def test_an_attempt_that_went_on_from_a_saved_state_is_listed_with_its_step(bench: Bench) -> None:
    one = read_manifest(bench.run().path)
    went_on = Attempt("2000-01-01T00:00:00+00:00", 1.0, 0, from_step=7, differences=("code: changed",))
    other = replace(one, attempts=(*one.attempts, went_on))
    (found,) = suspects(one, other, ("a", "b"))
    assert (found.area, found.step) == ("attempt", 7)
    assert found.sentence == (
        "b was broken off, and its attempt 2 went on from the state after step 7, although code: changed"
    )


def test_a_field_that_one_run_is_too_old_for_is_a_difference_only_where_it_is_used(bench: Bench) -> None:
    now = read_manifest(bench.run().path)
    old = replace(now, resolved={key: leaf for key, leaf in now.resolved.items() if "probe_mask" not in key})
    assert suspects(old, now) == suspects(now, old) == ()
    on = replace(now.resolved["model.probe_mask"], value=True)
    used = replace(now, resolved={**now.resolved, "model.probe_mask": on})
    assert named(suspects(old, used)) == [("inputs", "model.probe_mask")]
