"""One LISTEN connection a process; turns NOTIFY into wake-ups.

A notification only wakes: the table is the truth, and whoever listens also polls slowly.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import psycopg
import structlog
from psycopg import sql

log = structlog.get_logger(__name__)

Listener = Callable[[str], None]
"""Called on the loop with the payload, or with "" after a reconnect: anything may have happened."""


class Wakeups:
    """Delivers the payloads of NOTIFY to listeners in this process.

    `url` must be a direct address: LISTEN does not survive a transaction pooler.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._listeners: dict[str, set[Listener]] = {}
        self._channels_changed = asyncio.Event()
        self.connected = asyncio.Event()

    def listen(self, channel: str, listener: Listener) -> Callable[[], None]:
        """Call `listener` for each notification on `channel`; returns the function that ends it."""
        listeners = self._listeners.setdefault(channel, set())
        if not listeners:
            self._channels_changed.set()
        listeners.add(listener)
        return lambda: listeners.discard(listener)

    async def run(self) -> None:
        """Keep the connection up until cancelled; reconnects with a growing pause."""
        pause = 0.1
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, application_name="interlock-listen", connect_timeout=10
                ) as connection:
                    await self._deliver(connection)
            except psycopg.Error as error:
                self.connected.clear()
                log.warning("listen_connection_lost", error=str(error), retry_in_s=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
            else:
                pause = 0.1

    async def _deliver(self, connection: psycopg.AsyncConnection) -> None:
        while True:
            self._channels_changed.clear()
            for channel in self._listeners:
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            self.connected.set()
            for channel in list(self._listeners):
                self._dispatch(channel, "")
            receive = asyncio.ensure_future(self._receive(connection))
            changed = asyncio.ensure_future(self._channels_changed.wait())
            try:
                await asyncio.wait({receive, changed}, return_when=asyncio.FIRST_COMPLETED)
                if receive.done():
                    receive.result()
                    return
            finally:
                for waiting in (receive, changed):
                    waiting.cancel()
                    with contextlib.suppress(asyncio.CancelledError, psycopg.Error):
                        await waiting

    async def _receive(self, connection: psycopg.AsyncConnection) -> None:
        async for notification in connection.notifies():
            self._dispatch(notification.channel, notification.payload)

    def _dispatch(self, channel: str, payload: str) -> None:
        for listener in list(self._listeners.get(channel, ())):
            listener(payload)
