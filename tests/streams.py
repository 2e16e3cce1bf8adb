"""Connections that a test serves itself: at its end neither a task nor a socket is left behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def close_all(writers: Iterable[asyncio.StreamWriter]) -> None:
    """Close connections and wait until they are."""
    closing = list(writers)
    for writer in closing:
        writer.close()
    for writer in closing:
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


class Serving:
    """Who serves the connections of a listener: `asyncio.start_server(Serving(serve), …)`."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except ConnectionError:
            pass  # The other side went away: that is how most of them end.
        finally:
            await close_all([writer])
            self._tasks.discard(task)

    async def end(self) -> None:
        """Break off what is still served."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))
