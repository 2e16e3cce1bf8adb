"""How what is sealed looks in a column, and how it is found in rows.

| column | sealed |
|---|---|
| `jsonb` | the same keys; `MARK` beside them holds the context |
| `bytea` | `MAGIC`, the context, then what the handler returned, or the JSON text of such an object |
| `text` | `PREFIX` and the base64 of such bytes |
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, TypeGuard, cast

import orjson

from .sealed import Context

MARK = "__sealed__"
"""Key beside the sealed values of an object: `context`, `model`, `field`, and `bare` if it was no object."""

MAGIC = b"\x00\x01ISEAL1"
PREFIX = "interlock-sealed:"
BARE = "value"
_SEALED_TEXTS: Mapping[str, str] = {"description": "review_id", "reason": "policy_ids", "url": "give_up_at"}
"""The `text` columns that are sealed, each with one beside it that only its table has. Nothing else that is
text is opened: names, keys and the like come from clients, who can write what looks sealed."""


class Opening:
    """Finds what is sealed in rows; the same bytes are opened once, however often they come."""

    def __init__(self) -> None:
        self.stored: dict[Any, Any] = {}
        self.context: Context | None = None

    def look(self, value: Any) -> None:
        """Note what is sealed in a row, a list of it, or a column."""
        if isinstance(value, Mapping) and MARK not in value:
            row = cast("Mapping[str, Any]", value)
            for name, column in row.items():
                self._look_at(column, text=_SEALED_TEXTS.get(name) in row)
        else:
            self._look_at(value)

    def _look_at(self, value: Any, *, text: bool = False) -> None:
        if isinstance(value, list):
            for item in filter(_is_openable, cast("list[Any]", value)):
                self._look_at(item)
        elif (key := _key(value, text=text)) is not None:
            self.stored[key] = value
            self.context = _context_of(value) or self.context

    def replaced(self, value: Any, results: Mapping[Any, Any]) -> Any:
        """The same row with what was found."""
        if isinstance(value, dict) and MARK not in value:
            row = cast("dict[str, Any]", value)
            return {
                name: self._replaced(column, results, text=_SEALED_TEXTS.get(name) in row)
                for name, column in row.items()
            }
        return self._replaced(value, results)

    def _replaced(self, value: Any, results: Mapping[Any, Any], *, text: bool = False) -> Any:
        if isinstance(value, list):
            items = cast("list[Any]", value)
            return [self._replaced(item, results) if _is_openable(item) else item for item in items]
        return value if (key := _key(value, text=text)) is None else results[key]


def _is_openable(item: Any) -> bool:
    """Whether an element of an array can be sealed: bytes are, and a list in `jsonb` is so as a whole."""
    return isinstance(item, list | bytes)


def _key(value: Any, *, text: bool) -> Any:
    """By what a sealed value is known; None for any other."""
    if isinstance(value, bytes):
        return value if value.startswith(MAGIC) else None
    if isinstance(value, str):
        return value if text and value.startswith(PREFIX) else None
    return id(value) if isinstance(value, dict) and _is_mark(cast("Any", value).get(MARK)) else None


def _is_mark(mark: Any) -> TypeGuard[Mapping[str, Any]]:
    match mark:
        case {"context": dict(), "model": str(), "field": str()}:
            return True
        case _:
            return False


def bytes_of(text: str) -> bytes:
    """The bytes of a sealed text; empty when it is none."""
    try:
        return base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        return b""


def _context_of(value: Any) -> Context | None:
    if isinstance(value, dict):
        return cast("Any", value)[MARK]["context"]
    try:
        return parts_of(bytes_of(value) if isinstance(value, str) else value)[0]["context"]
    except ValueError:
        return None


def parts_of(stored: bytes) -> tuple[Mapping[str, Any], Any]:
    """The mark of sealed bytes, and the object that has it, or what the handler of bytes returned.

    Raises:
        ValueError: they are not whole.
    """
    if not stored.startswith(MAGIC):
        raise ValueError("its head is not whole")
    kind, rest = stored[len(MAGIC) : len(MAGIC) + 1], stored[len(MAGIC) + 1 :]
    if kind == b"J":
        body = orjson.loads(rest)
        mark = body.get(MARK) if isinstance(body, dict) else None
    else:
        size = int.from_bytes(rest[:4])
        mark, body = orjson.loads(rest[4 : 4 + size]), rest[4 + size :]
    if not _is_mark(mark):
        raise ValueError("its head is not whole")
    return mark, body
