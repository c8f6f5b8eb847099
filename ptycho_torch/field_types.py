"""What a field of a configuration may hold, in the schemas of pydantic-core, which checks it.

A type is written as an annotation. ``Annotated`` adds functions that take the schema of the type and return a
narrower one, such as :class:`Demands`. Only what configurations are made of is known here: pydantic itself,
which knows all types, takes longer to load and get ready than everything else until a spec is refused.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from pydantic_core import CoreConfig, SchemaValidator, core_schema

__all__ = ["Demands", "Schema", "config_schema", "field_types", "value_validator"]

Schema: TypeAlias = Any
"""One of the many kinds of dictionaries that pydantic-core takes."""

_STRICT = CoreConfig(strict=True, allow_inf_nan=False)
_CLOSED = CoreConfig(strict=True, allow_inf_nan=False, extra_fields_behavior="forbid")
_PLAIN: Mapping[Any, str] = {bool: "bool", float: "float", int: "int", str: "str"}


_NUMBER = frozenset({"ge", "gt", "le", "lt", "multiple_of"})
_ENFORCED: Mapping[str, frozenset[str]] = {
    "int": _NUMBER,
    "float": _NUMBER,
    "str": frozenset({"min_length", "max_length", "pattern"}),
    "tuple": frozenset({"min_length", "max_length", "strict"}),
}
"""Conditions that pydantic-core knows of a type; others it would leave unread."""


class Demands:
    """Conditions on a value, as pydantic-core names them: ``Annotated[int, Demands(ge=1)]``.

    Raises
    ------
    TypeError
        When it is applied to a type that has no such condition.
    """

    def __init__(self, **conditions: Any) -> None:
        self.conditions = conditions

    def __call__(self, schema: Schema) -> Schema:
        unknown = sorted(self.conditions.keys() - _ENFORCED.get(schema["type"], frozenset()))
        if unknown:
            raise TypeError(f"{', '.join(unknown)} cannot be demanded of the type {schema['type']}")
        return {**schema, **self.conditions}


@functools.cache
def field_types(cls: type[Any]) -> Mapping[str, Any]:
    """Return the annotation of every field of a dataclass."""
    return get_type_hints(cls, include_extras=True)


def value_validator(annotation: Any) -> SchemaValidator:
    """Make what checks a value by itself."""
    return SchemaValidator(_schema(annotation), _STRICT)


def config_schema(cls: Any, check: Callable[[Any], Any]) -> Schema:
    """Return the schema of a frozen dataclass whose fields are given by keyword.

    Parameters
    ----------
    cls
        The dataclass.
    check
        Called with a whole instance; raises ``ValueError`` where fields contradict each other.
    """
    annotations = field_types(cls)
    fields = [
        core_schema.dataclass_field(one.name, _with_default(one, annotations[one.name]), kw_only=True)
        for one in dataclasses.fields(cls)
    ]
    arguments = core_schema.dataclass_args_schema(cls.__name__, fields)
    names = [one["name"] for one in fields]
    whole = core_schema.dataclass_schema(cls, arguments, names, config=_CLOSED, frozen=True)
    return core_schema.no_info_after_validator_function(check, whole)


def _with_default(field: dataclasses.Field[Any], annotation: Any) -> Schema:
    schema = _schema(annotation)
    if field.default is not dataclasses.MISSING:
        return core_schema.with_default_schema(schema, default=field.default)
    if field.default_factory is not dataclasses.MISSING:
        return core_schema.with_default_schema(schema, default_factory=field.default_factory)
    return schema


def _schema(annotation: Any) -> Schema:
    if annotation in _PLAIN:
        return {"type": _PLAIN[annotation]}
    if hasattr(annotation, "__get_pydantic_core_schema__"):
        return annotation.__get_pydantic_core_schema__(annotation, _schema)
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return functools.reduce(lambda schema, narrow: narrow(schema), parts[1:], _schema(parts[0]))
    if origin is Literal:
        return core_schema.literal_schema(list(parts))
    if origin is tuple and parts[1:] == (...,):
        return core_schema.tuple_schema([_schema(parts[0])], variadic_item_index=0)
    if origin in {Union, types.UnionType} and parts[1:] == (types.NoneType,):
        return core_schema.nullable_schema(_schema(parts[0]))
    if origin in {Union, types.UnionType} and all(dataclasses.is_dataclass(one) for one in parts):
        choices: dict[str, Schema] = {one.kind: _schema(one) for one in parts}
        return core_schema.tagged_union_schema(choices, discriminator="kind")
    raise TypeError(f"a field of a configuration cannot be of the type {annotation}")
