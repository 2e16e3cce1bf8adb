"""From the filter that a handler of the project's `Auth` object returns to what a row must hold. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson

from ..records.held import Held

OPERATORS = ("$eq", "$contains")
"""What a filter may ask of a key of the metadata; a plain value means `$eq`."""


class BadFilter(ValueError):
    """A filter cannot be understood. It is refused, since to leave a part of it out would show too much."""


def held_by(wanted: Mapping[Any, Any]) -> Held:
    """What the metadata of a row must hold to match every key of a filter; an empty one asks for nothing.

    Raises:
        BadFilter: a key, an operator or a value is none that a filter may have.
    """
    held = {_text(name): _condition(name, given) for name, given in wanted.items()}
    return held or None


def _condition(name: Any, given: Any) -> Any:
    if not isinstance(given, Mapping):
        return _scalar(name, given)
    if len(given) != 1:
        raise BadFilter(
            f"{name!r} must have exactly one operator of {', '.join(OPERATORS)}, not {len(given)}"
        )
    [(operator, operand)] = given.items()
    if operator == "$eq":
        return _scalar(name, operand)
    if operator != "$contains":
        raise BadFilter(f"{operator!r} of {name!r} is no operator; there are {', '.join(OPERATORS)}")
    if not isinstance(operand, list | tuple | set | frozenset):
        return [_scalar(name, operand)]
    if not operand:
        raise BadFilter(f"`$contains` of {name!r} is empty, so it would match every list")
    return [_scalar(name, item) for item in operand]


def _scalar(name: Any, value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if not isinstance(value, bool | int | float):
        raise BadFilter(
            f"{name!r} is compared with a {type(value).__name__}; use text, a number or a boolean"
        )
    try:
        return orjson.loads(orjson.dumps(value)) if math.isfinite(value) else _refuse_infinite(name)
    except (orjson.JSONEncodeError, OverflowError) as error:
        raise BadFilter(f"{name!r} is compared with a number that JSON cannot hold") from error


def _refuse_infinite(name: Any) -> Any:
    raise BadFilter(f"{name!r} is compared with a number that is not finite")


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise BadFilter(f"{text!r} is no key of metadata")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadFilter(f"{text!r} is not Unicode text") from error
    if "\0" in text:
        raise BadFilter(f"{text!r} holds the character NUL, as no metadata do")
    # A str of a project's own class, such as an enum, is written as the text that it is.
    return str.__str__(text)
