"""The one place where values are encrypted on their way into the database and decrypted on their way out.

A statement does not know of it: its parameters say what they hold (`sealed`), and whatever comes back tells
by itself that it is sealed and with which context.

| column | sealed |
|---|---|
| `jsonb` | the same keys; `MARK` beside them holds the context |
| `bytea` | `_MAGIC`, the context, then what the handler returned, or the JSON text of such an object |
| `text` | `_PREFIX` and the base64 of such bytes |
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import orjson
import structlog
from langgraph_sdk.encryption.types import DecryptResult, EncryptionContext
from psycopg.types.json import Jsonb

from .errors import SealingFailed
from .sealed import (
    UNREADABLE,
    About,
    Context,
    SealedBlob,
    SealedJson,
    SealedJsonBytes,
    SealedJsonText,
    SealedText,
    Unreadable,
    UnreadableBytes,
)

if TYPE_CHECKING:
    from langgraph_sdk import Encryption

log = structlog.get_logger(__name__)

MARK = "__sealed__"
"""Key beside the sealed values of an object: `context`, `model`, `field`, and `bare` if it was no object."""

_MAGIC = b"\x00\x01ISEAL1"
_PREFIX = "interlock-sealed:"
_BARE = "value"
_DEADLINE_S = 10.0
_AT_ONCE = 16
"""Handlers that work at the same time for one result: each may ask a service for a key."""

_IDS = frozenset(
    {
        "graph_id",
        "assistant_id",
        "thread_id",
        "run_id",
        "checkpoint_id",
        "cron_id",
        "created_by",
    }
)
_PLAIN: Mapping[tuple[str, str], frozenset[str]] = {
    ("checkpoint", "metadata"): frozenset({"source", "step", "parents", "run_attempt"}),
    ("run", "kwargs"): frozenset(
        {
            "checkpoint_during",
            "durability",
            "interrupt_after",
            "interrupt_before",
            "resumable",
            "stream_mode",
            "strict_resume",
            "subgraphs",
            "temporary",
        }
    ),
    ("thread", "left_by"): frozenset({"assistant_id", "checkpoint_id"}),
}
_WHO = frozenset({"tenant", "subject", "roles", "permissions", "on_behalf_of", "encryption"})


def stays_plain(model: str, field: str, key: str) -> bool:
    """Whether the server itself has to find or act by a key, so that no handler is given it."""
    if field == "principal":
        return key in _WHO
    if field == "metadata" and (key in _IDS or key.startswith("langgraph_")):
        return True
    return key in _PLAIN.get((model, field), frozenset())


class Sealer:
    """Calls the handlers of a project, all on one loop, since what they hold open belongs to a loop."""

    def __init__(self, handlers: Encryption, *, home: asyncio.AbstractEventLoop) -> None:
        self._encrypt_json = handlers._json_encryptor
        self._decrypt_json = handlers._json_decryptor
        self._encrypt_blob = handlers._blob_encryptor
        self._decrypt_blob = handlers._blob_decryptor
        self._home = home

    @property
    def seals_blobs(self) -> bool:
        """Whether there is a handler for bytes."""
        return self._encrypt_blob is not None

    # --- sealing -------------------------------------------------------------------------------

    async def sealed(self, value: Any, fallback: Context | None = None) -> Any:
        """A parameter as it is stored; `fallback` is the context of one that has none.

        Raises:
            SealingFailed: the handler raised, or returned what cannot stand for the value.
        """
        match value:
            case SealedJson():
                if isinstance(value.obj, Unreadable) and value.obj.stored is not None:
                    return Jsonb(value.obj.stored)
                return Jsonb(await self._sealed_json(value.obj, value.about, fallback))
            case SealedJsonText():
                found = await self._sealed_json(orjson.loads(str(value)), value.about, fallback)
                return orjson.dumps(found).decode()
            case SealedJsonBytes():
                return await self._sealed_json_bytes(value, fallback)
            case SealedBlob():
                return await self._sealed_blob(value, value.about, fallback)
            case SealedText():
                if self._encrypt_blob is None or not value.about.seals:
                    return str(value)
                sealed = await self._sealed_blob(value.encode(), value.about, fallback)
                return _PREFIX + base64.b64encode(sealed).decode()
            case list():
                items = cast("list[Any]", value)
                return [await self.sealed(item, fallback) for item in items]
            case _:
                return value

    async def _sealed_json_bytes(self, value: SealedJsonBytes, fallback: Context | None) -> bytes:
        if self._encrypt_json is None or not value.about.seals:
            return bytes(value)
        found = await self._sealed_json(orjson.loads(bytes(value)), value.about, fallback)
        text = orjson.dumps(found)
        return _MAGIC + b"J" + text if isinstance(found, dict) and MARK in found else bytes(value)

    async def _sealed_json(self, value: Any, about: About, fallback: Context | None) -> Any:
        if self._encrypt_json is None or value is None or not about.seals:
            return value
        # A copy, which a handler may change.
        given: Any = orjson.loads(orjson.dumps(value))
        bare = not isinstance(given, dict)
        fields: dict[str, Any] = {_BARE: given} if bare else given
        if reserved := sorted({MARK, UNREADABLE} & fields.keys()):
            raise SealingFailed(
                f"{about} has the key {reserved[0]!r}, which marks what could not be decrypted; "
                "nothing was changed",
                status=422,
            )
        plain = {k: v for k, v in fields.items() if stays_plain(about.model, about.field, k)}
        rest = {k: v for k, v in fields.items() if k not in plain}
        if not rest:
            return given
        context = _context_for(about, fallback)
        told = EncryptionContext(about.model, context, about.field)
        found = await self._call(self._encrypt_json, told, dict(rest), f"encrypting {about}")
        found = _checked(found, rest, about)
        if found == rest:
            return given
        mark = {"context": context, "model": about.model, "field": about.field} | (
            {"bare": True} if bare else {}
        )
        return {**plain, **found, MARK: mark}

    async def _sealed_blob(self, body: bytes, about: About, fallback: Context | None) -> bytes:
        if self._encrypt_blob is None or not about.seals:
            return bytes(body)
        context = _context_for(about, fallback)
        told = EncryptionContext(about.model, context, about.field)
        found = await self._call(self._encrypt_blob, told, bytes(body), f"encrypting {about}")
        if not isinstance(found, bytes):
            raise SealingFailed(
                f"encrypting {about}: the handler returned a {type(found).__name__}, not bytes"
            )
        head = orjson.dumps({"context": context, "model": about.model, "field": about.field})
        return _MAGIC + b"B" + len(head).to_bytes(4) + head + found

    # --- opening -------------------------------------------------------------------------------

    async def opened(self, rows: Sequence[Any]) -> tuple[list[Any], Context | None]:
        """Rows as they were before sealing, and the last context among them.

        What cannot be decrypted is `Unreadable`: one row whose key is gone must not hide the others.
        """
        opening = _Opening()
        for row in rows:
            opening.look(row)
        if not opening.places:
            return list(rows), None
        turns = asyncio.Semaphore(_AT_ONCE)

        async def one(stored: Any) -> Any:
            async with turns:
                return await self._open(stored)

        keys = list(opening.stored)
        found = await asyncio.gather(*(one(opening.stored[key]) for key in keys))
        results = dict(zip(keys, found, strict=True))
        return [opening.replaced(row, results) for row in rows], opening.context

    async def _open(self, stored: Any) -> Any:
        match stored:
            case dict():
                return await self._opened_json(cast("dict[str, Any]", stored))
            case str():
                body = await self._open(_bytes_of(stored))
                return f"[{body.reason}]" if isinstance(body, UnreadableBytes) else body.decode()
            case _:
                return await self._opened_bytes(stored)

    async def _opened_bytes(self, stored: bytes) -> bytes:
        kind, rest = stored[len(_MAGIC) : len(_MAGIC) + 1], stored[len(_MAGIC) + 1 :]
        if kind == b"J":
            return orjson.dumps(await self._opened_json(orjson.loads(rest)))
        size = int.from_bytes(rest[:4])
        head, body = orjson.loads(rest[4 : 4 + size]), rest[4 + size :]
        about = f"{head['model']}.{head['field']}"
        try:
            if self._decrypt_blob is None:
                raise SealingFailed("there is no handler for `decrypt.blob`")
            told = EncryptionContext(head["model"], head["context"], head["field"])
            found = await self._call(self._decrypt_blob, told, body, f"decrypting {about}")
            if not isinstance(found, bytes):
                raise SealingFailed(f"the handler returned a {type(found).__name__}, not bytes")
            return found
        except SealingFailed as error:
            return UnreadableBytes.of(stored, _reason(about, error))

    async def _opened_json(self, stored: dict[str, Any]) -> Any:
        mark = stored[MARK]
        model, field = mark["model"], mark["field"]
        fields = {k: v for k, v in stored.items() if k != MARK}
        plain = {k: v for k, v in fields.items() if stays_plain(model, field, k)}
        # What a statement has emptied since.
        plain |= {k: v for k, v in fields.items() if v == {} and field == "principal"}
        rest = {k: v for k, v in fields.items() if k not in plain}
        if not rest:
            return plain
        about = About(model, field, mark["context"])
        try:
            if self._decrypt_json is None:
                raise SealingFailed("there is no handler for `decrypt.json`")
            told = EncryptionContext(model, mark["context"], field)
            found = await self._call(self._decrypt_json, told, dict(rest), f"decrypting {about}")
            found = _checked(found, rest, about)
        except SealingFailed as error:
            return Unreadable(plain, _reason(str(about), error), stored)
        return found[_BARE] if mark.get("bare") else {**plain, **found}

    async def _call(
        self, handler: Callable[..., Awaitable[Any]], told: EncryptionContext, given: Any, doing: str
    ) -> Any:
        try:
            async with asyncio.timeout(_DEADLINE_S):
                found = await self._at_home(handler, told, given)
        except TimeoutError as error:
            raise SealingFailed(
                f"{doing}: the project's handler took longer than {_DEADLINE_S:g} s"
            ) from error
        # The handler is the project's code.
        except Exception as error:
            # Where in it, and no more: a page of rows whose key is gone would fill the log with tracebacks.
            places = traceback.extract_tb(error.__traceback__)
            log.error(
                "encryption_handler_failed",
                doing=doing,
                error=f"{type(error).__name__}: {error}",
                at=f"{places[-1].filename}:{places[-1].lineno}" if places else None,
            )
            status = getattr(error, "status_code", 500)
            said = getattr(error, "detail", None) or f"{type(error).__name__}: {error}"
            raise SealingFailed(
                f"{doing}: the project's handler failed: {said}",
                status=status if isinstance(status, int) else 500,
            ) from error
        return found.plaintext if isinstance(found, DecryptResult) else found

    async def _at_home(
        self, handler: Callable[..., Awaitable[Any]], told: EncryptionContext, given: Any
    ) -> Any:
        if asyncio.get_running_loop() is self._home:
            return await handler(told, given)

        async def call() -> Any:
            return await handler(told, given)

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call(), self._home))


class _Opening:
    """Finds what is sealed in rows; the same bytes are opened once, however often they come."""

    def __init__(self) -> None:
        self.stored: dict[Any, Any] = {}
        self.places: set[int] = set()
        self.context: Context | None = None

    def look(self, value: Any) -> None:
        """Note what is sealed in a row, a list of it, or a column."""
        if isinstance(value, Mapping) and MARK not in value:
            row = cast("Mapping[str, Any]", value)
            for column in row.values():
                self._look_at(column)
        else:
            self._look_at(value)

    def _look_at(self, value: Any) -> None:
        if isinstance(value, list):
            for item in cast("list[Any]", value):
                self._look_at(item)
        elif (key := _key(value)) is not None:
            self.places.add(id(value))
            self.stored[key] = value
            self.context = _context_of(value) or self.context

    def replaced(self, value: Any, results: Mapping[Any, Any]) -> Any:
        """The same row with what was found."""
        if isinstance(value, dict) and MARK not in value:
            row = cast("dict[str, Any]", value)
            return {name: self._replaced(column, results) for name, column in row.items()}
        return self._replaced(value, results)

    def _replaced(self, value: Any, results: Mapping[Any, Any]) -> Any:
        if isinstance(value, list):
            return [self._replaced(item, results) for item in cast("list[Any]", value)]
        return value if (key := _key(value)) is None else results[key]


def _key(value: Any) -> Any:
    """By what a sealed value is known; None for any other."""
    if isinstance(value, bytes):
        return value if value.startswith(_MAGIC) else None
    if isinstance(value, str):
        return value if value.startswith(_PREFIX) and _bytes_of(value).startswith(_MAGIC) else None
    return id(value) if isinstance(value, dict) and _is_mark(cast("Any", value).get(MARK)) else None


def _is_mark(mark: Any) -> bool:
    return isinstance(mark, dict) and {"context", "model", "field"} <= mark.keys()


def _bytes_of(text: str) -> bytes:
    try:
        return base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        return b""


def _context_for(about: About, fallback: Context | None) -> dict[str, Any]:
    return dict(about.context or (fallback if about.follows else None) or {})


def _context_of(value: Any) -> Context | None:
    if isinstance(value, dict):
        return cast("Any", value)[MARK]["context"]
    body = _bytes_of(value) if isinstance(value, str) else value
    rest = body[len(_MAGIC) + 1 :]
    if body[len(_MAGIC) : len(_MAGIC) + 1] == b"J":
        return orjson.loads(rest)[MARK]["context"]
    return orjson.loads(rest[4 : 4 + int.from_bytes(rest[:4])])["context"]


def _checked(found: Any, given: Mapping[str, Any], about: About) -> dict[str, Any]:
    """What a handler of objects returned, if it has the same keys.

    Raises:
        SealingFailed: it has not, or a key is changed by which rows are told apart.
    """
    if not isinstance(found, dict) or found.keys() != given.keys():
        raise SealingFailed(f"the handler for {about} must return an object with the keys that it was given")
    try:
        orjson.dumps(found)
    except TypeError as error:
        raise SealingFailed(f"the handler for {about} returned what is not JSON: {error}") from error
    changed = sorted(k for k in about.left_plain & given.keys() if found[k] != given[k])
    if changed:
        raise SealingFailed(
            f"`encrypt.json` changes {changed[0]!r} in {about}, by which the handlers of `auth` tell rows "
            "apart; it must leave that key as it is",
            status=422,
        )
    return cast("dict[str, Any]", found)


def _reason(about: str, error: SealingFailed) -> str:
    return str(error) if about in str(error) else f"{about}: {error}"
