"""One LISTEN connection a loop; turns NOTIFY into wake-ups.

A notification only wakes: the table is the truth, and whoever listens also polls slowly.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import psycopg
import structlog
from psycopg import sql

from .database import KEEPALIVE

log = structlog.get_logger(__name__)

PRESENCE = 0x1_17E6
"""First key of the advisory lock that says that a worker is alive; the second is the hash of its name."""

Listener = Callable[[str], None]
"""Called on the loop with the payload, or with "" after a reconnect: anything may have happened.
It must not raise."""

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


class Wakeups:
    """Delivers the payloads of NOTIFY to listeners in this process.

    It connects when the first listener comes. `url` must be a direct address: LISTEN does not
    survive a transaction pooler.
    """

    def __init__(self, url: str, *, application_name: str = "interlock-listen") -> None:
        self._url = url
        self._application_name = application_name
        self._listeners: dict[str, set[Listener]] = {}
        self._presence: str | None = None
        self._changed = asyncio.Event()
        self.connected = asyncio.Event()

    def listen(self, channel: str, listener: Listener) -> Callable[[], None]:
        """Call `listener` for each notification on `channel`; returns the function that ends it."""
        if channel not in self._listeners:
            self._listeners[channel] = set()
            self._changed.set()
        self._listeners[channel].add(listener)
        return lambda: self._listeners[channel].discard(listener)

    def be_present(self, name: str) -> None:
        """Hold a lock in `name` for as long as the connection lasts, so that others see us alive."""
        self._presence = name
        self._changed.set()

    async def run(self) -> None:
        """Keep the connection up until cancelled; reconnects with a growing pause."""
        pause = _FIRST_PAUSE_S
        await self._changed.wait()
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._url,
                    autocommit=True,
                    prepare_threshold=None,
                    application_name=self._application_name,
                    **KEEPALIVE,
                ) as connection:
                    pause = _FIRST_PAUSE_S
                    await self._deliver(connection)
            except psycopg.Error as error:
                log.warning("listen_connection_lost", error=str(error), retry_in_s=pause)
            finally:
                self.connected.clear()
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def _deliver(self, connection: psycopg.AsyncConnection) -> None:
        listening: set[str] = set()
        present = False
        while True:
            self._changed.clear()
            if self._presence is not None and not present:
                await connection.execute(
                    "SELECT pg_advisory_lock(%s, hashtext(%s))", (PRESENCE, self._presence)
                )
                present = True
            fresh = [channel for channel in self._listeners if channel not in listening]
            for channel in fresh:
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            listening.update(fresh)
            self.connected.set()
            for channel in fresh:
                self._dispatch(channel, "")
            await self._receive_until_changed(connection)

    async def _receive_until_changed(self, connection: psycopg.AsyncConnection) -> None:
        receive = asyncio.ensure_future(self._receive(connection))
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({receive, changed}, return_when=asyncio.FIRST_COMPLETED)
            if receive.done():
                receive.result()
                raise psycopg.OperationalError("the notification stream ended")
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
