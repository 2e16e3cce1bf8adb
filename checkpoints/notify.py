"""One LISTEN connection a loop; turns NOTIFY into wake-ups.

A notification only wakes: the table is the truth, and whoever listens also polls slowly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psycopg
import structlog
from psycopg import sql

from .database import KEEPALIVE

log = structlog.get_logger(__name__)

PRESENCE = 0x1_17E6
"""First key of the advisory lock that says that a worker is alive; the second is the hash of its name."""

Listener = Callable[[str], None]
"""Called on the loop with the payload, or with "" after a reconnect: anything may have happened."""

LONGEST_PAUSE_S = 1.0
"""Between two tries to connect: a worker that lives is not seen for that long after an outage."""
_FIRST_PAUSE_S = 0.1
_PRESENCE_RETRY_S = 1.0
_FOUND_DEAD_BY_THE_SERVER = {
    "tcp_keepalives_idle": str(KEEPALIVE["keepalives_idle"]),
    "tcp_keepalives_interval": str(KEEPALIVE["keepalives_interval"]),
    "tcp_keepalives_count": str(KEEPALIVE["keepalives_count"]),
    "tcp_user_timeout": str(KEEPALIVE["tcp_user_timeout"]),
}
"""The other end must notice too, or what is left of a connection keeps its lock for hours."""


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
        """Every channel is listened to, and others see us if they are to."""

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
        self.connected.clear()
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
            pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _deliver(self, connection: psycopg.AsyncConnection) -> None:
        listening: set[str] = set()
        present = reported = False
        for setting in _FOUND_DEAD_BY_THE_SERVER.items():
            await connection.execute("SELECT set_config(%s, %s, false)", setting)
        while True:
            self._changed.clear()
            fresh = [channel for channel in self._listeners if channel not in listening]
            for channel in fresh:
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            listening.update(fresh)
            if self._presence is not None and not present:
                present = await _take_presence(connection, self._presence)
                if not present and not reported:
                    # Others see us all the same: it is our name that the dead session holds.
                    log.warning("presence_held_by_a_former_connection", name=self._presence)
                    reported = True
            self.connected.set()
            for channel in fresh:
                self._dispatch(channel, "")
            missing = self._presence is not None and not present
            await self._receive_until_changed(connection, wait_s=_PRESENCE_RETRY_S if missing else None)

    async def _receive_until_changed(
        self, connection: psycopg.AsyncConnection, *, wait_s: float | None
    ) -> None:
        receive = asyncio.ensure_future(self._receive(connection))
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({receive, changed}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            receive.cancel()
            changed.cancel()
            # Not by awaiting each: its cancel could not be told from one that is meant for us.
            await asyncio.wait({receive, changed})
        if not receive.cancelled():
            receive.result()
            raise psycopg.OperationalError("the notification stream ended")

    async def _receive(self, connection: psycopg.AsyncConnection) -> None:
        async for notification in connection.notifies():
            self._dispatch(notification.channel, notification.payload)

    def _dispatch(self, channel: str, payload: str) -> None:
        for listener in list(self._listeners.get(channel, ())):
            try:
                listener(payload)
            except Exception:
                # One payload that one listener cannot read must not make the whole process deaf.
                log.exception("listener_failed", channel=channel, payload=payload)


async def _take_presence(connection: psycopg.AsyncConnection, name: str) -> bool:
    """Take the lock of a name; False while a former connection of ours is not known to be dead."""
    cursor = await connection.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", (PRESENCE, name))
    row = await cursor.fetchone()
    return row is not None and bool(row[0])
