"""Every call of the official clients, unmodified, against one recording."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import GeneratorType
from typing import Any

from langgraph_sdk import get_client, get_sync_client

from ..servers import InterlockServer
from .calls import Conversation
from .recordings import agree


class Awaitable:
    """The synchronous client under the names of the asynchronous one: each call runs in a thread."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        return Awaitable(getattr(self._target, name))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._target.__name__ in {"stream", "join_stream"}:
            return self._iterate(self._target(*args, **kwargs))
        return asyncio.to_thread(self._target, *args, **kwargs)

    async def _iterate(self, parts: GeneratorType[Any, None, None]) -> AsyncIterator[Any]:
        for part in await asyncio.to_thread(list, parts):
            yield part


async def test_async_client_gets_the_recorded_answers(server: InterlockServer, until: Any) -> None:
    async with get_client(url=server.url, api_key=None) as client:
        agree("calls", await Conversation(client, until).hold(), may_record=True)


async def test_sync_client_gets_the_recorded_answers(server: InterlockServer, until: Any) -> None:
    with get_sync_client(url=server.url, api_key=None) as client:
        agree("calls", await Conversation(Awaitable(client), until).hold())


def test_javascript_client_gets_the_recorded_answers(
    server: InterlockServer, javascript: Callable[..., Any]
) -> None:
    agree("calls", javascript("calls.mjs", server.url))
