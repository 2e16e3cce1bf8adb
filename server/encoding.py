"""Python values as JSON text, the one way they leave this server. Pure, and it never fails.

| Python | JSON |
|---|---|
| message of LangChain | flat object with `type` |
| user of a run | object with its `identity` and `display_name` |
| pydantic model, dataclass, named tuple, mapping | object |
| list, tuple, set, frozenset, deque, numpy array | array; sets are sorted |
| enum | its value |
| Decimal, UUID, path, IP address, pattern, time zone | text |
| date, time, datetime | ISO 8601 text |
| timedelta | seconds |
| bytes | base64 text |
| NaN, infinity | null |
| integer of any size | number |
| lone surrogate | U+FFFD |
| exception | its `repr` |
| secret of pydantic | asterisks |
| class, function | its dotted name |
| anything else, or nested deeper than 200 | its `repr` |
"""

from __future__ import annotations

import base64
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.types import Send
from pydantic import BaseModel

from ..checkpoints.serde import whole

JsonObject = dict[str, Any]
"""An object of JSON, as Python has it."""

# Not OPT_SERIALIZE_NUMPY: with it orjson imports numpy when it first meets an unknown type, on the loop.
_OPTIONS = orjson.OPT_NON_STR_KEYS
_DEEPEST = 200
_LARGEST = 2**63
# U+0085, U+2028, U+2029: some readers of event streams take them for ends of lines.
_LINE_ENDS = {b"\xc2\x85": b"\\u0085", b"\xe2\x80\xa8": b"\\u2028", b"\xe2\x80\xa9": b"\\u2029"}


class Discreet:
    """What holds more than clients may see of it."""

    def shown(self) -> Any:
        """What stands for it."""
        raise NotImplementedError


def encode(value: Any) -> bytes:
    """`value` as one line of JSON text."""
    try:
        text = orjson.dumps(value, _default, _OPTIONS)
    except (TypeError, ValueError, RecursionError):
        # Something that orjson refuses without asking `_default`: a surrogate, a big integer, a
        # circle. Rare, so the walk in Python may be slow.
        text = orjson.dumps(_plain(value, 0, frozenset()), _default, _OPTIONS)
    if text.isascii():
        return text
    for character, escape in _LINE_ENDS.items():
        if character in text:
            text = text.replace(character, escape)
    return text


def storable(encoded: bytes) -> tuple[Any, bytes | None]:
    """A value that jsonb can hold and, if something was lost in it, the exact JSON text.

    jsonb has no NUL character; each becomes U+FFFD.
    """
    value = orjson.loads(encoded)
    if b"\\u0000" not in encoded:
        return value, None
    return _without_nul(value), encoded


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, list):
        return [_without_nul(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {_without_nul(k): _without_nul(v) for k, v in cast("dict[str, Any]", value).items()}
    return value


def _default(value: Any) -> Any:
    """What stands for a value that orjson does not know; it may hold such values itself."""
    if type(value) in MESSAGE_TYPES:
        # Its fields are as plain as its dump; a stream of tokens or a long history is full of them.
        return {**value.__dict__, **value.__pydantic_extra__}
    if isinstance(value, BaseModel):
        return value.model_dump(warnings="none")
    if convert := _converter(type(value)):
        return convert(value)
    return _text(value)


MESSAGE_TYPES: frozenset[type] = frozenset(
    {AIMessage, AIMessageChunk, HumanMessage, HumanMessageChunk, SystemMessage, ToolMessage, RemoveMessage}
)
"""Messages that are exactly the fields they have."""
_NAMED = (type, FunctionType, BuiltinFunctionType, MethodType)
_CONVERTERS: tuple[tuple[type | tuple[type, ...], Callable[[Any], Any]], ...] = (
    (Discreet, lambda v: v.shown()),
    (_NAMED, lambda v: f"{v.__module__}.{v.__qualname__}"),
    (BaseException, repr),
    ((bytes, bytearray, memoryview), lambda v: base64.b64encode(v).decode()),
    (Decimal, str),
    (timedelta, timedelta.total_seconds),
    ((date, time), lambda v: v.isoformat()),
    ((PurePath, UUID), str),
    (re.Pattern, lambda v: v.pattern),
    (ZoneInfo, str),
    (Send, lambda v: {"node": v.node, "arg": v.arg}),
    (Set, lambda v: _sorted(v)),
    (Mapping, dict),
    ((deque, Sequence), list),
)


def _converter(kind: type) -> Callable[[Any], Any] | None:
    if issubclass(kind, tuple) and hasattr(kind, "_asdict"):
        return lambda v: v._asdict()
    for kinds, convert in _CONVERTERS:
        if issubclass(kind, kinds):
            return convert
    if hasattr(kind, "get_secret_value") or kind.__module__ == "ipaddress":
        return str
    if hasattr(kind, "__array__"):
        return lambda v: v.tolist()
    return None


def _sorted(values: Set[Any]) -> list[Any]:
    # The order of a set differs between processes; two readers of one state should see the same.
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=encode)


def _text(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - code of the user, and there is nothing left to ask it for
        return f"<{type(value).__module__}.{type(value).__qualname__}>"


def _plain(value: Any, depth: int, above: frozenset[int]) -> Any:
    """`value` in terms that orjson accepts without question."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return whole(str.__str__(value)) if not isinstance(value, Enum) else _plain(value.value, depth, above)
    if isinstance(value, Enum):
        return _plain(value.value, depth, above)
    if isinstance(value, int):
        return int(value) if -_LARGEST <= value < _LARGEST else _big(value)
    if isinstance(value, float):
        return float(value)
    if depth > _DEEPEST or id(value) in above:
        return whole(_text(value))
    above |= {id(value)}
    if isinstance(value, dict):
        return {
            _key(key): _plain(item, depth + 1, above) for key, item in cast("dict[Any, Any]", value).items()
        }
    if isinstance(value, list) or type(value) is tuple:
        return [_plain(item, depth + 1, above) for item in cast("list[Any]", value)]
    return _plain(_opened(value), depth + 1, above)


def _opened(value: Any) -> Any:
    """One step from an object to plain containers."""
    try:
        if is_dataclass(value) and not isinstance(value, type):
            return {field.name: getattr(value, field.name) for field in fields(value)}
        return _default(value)
    except Exception:  # noqa: BLE001 - code of the user that fails must not hide the rest of the value
        return _text(value)


def _key(key: Any) -> str:
    if isinstance(key, str) and not isinstance(key, Enum):
        return whole(str.__str__(key))
    plain = orjson.loads(encode(key))
    return plain if isinstance(plain, str) else encode(plain).decode()


def _big(value: int) -> orjson.Fragment | str:
    try:
        return orjson.Fragment(str(int(value)))
    except ValueError:
        # More digits than Python converts.
        return hex(value)
