"""JSON schemas of arguments and results: closed, strict, compiled once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema_rs

from .errors import ToolInvalid

_PATTERNS = jsonschema_rs.RegexOptions(size_limit=1_000_000)
_NAMES_OF_SCHEMAS = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
_LISTS_OF_SCHEMAS = ("allOf", "anyOf", "oneOf", "prefixItems")
_SCHEMAS = ("items", "not", "if", "then", "else", "contains", "additionalProperties")
_HIDDEN = "the value"
MOST_VALUES = 100_000
"""A value of more parts is refused unread: checking it would hold up everything else on the loop."""
_MANY_VALUES = 1000
"""Of a value with more parts only the first problem is told: each costs as much as the whole check."""


class Schema:
    """A compiled JSON schema, Draft 2020-12.

    Nothing is fetched, and patterns run on a linear engine: a schema is written by whoever wrote
    the tool and the value by a model.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        try:
            self._validator = jsonschema_rs.Draft202012Validator(
                dict(schema),
                validate_formats=True,
                ignore_unknown_formats=True,
                pattern_options=_PATTERNS,
                mask=_HIDDEN,
                offline=True,
            )
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            raise ToolInvalid(f"the schema cannot be used: {error}") from error

    def problem(self, value: Any) -> str | None:
        """What is wrong with the value, without repeating the value itself; None when it fits."""
        count = 0
        for part in _parts(value):
            count += 1
            if count > MOST_VALUES:
                return f"it holds more than {MOST_VALUES} values"
            if isinstance(part, float) and not math.isfinite(part):
                return "a number is not finite"
        if self._validator.is_valid(value):
            return None
        problems = [
            f"`{'.'.join(str(p) for p in error.instance_path) or 'arguments'}`: {error.message}"
            for error in self._errors(value, only_first=count > _MANY_VALUES)
        ]
        return "; ".join(problems[:5])

    def _errors(self, value: Any, *, only_first: bool) -> list[jsonschema_rs.ValidationError]:
        if not only_first:
            return list(self._validator.iter_errors(value))
        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            return [error]
        return []


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with every object closed: a property that is not declared is refused.

    An object that says itself what else it takes (`additionalProperties`, `patternProperties`) keeps
    that. Parts of an `allOf` are left open, since closing one would refuse what its sibling declares.
    """
    return _closed(schema, inside_all_of=False)


def _closed(schema: Mapping[str, Any], *, inside_all_of: bool) -> dict[str, Any]:
    result = dict(schema)
    for key in _NAMES_OF_SCHEMAS:
        if isinstance(part := schema.get(key), Mapping):
            result[key] = {
                k: _closed(v, inside_all_of=False) if isinstance(v, Mapping) else v for k, v in part.items()
            }
    for key in _LISTS_OF_SCHEMAS:
        if isinstance(part := schema.get(key), list):
            composed = key == "allOf" or inside_all_of
            result[key] = [_closed(v, inside_all_of=composed) if isinstance(v, Mapping) else v for v in part]
    for key in _SCHEMAS:
        if isinstance(part := schema.get(key), Mapping):
            result[key] = _closed(part, inside_all_of=key in ("not", "if", "then", "else"))
    open_ended = any(k in schema for k in ("additionalProperties", "patternProperties", "allOf", "$ref"))
    if "properties" in schema and not open_ended and not inside_all_of:
        result["additionalProperties"] = False
    return result


def _parts(value: Any) -> Iterator[Any]:
    """The value and all that is inside it."""
    left = [value]
    while left:
        part = left.pop()
        yield part
        if isinstance(part, dict):
            left.extend(part.values())
        elif isinstance(part, list | tuple):
            left.extend(part)
