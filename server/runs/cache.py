"""The cache that a project's code finds in `langgraph_sdk.cache`: values that may be lost at any time.

In the memory of one process, since what must be known elsewhere belongs into the store.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import orjson
import structlog
from pydantic import BaseModel

__all__ = ["MAX_CACHE_TTL", "SWRResult", "cache_get", "cache_set", "swr"]

log = structlog.get_logger(__name__)

MAX_CACHE_TTL = timedelta(days=1)
"""How long a value is kept at most."""
_MAX_BYTES = 64 * 1024 * 1024

Loader = Callable[[], Awaitable[Any]]
Status = Literal["miss", "fresh", "stale", "expired"]


@dataclass(frozen=True, slots=True)
class _Entry:
    text: bytes
    stored: float
    ends: float


class _Entries:
    """Entries by key, the longest unused first to go."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: str) -> _Entry | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            if entry.ends <= time.monotonic():
                self._drop(key)
                return None
            self._entries.move_to_end(key)
            return entry

    def put(self, key: str, value: Any, ttl: timedelta | None) -> None:
        text = orjson.dumps(value)
        seconds = min((ttl or MAX_CACHE_TTL).total_seconds(), MAX_CACHE_TTL.total_seconds())
        now = time.monotonic()
        with self._lock:
            self._drop(key)
            self._entries[key] = _Entry(text, now, now + seconds)
            self._bytes += len(key) + len(text)
            while self._bytes > _MAX_BYTES:
                self._drop(next(iter(self._entries)))

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= len(key) + len(entry.text)


_entries = _Entries()
_refreshing: dict[str, asyncio.Task[None]] = {}


class SWRResult:
    """A value of `swr`, and how it was come by."""

    def __init__(self, value: Any, status: Status, store: Callable[[Any], Any], loader: Loader) -> None:
        self.value = value
        self.status: Status = status
        self._store = store
        self._loader = loader

    async def mutate(self, value: Any = ...) -> Any:
        """Put another value into the cache, or without one what the loader gives now."""
        self.value = self._store(await self._loader() if value is ... else value)
        self.status = "fresh"
        return self.value


async def cache_get(key: str) -> Any | None:
    """The value under a key; None when there is none, or no longer."""
    entry = _entries.get(key)
    return None if entry is None else orjson.loads(entry.text)


async def cache_set(key: str, value: Any, ttl: timedelta | None = None) -> None:
    """Keep a value under a key, for a day at most.

    Raises:
        TypeError: JSON does not know such a value.
    """
    _entries.put(key, value, ttl)


async def swr(
    key: str,
    loader: Loader,
    *,
    fresh_for: timedelta,
    max_age: timedelta,
    model: type[BaseModel] | None = None,
) -> SWRResult:
    """The value under a key; a stale one at once, while a new one is loaded for the next who asks."""

    def store(value: Any) -> Any:
        plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        _entries.put(key, plain, None)
        return value

    entry = _entries.get(key)
    age = None if entry is None else time.monotonic() - entry.stored
    if entry is None or age is None or age >= max_age.total_seconds():
        return SWRResult(store(await loader()), "miss" if entry is None else "expired", store, loader)
    plain = orjson.loads(entry.text)
    value = plain if model is None else model.model_validate(plain)
    if age < fresh_for.total_seconds():
        return SWRResult(value, "fresh", store, loader)
    _refresh(key, loader, store)
    return SWRResult(value, "stale", store, loader)


def _refresh(key: str, loader: Loader, store: Callable[[Any], Any]) -> None:
    """Load a value in the background, once at a time."""
    if key in _refreshing:
        return

    async def refresh() -> None:
        try:
            store(await loader())
        # The loader is the project's; whoever asked has a value already.
        except Exception as error:
            log.warning("cache_not_refreshed", key=key, exc_info=error)
        finally:
            _refreshing.pop(key, None)

    _refreshing[key] = asyncio.get_running_loop().create_task(refresh(), name=f"refresh {key}")
