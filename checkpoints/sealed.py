"""Values that a project may want encrypted at rest: parameters of statements that say what they hold.

Each is also what it is without encryption, a `jsonb` wrapper, text or bytes. So a statement takes it either
way, and only the cursor of `sealer` knows more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Self

from psycopg.types.json import Jsonb

Context = Mapping[str, Any]
"""What a project's handlers find their keys by: JSON, and no secret. It is stored beside what is sealed."""

_NONE: Context = MappingProxyType({})
_CONTEXT: ContextVar[Context] = ContextVar("interlock_encryption_context", default=_NONE)
_LEFT_PLAIN: ContextVar[frozenset[str]] = ContextVar("interlock_left_plain", default=frozenset())

_UNSEALED: ContextVar[bool] = ContextVar("interlock_unsealed", default=False)


def seal_for(context: Context) -> None:
    """From now on, in this task, values are sealed with this context."""
    _CONTEXT.set(context)
    _LEFT_PLAIN.set(frozenset())


@contextmanager
def sealing_for(context: Context) -> Iterator[None]:
    """Seal values with this context inside the block."""
    token = _CONTEXT.set(context)
    try:
        yield
    finally:
        _CONTEXT.reset(token)


@contextmanager
def unsealed() -> Iterator[None]:
    """Seal nothing inside the block: for words of the server's own about keys that are gone."""
    token = _UNSEALED.set(True)
    try:
        yield
    finally:
        _UNSEALED.reset(token)


def require_plain(names: frozenset[str]) -> None:
    """From now on, in this task, no handler may change these keys of metadata, which tell rows apart."""
    _LEFT_PLAIN.set(_LEFT_PLAIN.get() | names)


_FOLLOWS = frozenset({"values", "interrupts", "error", "exact", "left_by", "body"})
"""Fields that are written over what was read before, such as the end of a run over its thread."""


class About:
    """What a value is, and for whom it is sealed: taken down when the parameter is made."""

    __slots__ = ("context", "field", "follows", "left_plain", "model", "seals")

    def __init__(self, model: str, field: str, context: Context | None = None) -> None:
        self.model = model
        self.field = field
        self.context = _CONTEXT.get() if context is None else context
        self.seals = not _UNSEALED.get()
        self.follows = field in _FOLLOWS
        """Whoever writes it without a context of their own goes on with that of what they read."""
        self.left_plain = _LEFT_PLAIN.get() if field == "metadata" else frozenset[str]()

    def __str__(self) -> str:
        return f"{self.model}.{self.field}"


class SealedJson(Jsonb):
    """An object for a `jsonb` column: its values are encrypted one by one, its keys stay."""

    def __init__(self, obj: Any, about: About) -> None:
        super().__init__(obj)
        self.about = about


class _Text(str):
    about: About

    @classmethod
    def of(cls, text: str, about: About) -> Self:
        """The text, and what it is."""
        made = cls(text)
        made.about = about
        return made


class SealedJsonText(_Text):
    """The same as JSON text, for a parameter that is cast to `jsonb`."""


class SealedText(_Text):
    """Text for a `text` column, encrypted as a whole."""


class _Bytes(bytes):
    about: About

    @classmethod
    def of(cls, body: bytes, about: About) -> Self:
        """The bytes, and what they are."""
        made = cls(body)
        made.about = about
        return made


class SealedJsonBytes(_Bytes):
    """JSON text for a `bytea` column: the values of its object are encrypted one by one."""


class SealedBlob(_Bytes):
    """Bytes for a `bytea` column, encrypted as a whole."""


class Unreadable(dict[str, Any]):
    """What stands for an object that could not be decrypted: its plain keys, and why.

    Written again it leaves what is stored as it was.
    """

    def __init__(self, plain: Mapping[str, Any], reason: str, stored: Any = None) -> None:
        super().__init__({**plain, UNREADABLE: reason})
        self.stored = stored


class UnreadableBytes(bytes):
    """What stands for bytes that could not be decrypted; they are the stored ones."""

    reason: str

    @classmethod
    def of(cls, stored: bytes, reason: str) -> Self:
        """The stored bytes, and why they are not more."""
        made = cls(stored)
        made.reason = reason
        return made


UNREADABLE = "__unreadable__"
"""Key that tells why the rest of an object is missing."""


def sealed_json(model: str, field: str, value: Any, *, context: Context | None = None) -> SealedJson:
    """An object for a `jsonb` column; model and field are LangGraph's names, such as thread and metadata."""
    return SealedJson(value, About(model, field, context))


def sealed_json_text(model: str, field: str, text: str) -> SealedJsonText:
    """JSON text for a parameter that is cast to `jsonb`."""
    return SealedJsonText.of(text, About(model, field))


def sealed_text(model: str, field: str, text: str) -> SealedText:
    """Text for a `text` column."""
    return SealedText.of(text, About(model, field))


def sealed_json_bytes(model: str, field: str, text: bytes) -> SealedJsonBytes:
    """JSON text for a `bytea` column."""
    return SealedJsonBytes.of(text, About(model, field))


def sealed_blob(model: str, field: str, body: bytes, *, context: Context | None = None) -> SealedBlob:
    """Bytes for a `bytea` column."""
    return SealedBlob.of(body, About(model, field, context))


def current_context() -> Context:
    """What values are sealed with in this task."""
    return _CONTEXT.get()


def unreadable(value: object) -> str | None:
    """Why a value that was read could not be decrypted; None when it could."""
    if isinstance(value, UnreadableBytes):
        return value.reason
    if isinstance(value, Mapping):
        reason: object = value.get(UNREADABLE)
        return reason if isinstance(reason, str) else None
    return None
