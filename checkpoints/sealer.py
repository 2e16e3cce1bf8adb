"""The one place where values are encrypted on their way into the database and decrypted on their way out.

A statement does not know of it: its parameters say what they hold (`sealed`), and whatever comes back tells
by itself that it is sealed and with which context (`marks`).
"""

from __future__ import annotations

import asyncio
import base64
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import orjson
import structlog
from langgraph_sdk.encryption.types import DecryptResult, EncryptionContext
from psycopg.types.json import Jsonb

from .errors import SealingFailed
from .marks import BARE, MAGIC, MARK, PREFIX, Opening, bytes_of, parts_of
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
                    if value.startswith(PREFIX):
                        raise _reserved(value.about, f"begins with {PREFIX!r}")
                    return str(value)
                sealed = await self._sealed_blob(value.encode(), value.about, fallback)
                return PREFIX + base64.b64encode(sealed).decode()
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
        return MAGIC + b"J" + text if isinstance(found, dict) and MARK in found else bytes(value)

    async def _sealed_json(self, value: Any, about: About, fallback: Context | None) -> Any:
        if self._encrypt_json is None or value is None or not about.seals:
            if isinstance(value, Mapping) and MARK in value:
                raise _reserved(about, f"has the key {MARK!r}")
            return value
        # A copy, which a handler may change.
        given: Any = orjson.loads(orjson.dumps(value))
        bare = not isinstance(given, dict)
        fields: dict[str, Any] = {BARE: given} if bare else given
        if reserved := sorted({MARK, UNREADABLE} & fields.keys()):
            raise _reserved(about, f"has the key {reserved[0]!r}")
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
        return MAGIC + b"B" + len(head).to_bytes(4) + head + found

    # --- opening -------------------------------------------------------------------------------

    async def opened(self, rows: Sequence[Any]) -> tuple[list[Any], Context | None]:
        """Rows as they were before sealing, and the last context among them.

        What cannot be decrypted is `Unreadable`: one row whose key is gone must not hide the others.
        """
        opening = Opening()
        for row in rows:
            opening.look(row)
        if not opening.stored:
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
                return await self._opened_text(stored)
            case _:
                return await self._opened_bytes(stored)

    async def _opened_text(self, stored: str) -> str:
        body = await self._opened_bytes(bytes_of(stored))
        if isinstance(body, UnreadableBytes):
            return f"[{body.reason}]"
        try:
            return body.decode()
        except UnicodeDecodeError as error:
            return f"[what was decrypted is not text: {error}]"

    async def _opened_bytes(self, stored: bytes) -> bytes:
        try:
            mark, body = parts_of(stored)
        except ValueError as error:
            return UnreadableBytes.of(stored, f"what is stored cannot be decrypted: {error}")
        if isinstance(body, dict):
            return orjson.dumps(await self._opened_json(cast("dict[str, Any]", body)))
        about = f"{mark['model']}.{mark['field']}"
        try:
            if self._decrypt_blob is None:
                raise SealingFailed("there is no handler for `decrypt.blob`")
            told = EncryptionContext(mark["model"], mark["context"], mark["field"])
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
            if mark.get("bare") and BARE not in rest:
                raise SealingFailed("it has lost its value")
            found = await self._call(self._decrypt_json, told, dict(rest), f"decrypting {about}")
            found = _checked(found, rest, about)
        except SealingFailed as error:
            return Unreadable(plain, _reason(str(about), error), stored)
        return found[BARE] if mark.get("bare") else {**plain, **found}

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


def _context_for(about: About, fallback: Context | None) -> dict[str, Any]:
    return dict(about.context or (fallback if about.follows else None) or {})


def _reserved(about: About, holds: str) -> SealingFailed:
    return SealingFailed(
        f"{about} {holds}, which marks what is encrypted or could not be decrypted; nothing was changed",
        status=422,
    )


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
