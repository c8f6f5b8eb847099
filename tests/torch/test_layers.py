from __future__ import annotations

import copy
import itertools
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho_torch.errors import ConfigError
from ptycho_torch.layers import LAYER_NAMES, FrozenMapping, Layer, Place, Shadowed, Value, freeze, merge

names = st.lists(st.sampled_from(LAYER_NAMES), unique=True, min_size=1).flatmap(st.permutations)


def test_the_documented_layers_stand_in_the_documented_order() -> None:
    documented = [
        "explicit override",
        "execution config",
        "entry point",
        "PyTorch default",
        "canonical default",
    ]
    assert [name for name in LAYER_NAMES if name in documented] == documented


def test_facts_beat_defaults_but_not_what_was_asked_for_and_answers_beat_requests() -> None:
    rank = LAYER_NAMES.index
    assert rank("resolved") < rank("explicit override")
    assert rank("execution config") < rank("trained model") < rank("inferred from data") < rank("entry point")


@pytest.mark.parametrize(("higher", "lower"), list(itertools.combinations(LAYER_NAMES, 2)))
def test_every_layer_beats_each_layer_below_it_in_whatever_order_they_come(higher: str, lower: str) -> None:
    layers = [Layer(higher, {"data.x": Value("high")}), Layer(lower, {"data.x": Value("low")})]
    for given_layers in (layers, layers[::-1]):
        merged = merge(given_layers)
        assert merged.values["data.x"] == "high"
        assert merged.origins["data.x"].layer == higher
        assert merged.origins["data.x"].shadowed == (Shadowed("low", lower),)


@settings(deadline=None, derandomize=True)
@given(names)
def test_a_key_keeps_every_value_it_was_given_the_losers_highest_first(given_names: list[str]) -> None:
    merged = merge([Layer(name, {"a.b": Value(name)}) for name in given_names])
    origin = merged.origins["a.b"]
    ranked = [origin.layer, *(lost.layer for lost in origin.shadowed)]
    assert ranked == sorted(given_names, key=LAYER_NAMES.index)
    assert [merged.values["a.b"], *(lost.value for lost in origin.shadowed)] == ranked


@settings(deadline=None, derandomize=True)
@given(names)
def test_the_order_of_the_layers_in_the_argument_does_not_matter(given_names: list[str]) -> None:
    layers = [Layer(name, {"a.b": Value(name), f"a.{i}": Value(i)}) for i, name in enumerate(given_names)]
    assert merge(layers) == merge(layers[::-1])


def test_of_two_layers_of_one_name_the_first_wins_and_the_other_is_shadowed() -> None:
    place = Place("run.yaml", 3, 7)
    layers = [
        Layer("explicit override", {"a.b": Value(1)}),
        Layer("explicit override", {"a.b": Value(2, place)}),
    ]
    merged = merge(layers)
    assert merged.values["a.b"] == 1
    assert merged.origins["a.b"].shadowed == (Shadowed(2, "explicit override", place),)


def test_keys_that_only_one_layer_names_all_survive() -> None:
    merged = merge([Layer("entry point", {"a.x": Value(1)}), Layer("PyTorch default", {"a.y": Value(2)})])
    assert dict(merged.values) == {"a.x": 1, "a.y": 2}


def test_place_and_note_of_the_winner_are_kept() -> None:
    value = Value(4, Place("run.yaml", 2, 9), "alias nepochs")
    origin = merge([Layer("explicit override", {"training.epochs": value})]).origins["training.epochs"]
    assert (origin.place, origin.note, origin.shadowed) == (value.place, value.note, ())


def test_a_layer_with_an_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="no layer named 'wishes'"):
        merge([Layer("wishes", {})])


def test_a_place_reads_file_line_column() -> None:
    assert str(Place("runs/a.yaml", 12, 3)) == "runs/a.yaml:12:3"


def test_merged_values_cannot_be_changed_through_what_was_passed_in() -> None:
    stages = [10, 20]
    merged = merge([Layer("explicit override", {"training.stage_epochs": Value(stages)})])
    stages.append(30)
    assert merged.values["training.stage_epochs"] == (10, 20)


def test_a_frozen_mapping_refuses_assignment_and_survives_copies() -> None:
    frozen = freeze({"a": [1, {"b": 2}]})
    with pytest.raises(TypeError):
        frozen["a"] = 3
    assert frozen == {"a": (1, {"b": 2})}
    assert pickle.loads(pickle.dumps(frozen)) == copy.deepcopy(frozen) == frozen
    assert isinstance(frozen["a"][1], FrozenMapping)
