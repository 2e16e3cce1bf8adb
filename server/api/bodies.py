"""Reads request bodies: JSON whatever the content type says, checked against one model."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import orjson
from fastapi import Depends, Request
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError

from ..errors import Invalid, TooLarge
from ..settings import HttpSettings
from .problems import first_fault
from .schemas import Body

MAX_DEPTH = 128
"""Deepest nesting of a body; more could be read, but not written again by every encoder on the way."""

MAX_CONTAINERS = 100_000
"""Most objects and lists of a body: each takes three bytes to send, and a microsecond or more to read."""

_LARGE = 256 * 1024
"""Bytes above which a body is read in a thread, so that the requests of others go on."""

_UNREADABLE = "Invalid JSON in request body"
_OPENING = re.compile(rb'(?:[^"\[{]++|"(?:[^"\\]++|\\.)*+")*+[\[{]', re.DOTALL)
"""All up to the next opening bracket that is not inside a text."""
_LENGTH = re.compile(r"[0-9]{1,18}")
_LONGEST_INTEGER = len(str(-(2**63)))


def body(model: type[Body]) -> Any:
    """Annotation of a parameter that is the request body: `Annotated[ThreadCreate, body(ThreadCreate)]`."""
    return Depends(Reader(model, many=False))


def bodies(model: type[Body]) -> Any:
    """Annotation of a parameter that is a list of bodies."""
    return Depends(Reader(model, many=True))


class Reader:
    """Reads, checks and returns a body; FastAPI calls it for each request."""

    def __init__(self, model: type[Body], *, many: bool) -> None:
        self.model = model
        self.many = many
        self._adapter: TypeAdapter[Any] = TypeAdapter(
            list[model] if many else model  # pyright: ignore[reportInvalidTypeForm] - known when it runs
        )

    async def __call__(self, request: Request) -> Any:
        """The body of a request, as its model."""
        read = await _parsed(request, self._max_bytes(request.app.state.settings.http), self._read)
        _report_unheeded(request, read if self.many else [read])
        return read

    def _max_bytes(self, http: HttpSettings) -> int:
        plain = min(http.max_plain_body_bytes, http.max_body_bytes)
        return http.max_body_bytes if self.model.holds_values else plain

    def _read(self, text: bytes) -> Any:
        try:
            read = self._adapter.validate_python(parse(text))
        except ValidationError as error:
            raise first_fault(error) from error
        if read == []:
            raise Invalid("the list is empty; give at least one")
        return read


def json_body() -> Any:
    """Annotation of a parameter that is a body of another protocol, which checks it itself."""
    return Depends(_any_json)


async def _any_json(request: Request) -> Any:
    return await _parsed(request, request.app.state.settings.http.max_body_bytes, parse)


def reader_of(route: APIRoute) -> Reader | None:
    """What reads the body of a route, for its description."""
    calls = (dependency.call for dependency in route.dependant.dependencies)
    return next((call for call in calls if isinstance(call, Reader)), None)


async def _parsed(request: Request, max_bytes: int, parse_text: Callable[[bytes], Any]) -> Any:
    text = await read_limited(request, max_bytes)
    return await asyncio.to_thread(parse_text, text) if len(text) > _LARGE else parse_text(text)


async def read_limited(request: Request, max_bytes: int) -> bytes:
    """The bytes of a body.

    Raises:
        TooLarge: there are more of them.
    """
    declared = request.headers.get("content-length", "")
    if _LENGTH.fullmatch(declared) and int(declared) > max_bytes:
        raise TooLarge(f"the request body may have {max_bytes} bytes, this one has {declared}")
    parts = bytearray()
    async for part in request.stream():
        parts += part
        if len(parts) > max_bytes:
            raise TooLarge(f"the request body may have {max_bytes} bytes, this one has more")
    return bytes(parts)


def parse(text: bytes) -> Any:
    """Read JSON. A lone surrogate, which JavaScript writes when it cuts a string, is let through.

    Raises:
        Invalid: it is not JSON, nested too deeply, or of too many parts.
    """
    openings = text.count(b"[") + text.count(b"{")
    if openings > MAX_CONTAINERS and _has_more_containers(text, MAX_CONTAINERS):
        raise Invalid(f"the request body has more than {MAX_CONTAINERS} objects and lists")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        value = _parse_leniently(text, error)
    if openings > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise Invalid(f"the request body is nested more than {MAX_DEPTH} levels deep")
    return value


def _has_more_containers(text: bytes, limit: int) -> bool:
    found = _OPENING.match(text)
    for _ in range(limit):
        if found is None:
            return False
        found = _OPENING.match(text, found.end())
    return found is not None


def _parse_leniently(text: bytes, error: orjson.JSONDecodeError) -> Any:
    if b"\\u" not in text:
        raise Invalid(_UNREADABLE) from error
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_integer)
    except (ValueError, RecursionError) as again:
        raise Invalid(_UNREADABLE) from again


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large a number")
    return number


def _integer(text: str) -> int | float:
    """As orjson reads it: what 64 bits do not hold is a float."""
    if len(text) <= _LONGEST_INTEGER and -(2**63) <= (number := int(text)) < 2**64:
        return number
    return _finite(text)


def _deeper_than(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return False
    return True


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        return iter(value.values())
    if isinstance(value, list):
        return iter(value)
    return iter(())


def _report_unheeded(request: Request, read: list[Body]) -> None:
    unheeded = sorted({name for one in read for name in one.unheeded()})
    if not unheeded:
        return
    # Names come from the client and go into a header: no line ends, nothing outside ASCII.
    names = ", ".join(name[:100].encode("unicode_escape").decode() for name in unheeded[:20])
    if request.app.state.settings.unknown_fields == "refuse":
        raise Invalid(f"unknown field(s): {names}")
    request.state.warning = f"unknown field(s) ignored: {names}"
