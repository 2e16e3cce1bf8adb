"""Opens the connection pool and runs statements on it."""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar

import orjson
from psycopg import AsyncConnection, AsyncCursor
from psycopg.errors import ReadOnlySqlTransaction
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb, set_json_dumps, set_json_loads
from psycopg_pool import AsyncConnectionPool

from .errors import ConnectionEnded, DatabaseUnavailable, translated
from .sealed import Context
from .sealer import Sealer

Connection = AsyncConnection[DictRow]
Parameters = Mapping[str, Any] | Sequence[Any]

_T = TypeVar("_T")
_IDLE_BEFORE_CHECK_S = 30.0
KEEPALIVE: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""Connection parameters that find a dead network within a minute, not within hours."""


def jsonb(value: object) -> Jsonb:
    """Wrap a value for a `jsonb` parameter. It must hold no NUL character: Postgres refuses those."""
    return Jsonb(value)


class _Connection(AsyncConnection[DictRow]):
    """A pooled connection that remembers when it last served."""

    last_used: float = 0.0
    sealer: Sealer | None = None
    opened_with: Context | None = None
    """The context of what was read last; it serves those who write and have none of their own."""


class _SealingCursor(AsyncCursor[Any]):
    """Seals what a statement is given, and opens what it returns."""

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        connection, sealer = self._sealing
        known = connection.opened_with
        if isinstance(params, Mapping):
            params = {name: await sealer.sealed(value, known) for name, value in params.items()}
        return await super().execute(query, params, **options)

    async def fetchone(self) -> Any:
        row = await super().fetchone()
        return None if row is None else (await self._opened([row]))[0]

    async def fetchmany(self, size: int = 0) -> list[Any]:
        return await self._opened(await super().fetchmany(size))

    async def fetchall(self) -> list[Any]:
        return await self._opened(await super().fetchall())

    async def _opened(self, rows: list[Any]) -> list[Any]:
        connection, sealer = self._sealing
        found, context = await sealer.opened(rows)
        connection.opened_with = context or connection.opened_with
        return found

    @property
    def _sealing(self) -> tuple[_Connection, Sealer]:
        connection = self.connection
        assert isinstance(connection, _Connection)
        assert connection.sealer is not None
        return connection, connection.sealer


def seals(connection: Connection) -> bool:
    """Whether what is written over a connection is encrypted by the project."""
    return getattr(connection, "sealer", None) is not None


class Database:
    """A pool of connections for one event loop; a process has one for each loop it runs.

    Connections are in autocommit, rows are dicts, nothing is prepared and no session state is
    kept, so a transaction pooler may stand in between. No connection is held while a graph runs
    or a stream waits.
    """

    def __init__(
        self,
        url: str,
        *,
        min_size: int = 1,
        max_size: int = 10,
        deadline_s: float = 30.0,
        application_name: str = "interlock",
        sealer: Sealer | None = None,
    ) -> None:
        self.url = url
        self.sealer = sealer
        self._deadline_s = deadline_s
        self._suspect_before = 0.0
        self.pool: AsyncConnectionPool[_Connection] = AsyncConnectionPool(
            url,
            connection_class=_Connection,
            kwargs={
                "autocommit": True,
                "prepare_threshold": None,
                "row_factory": dict_row,
                "application_name": application_name,
                **KEEPALIVE,
            },
            min_size=min_size,
            max_size=max_size,
            timeout=deadline_s,
            max_lifetime=1800,
            configure=self._configure,
            check=self._check,
            reset=self._reset,
            open=False,
            name=application_name,
        )

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Open the pool and prove that the database answers.

        Raises:
            DatabaseUnavailable: no connection within the deadline.
        """
        with translated():
            await self.pool.open(wait=True, timeout=self._deadline_s)

    async def close(self) -> None:
        """Close every connection."""
        await self.pool.close()

    async def _configure(self, connection: _Connection) -> None:
        connection.last_used = time.monotonic()
        if self.sealer is not None:
            connection.sealer = self.sealer
            connection.cursor_factory = _SealingCursor
        set_json_dumps(orjson.dumps, connection)
        set_json_loads(orjson.loads, connection)

    async def _check(self, connection: _Connection) -> None:
        # A round trip on every checkout would be a fifth of a short run's database time. So only a
        # connection is probed that was idle for long, is older than the last failure, or has something
        # to read: an idle server says nothing unless it has closed the connection.
        now = time.monotonic()
        if (
            connection.last_used < self._suspect_before
            or now - connection.last_used > _IDLE_BEFORE_CHECK_S
            or _readable(connection)
        ):
            await connection.execute(b"")

    @staticmethod
    async def _reset(connection: _Connection) -> None:
        connection.last_used = time.monotonic()
        connection.opened_with = None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[DictRow]]:
        """Borrow a connection in autocommit. Driver errors leave translated.

        Raises:
            DatabaseUnavailable: the connection broke, or the deadline passed.
        """
        deadline = asyncio.timeout(self._deadline_s)
        task = asyncio.current_task()
        assert task is not None
        cancels = task.cancelling()
        try:
            with translated():
                async with deadline, self.pool.connection() as connection:
                    if task.cancelling() > cancels:
                        # Before Python 3.12 `asyncio.wait_for`, with which the pool waits, loses a cancel
                        # that comes together with the connection.
                        raise asyncio.CancelledError
                    try:
                        yield connection
                    except ReadOnlySqlTransaction:
                        # It leads to what is a standby now; a new one may find the primary.
                        await connection.close()
                        raise
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise DatabaseUnavailable(f"no answer from the database in {self._deadline_s:g} s") from error
        except DatabaseUnavailable:
            self._suspect_before = time.monotonic()
            raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection[DictRow]]:
        """Borrow a connection inside a transaction: commit on a clean exit, else roll back."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def fetch_all(self, statement: bytes, parameters: Parameters = ()) -> list[DictRow]:
        """Run one statement in its own transaction and return all rows."""
        return await self._run(statement, parameters, lambda cursor: cursor.fetchall())

    async def fetch_one(self, statement: bytes, parameters: Parameters = ()) -> DictRow | None:
        """Run one statement in its own transaction and return its first row, or None."""
        return await self._run(statement, parameters, lambda cursor: cursor.fetchone())

    async def execute(self, statement: bytes, parameters: Parameters = ()) -> int:
        """Run one statement in its own transaction and return how many rows it touched."""

        async def count(cursor: AsyncCursor[DictRow]) -> int:
            return cursor.rowcount

        return await self._run(statement, parameters, count)

    async def _run(
        self,
        statement: bytes,
        parameters: Parameters,
        result: Callable[[AsyncCursor[DictRow]], Awaitable[_T]],
    ) -> _T:
        for last_try in (False, True):
            try:
                async with self.connection() as connection:
                    return await result(await connection.execute(statement, parameters))
            except ConnectionEnded:
                if last_try:
                    raise
        raise AssertionError("the last try returns or raises")


def _readable(connection: _Connection) -> bool:
    """Whether bytes, or the end of the stream, wait on the socket of an idle connection."""
    if connection.closed:
        return True
    if not hasattr(select, "poll"):
        return bool(select.select([connection.fileno()], [], [], 0)[0])
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
