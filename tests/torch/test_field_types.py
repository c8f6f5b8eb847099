"""What a field may hold: each kind of type takes its values, and refuses the lookalikes of them."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import pytest
from pydantic import TypeAdapter
from pydantic_core import ValidationError

from ptycho_torch.config import SECTIONS
from ptycho_torch.errors import ConfigError
from ptycho_torch.field_types import Demands, field_types, value_validator
from ptycho_torch.simulate_config import KINDS, DeadLeaves, SimulateConfig
from ptycho_torch.validation import frozen_config

Even = Annotated[int, Demands(ge=2, multiple_of=2)]


@frozen_config
class Box:
    """A configuration of one field without a default.

    Parameters
    ----------
    width
        Its width.
    """

    width: Even


@pytest.mark.parametrize(
    ("annotation", "legal", "illegal"),
    [
        (bool, [True, False], [1, 0, "true", None]),
        (int, [3], [3.0, True, "3", None]),
        (float, [3.5, 3], [True, "3.5", float("nan"), float("inf")]),
        (str, ["x", ""], [1, None, b"x"]),
        (Even | None, [2, 4, None], [0, 3, 2.0, "2"]),
        (Literal["a", "b"], ["a"], ["c", 1, None]),
        (tuple[Even, ...], [(), (2, 4)], [(2, 3), [2], 2]),
        (Annotated[tuple[Even, ...], Demands(strict=False, min_length=1)], [[2], (2, 4)], [[], "2", [3]]),
        (Annotated[str, Demands(pattern="^[ab]+$", max_length=3)], ["ab"], ["abab", "c", ""]),
    ],
)
def test_a_type_takes_its_own_values_and_no_lookalikes(
    annotation: Any, legal: list[Any], illegal: list[Any]
) -> None:
    validator = value_validator(annotation)
    for value in legal:
        validator.validate_python(value)
    for value in illegal:
        with pytest.raises(ValidationError):
            validator.validate_python(value)


@pytest.mark.parametrize("annotation", [int | str | None, dict[str, int], bytes, tuple[int, int]])
def test_a_type_that_no_configuration_has_is_an_error_of_who_wrote_it(annotation: Any) -> None:
    with pytest.raises(TypeError, match="cannot be of the type"):
        value_validator(annotation)


@pytest.mark.parametrize(
    "block",
    [*SECTIONS.values(), SimulateConfig, *(kind for kinds in KINDS.values() for kind in kinds.values())],
)
def test_the_default_of_every_field_is_a_value_that_the_field_may_hold(block: type[Any]) -> None:
    fields = [one for one in dataclasses.fields(block) if one.default is not dataclasses.MISSING]
    assert fields
    for field in fields:
        value_validator(field_types(block)[field.name]).validate_python(field.default)


def test_of_several_configurations_the_kind_tells_which_is_meant() -> None:
    read = TypeAdapter(SimulateConfig).validate_json('{"object": {"kind": "dead_leaves", "blur_px": 2.5}}')
    assert read == SimulateConfig(object=DeadLeaves(blur_px=2.5))
    with pytest.raises(ValidationError, match="kind"):
        TypeAdapter(SimulateConfig).validate_json('{"object": {"kind": "no such kind"}}')


def test_a_configuration_is_frozen_and_takes_keywords_alone() -> None:
    box: Any = Box(width=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        box.width = 4
    with pytest.raises(TypeError):
        Box(2)  # type: ignore[call-arg,misc]
    with pytest.raises(ConfigError, match="Box.width: is required"):
        Box()  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "annotation",
    [
        Annotated[int, Demands(gte=1)],
        Annotated[int | None, Demands(ge=1)],
        Annotated[Literal[1, 2], Demands(ge=2)],
        Annotated[str, Demands(min_len=3)],
    ],
)
def test_a_condition_that_nothing_would_check_is_refused(annotation: Any) -> None:
    with pytest.raises(TypeError, match="cannot be demanded of the type"):
        value_validator(annotation)
