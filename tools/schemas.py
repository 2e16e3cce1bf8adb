"""JSON schemas of arguments and results: closed, strict, compiled once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jsonschema_rs

from .errors import ToolInvalid

_PATTERNS = jsonschema_rs.RegexOptions(size_limit=1_000_000)
_NAMES_OF_SCHEMAS = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
_LISTS_OF_SCHEMAS = ("allOf", "anyOf", "oneOf", "prefixItems")
_SCHEMAS = ("items", "not", "if", "then", "else", "contains", "additionalProperties")
_HIDDEN = "the value"


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
        if not _finite(value):
            return "a number is not finite"
        problems = [
            f"`{'.'.join(str(p) for p in error.instance_path) or 'arguments'}`: {error.message}"
            for error in self._validator.iter_errors(value)
        ]
        return "; ".join(problems[:5]) or None


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


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(_finite(v) for v in value.values())
    if isinstance(value, list | tuple):
        return all(_finite(v) for v in value)
    return True
