"""Frozen dataclasses that refuse all their illegal values at once, each in one sentence."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, dataclass_transform, overload

from pydantic_core import ArgsKwargs, SchemaValidator, ValidationError

from ptycho_torch.errors import ConfigError
from ptycho_torch.field_types import config_schema

ConfigT = TypeVar("ConfigT")

_DEMANDS = {
    "bool_type": "must be true or false",
    "finite_number": "must be finite",
    "float_type": "must be a number",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_type": "must be a whole number",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "string_too_short": "must not be empty",
    "string_type": "must be text",
    "too_short": "must hold at least {min_length}",
    "tuple_type": "must be a list",
}
_TYPE_PROBLEMS = frozenset({"bool_type", "float_type", "int_type", "string_type", "tuple_type"})


class Rule(NamedTuple):
    """A condition between the fields of one configuration.

    Parameters
    ----------
    keys
        The fields it needs; a violation is reported at the first of them.
    check
        Called with their values; returns None, or what is wrong.
    """

    keys: tuple[str, ...]
    check: Callable[..., str | None]


class Problems:
    """Collects what is wrong, so that everything is reported in one error."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str, str]] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, key: str, sentence: str, place: object | None = None) -> None:
        """Note one problem: the key it concerns, a sentence, and where it stands (``file:line:column``)."""
        self._found.append((sentence, key, "" if place is None else str(place)))

    def refuse(self) -> None:
        """Raise everything that was noted.

        Raises
        ------
        ConfigError
            If anything was noted.
        """
        if self._found:
            sentences, keys, places = zip(*self._found, strict=True)
            raise ConfigError(list(sentences), list(keys), list(places))


def near_miss(name: str, legal: Iterable[str]) -> str:
    """Say which legal name was probably meant: ``", did you mean 'x'?"``, or nothing."""
    near = difflib.get_close_matches(name, list(legal), n=1)
    return f", did you mean {near[0]!r}?" if near else ""


def describe_problems(name: str, error: ValidationError, legal: Iterable[str] = ()) -> ConfigError:
    """Turn pydantic-core's report into one sentence per problem.

    Parameters
    ----------
    name
        What was validated, in the words of the message; sentences begin with ``name.key:``.
    error
        pydantic-core's report.
    legal
        Names of the fields there are, for the hint at a misspelt one.
    """
    fields = sorted(legal)
    details = error.errors(include_url=False)
    keys = [".".join(str(part) for part in detail["loc"]) for detail in details]
    heads = [f"{name}.{key}" if key else name for key in keys]
    texts = [_demand(key, detail, fields) for key, detail in zip(keys, details, strict=True)]
    return ConfigError([f"{head}: {text}" for head, text in zip(heads, texts, strict=True)], keys)


def _demand(key: str, detail: Any, fields: list[str]) -> str:
    kind, value = detail["type"], detail["input"]
    if kind == "missing":
        return "is required"
    if kind == "unexpected_keyword_argument":
        return f"does not exist{near_miss(key, fields)}"
    if kind == "value_error":
        return str(detail["msg"]).removeprefix("Value error, ")
    context = detail.get("ctx", {})
    demand = _DEMANDS[kind].format(**context) if kind in _DEMANDS else detail["msg"].lower()
    type_name = f" ({type(value).__name__})" if kind in _TYPE_PROBLEMS and value is not None else ""
    hint = ""
    if kind == "literal_error" and isinstance(value, str):
        hint = near_miss(value, re.findall(r"'([^']*)'", context["expected"]))
    return f"{demand}, not {_show(value)}{type_name}{hint}"


def _show(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer with more digits than Python prints
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


@overload
@dataclass_transform(frozen_default=True, kw_only_default=True)
def frozen_config(cls: type[ConfigT], /) -> type[ConfigT]: ...


@overload
@dataclass_transform(frozen_default=True, kw_only_default=True)
def frozen_config(*, rules: Sequence[Rule]) -> Callable[[type[ConfigT]], type[ConfigT]]: ...


def frozen_config(cls: type[Any] | None = None, /, *, rules: Sequence[Rule] = ()) -> Any:
    """Make a class a frozen dataclass with keywords only, validated strictly when it is built.

    Parameters
    ----------
    cls
        The class, when used without arguments.
    rules
        Conditions between its fields; they are checked also when other fields are illegal, so that one
        error names everything.
    """
    if cls is not None:
        return _decorate(cls, rules)
    return functools.partial(_decorate, rules=rules)


def _decorate(cls: Any, rules: Sequence[Rule]) -> Any:
    def refuse_contradictions(self: Any) -> Any:
        broken = _broken(rules, vars(self))
        if broken:
            raise ValueError("; ".join(f"{key}: {text}" for key, text in broken))
        return self

    made: Any = dataclasses.dataclass(frozen=True, kw_only=True)(cls)

    @functools.cache
    def validator() -> SchemaValidator:  # made when first needed: most commands build few of the classes
        return SchemaValidator(config_schema(made, refuse_contradictions))

    @functools.wraps(made.__init__)
    def build(self: Any, /, **kwargs: Any) -> None:
        try:
            validator().validate_python(ArgsKwargs((), kwargs), self_instance=self)
        except ValidationError as error:
            raise _refusal(made, rules, kwargs, error) from None

    made.__init__ = build
    made.__get_pydantic_core_schema__ = staticmethod(lambda *_: config_schema(made, refuse_contradictions))
    return made


def _refusal(
    cls: Any, rules: Sequence[Rule], given: Mapping[str, Any], error: ValidationError
) -> ConfigError:
    fields = {field.name: field for field in dataclasses.fields(cls)}
    found = describe_problems(cls.__name__, error, fields)
    pairs = [(key, text) for key, text in zip(found.keys, found.problems, strict=True) if key]
    illegal = {key.split(".")[0] for key, _ in pairs}
    defaults = {name: f.default for name, f in fields.items() if f.default is not dataclasses.MISSING}
    sound = {name: value for name, value in {**defaults, **given}.items() if name not in illegal}
    pairs += [(key, f"{cls.__name__}.{key}: {text}") for key, text in _broken(rules, sound)]
    return ConfigError([text for _, text in pairs], [key for key, _ in pairs])


def _broken(rules: Sequence[Rule], values: Mapping[str, Any]) -> list[tuple[str, str]]:
    sentences = []
    for rule in rules:
        if all(key in values for key in rule.keys):
            text = rule.check(*(values[key] for key in rule.keys))
            if text is not None:
                sentences.append((rule.keys[0], text))
    return sentences
