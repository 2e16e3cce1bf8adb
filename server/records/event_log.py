"""The event log of threads: numbered without a gap, complete before anybody sees a part of it.

A reader never sees what the table does not hold: events go to readers after their commit only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from ...checkpoints.database import Connection, Database
from ...checkpoints.errors import DatabaseError, DatabaseUnavailable, FenceLost, SealingFailed
from ...checkpoints.notify import Wakeups
from ...checkpoints.queries import load_queries
from ...checkpoints.retry import PAUSES_S
from ..domain import Event
from .appending import Part
from .hub import Batch, Hub
from .log_reader import LogReader, Place, place_after
from .references import Resolver
from .segments import Last, NewEvent, numbered, pack, sealed_body, shown

if TYPE_CHECKING:
    from ..settings import EventSettings

__all__ = [
    "EventLog",
    "Hub",
    "NewEvent",
    "append_in",
    "delete_runs_in",
    "delete_thread_in",
    "last_seq",
    "sweep",
]

log = structlog.get_logger(__name__)
_QUERIES = load_queries(__file__)

CHANNEL = "interlock_events"
_POLL_S = 3.0


class EventLog:
    """Appends and follows the logs of all threads; one for each event loop.

    Appends of several runs are stored by one statement. A run has one append under way at a time.
    """

    def __init__(self, database: Database, *, wakeups: Wakeups, hub: Hub, settings: EventSettings) -> None:
        self._database = database
        self._wakeups = wakeups
        self._hub = hub
        self._flush_interval_s = settings.flush_interval_ms / 1000
        self._flush_bytes = settings.flush_bytes
        self._waiting: list[Part] = []
        self._flushing: list[Part] = []
        self._weight = 0
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._listening = False

    # --- writing -------------------------------------------------------------------------------

    async def append(
        self,
        *,
        tenant_id: str,
        thread_id: UUID,
        run_id: UUID,
        fence: int,
        events: Sequence[NewEvent],
        closing: int = 0,
    ) -> int:
        """Store events of a run and return the number of the last one, after the commit.

        `closing` is how many events the thread event stream would show of an end of the run after these.

        Raises:
            FenceLost: another writer has taken the thread; nothing was stored.
            DatabaseUnavailable: the database stayed away for too long.
        """
        stored: asyncio.Future[Last] = asyncio.get_running_loop().create_future()
        part = Part(tenant_id, thread_id, run_id, fence, list(events), stored, closing)
        self._waiting.append(part)
        self._weight += part.weight
        self._arrived.set()
        if self._weight >= self._flush_bytes:
            self._full.set()
        return (await stored).seq

    async def run(self) -> None:
        """Flush what is appended, until cancelled. Owned by the resources of the loop."""
        try:
            async with asyncio.TaskGroup() as stragglers:
                while True:
                    await self._arrived.wait()
                    started = time.monotonic()
                    self._flushing = self._take()
                    await self._flush(self._flushing, stragglers)
                    if self._waiting:
                        await self._gather(started + self._flush_interval_s)
        finally:
            for part in (*self._flushing, *self._take()):
                part.stored.cancel()

    def _take(self) -> list[Part]:
        parts, self._waiting, self._weight = self._waiting, [], 0
        self._arrived.clear()
        self._full.clear()
        return [part for part in parts if not part.stored.done()]

    async def _gather(self, until: float) -> None:
        """While the log is busy, let a few more events come together."""
        left = until - time.monotonic()
        if left <= 0:
            return
        try:
            async with asyncio.timeout(left):
                await self._full.wait()
        except TimeoutError:
            pass

    async def _flush(self, parts: list[Part], stragglers: asyncio.TaskGroup) -> None:
        if not parts:
            return
        parts = [part for part in parts if await self._packed(part)]
        if not parts:
            return
        left = dict(enumerate(parts))
        try:
            rows = await self._database.fetch_all(
                _QUERIES.append,
                {
                    "tenant_ids": [p.tenant_id for p in parts],
                    "thread_ids": [p.thread_id for p in parts],
                    "run_ids": [p.run_id for p in parts],
                    "fences": [p.fence for p in parts],
                    "counts": [len(p.events) for p in parts],
                    "showns": [shown(p.events) for p in parts],
                    "closings": [p.closing for p in parts],
                    "codecs": [p.codec for p in parts],
                    "bodies": [p.body for p in parts],
                    "origin": self._hub.origin,
                },
            )
        except DatabaseUnavailable as error:
            # Whether it committed is not known, so each part finds out for itself.
            log.warning("event_flush_failed", parts=len(parts), error=str(error))
            for part in parts:
                stragglers.create_task(self._store_alone(part, uncertain=True))
            return
        except DatabaseError:
            # One of the parts cannot be stored. The others must not suffer from it.
            rows = []
        for row in rows:
            self._done(left.pop(row["part"]), Last.of(row))
        for part in left.values():
            stragglers.create_task(self._store_alone(part, uncertain=False))

    async def _packed(self, part: Part) -> bool:
        """Make a part ready to be stored; False when the project's handlers refuse it."""
        try:
            await part.pack(self._database.sealer)
        except SealingFailed as error:
            if not part.stored.done():
                part.stored.set_exception(error)
            return False
        return True

    async def _store_alone(self, part: Part, *, uncertain: bool) -> None:
        """Store a part that a flush left: wait for the thread's lock, or for the database."""
        try:
            for pause in (*PAUSES_S, None):
                try:
                    last = await self._last_stored(part) if uncertain else None
                    self._done(part, last or await self._store(part))
                    return
                except DatabaseUnavailable:
                    if pause is None or part.stored.done():
                        raise
                uncertain = True
                await asyncio.sleep(pause)
        except DatabaseError as error:
            if not part.stored.done():
                part.stored.set_exception(error)
        finally:
            part.stored.cancel()

    async def _store(self, part: Part) -> Last:
        row = await self._database.fetch_one(
            _QUERIES.append_waiting, {**part.parameters(), "origin": self._hub.origin}
        )
        if row is None:
            raise FenceLost(f"run {part.run_id} no longer holds thread {part.thread_id}")
        return Last.of(row)

    async def _last_stored(self, part: Part) -> Last | None:
        row = await self._database.fetch_one(_QUERIES.last_segment, part.parameters())
        return None if row is None else Last.of(row)

    def _done(self, part: Part, last: Last) -> None:
        self.publish(
            tenant_id=part.tenant_id,
            thread_id=part.thread_id,
            run_id=part.run_id,
            last=last,
            events=part.events,
        )
        if not part.stored.done():
            part.stored.set_result(last)

    # --- reading -------------------------------------------------------------------------------

    async def follow(
        self, *, tenant_id: str, thread_id: UUID, run_id: UUID | None, after: int, whole: bool = True
    ) -> AsyncGenerator[Sequence[Event], None]:
        """Events of a thread after number `after`, from the table and then as they are committed.

        With a run only its own: it ends after the run's `run.ended`, or when nothing can come any
        more. Without one it is the whole thread and has no end. Nothing is left out and nothing
        comes twice; events of deleted runs are skipped. Unless `whole`, large states may come as
        references: `resolved` tells what they stand for.
        """
        self._listen()
        reader = LogReader(self._database, tenant_id, thread_id, run_id, after, whole)
        with self._hub.subscribe(tenant_id, thread_id) as subscription:
            while True:
                if subscription.behind:
                    subscription.behind = False
                    async for events in reader.read():
                        yield events
                    subscription.read_to = reader.cursor
                    if reader.ended:
                        return
                while (batch := subscription.next_batch()) is not None:
                    async for events in reader.take(batch):
                        yield events
                    subscription.read_to = reader.cursor
                    if reader.ended:
                        return
                if not subscription.behind and not await subscription.wait(_POLL_S):
                    subscription.behind = True

    async def between(
        self,
        *,
        tenant_id: str,
        thread_id: UUID,
        run_id: UUID | None,
        after: int,
        until: int,
        whole: bool = False,
    ) -> AsyncGenerator[Sequence[Event], None]:
        """What is stored already of a thread, or of a run: after one number and up to another.

        Unless `whole`, large states may come as references.
        """
        reader = LogReader(self._database, tenant_id, thread_id, run_id, after, whole)
        async for events in reader.read(until=until):
            yield [event for event in events if event.seq <= until]

    async def place_after(self, shown: int, *, tenant_id: str, thread_id: UUID) -> Place:
        """Where a reader goes on who has seen the thread event stream up to a number."""
        return await place_after(self._database, shown, tenant_id=tenant_id, thread_id=thread_id)

    def woken(self, tenant_id: str, thread_id: UUID) -> None:
        """Tell readers in this process that a transaction with `append_in` has committed.

        They go to the table. Where that is worth saving, `publish` hands them the events themselves.
        """
        self._hub.woken(tenant_id, thread_id)

    async def resolved(self, event: Event, *, tenant_id: str, thread_id: UUID) -> Event | None:
        """An event with its data, in whatever form it was read; None when its state is gone."""
        return await Resolver(self._database, tenant_id, thread_id).resolved(event)

    @property
    def origin(self) -> str:
        """What `append_in` is given by those who call `publish` afterwards."""
        return self._hub.origin

    def publish(
        self,
        *,
        tenant_id: str,
        thread_id: UUID,
        run_id: UUID | None,
        last: Last,
        events: Sequence[NewEvent],
    ) -> None:
        """Hand readers in this process what has been stored and committed."""
        if self._hub.followed(tenant_id, thread_id):
            first_seq = last.seq - len(events) + 1
            first_shown = last.shown - shown(events) + 1
            fresh = numbered(events, first_seq=first_seq, first_shown=first_shown, run_id=run_id)
            weight = sum(len(event.data) for event in events)
            self._hub.publish(tenant_id, thread_id, Batch(first_seq, last.seq, run_id, fresh, weight))

    def _listen(self) -> None:
        if not self._listening:
            self._listening = True
            self._wakeups.listen(CHANNEL, self._notified)

    def _notified(self, payload: str) -> None:
        origin, *lines = payload.split("\n")
        if not lines:
            self._hub.woken_all(asyncio.get_running_loop())
        elif origin != self._hub.origin:
            for line in lines:
                seq, thread_id, tenant_id = line.split(" ", 2)
                self._hub.woken(tenant_id, UUID(thread_id), int(seq))


async def append_in(
    connection: Connection,
    *,
    tenant_id: str,
    thread_id: UUID,
    run_id: UUID | None,
    events: Sequence[NewEvent],
    origin: str = "",
) -> tuple[int, int]:
    """Store events inside the caller's transaction; returns the first and the last number.

    A run that they belong to ends with them: no count is kept of what its end would show.

    It locks the thread until the commit. Call `EventLog.woken` after it; or give `EventLog.origin`
    and call `EventLog.publish`, which saves the readers of this process the way to the table.

    Raises:
        DatabaseError: there is no such thread.
    """
    codec, packed = pack(events)
    cursor = await connection.execute(
        _QUERIES.append_in,
        {
            "tenant_id": tenant_id,
            "thread_id": thread_id,
            "run_id": run_id,
            "count": len(events),
            "shown": shown(events),
            "closing": 0,
            "codec": codec,
            "body": sealed_body(packed),
            "origin": origin,
        },
    )
    row = await cursor.fetchone()
    if row is None:
        raise DatabaseError(f"there is no thread {thread_id} to write events of")
    return row["last_seq"] - len(events) + 1, row["last_seq"]


async def last_seq(connection: Connection, *, tenant_id: str, thread_id: UUID) -> int:
    """Number of the last event of a thread; 0 when it has none."""
    cursor = await connection.execute(_QUERIES.last_seq, {"tenant_id": tenant_id, "thread_id": thread_id})
    row = await cursor.fetchone()
    assert row is not None
    return row["last_seq"]


async def delete_runs_in(
    connection: Connection, *, tenant_id: str, thread_id: UUID, run_ids: Sequence[UUID]
) -> None:
    """Remove the events of runs, inside the caller's transaction."""
    await connection.execute(
        _QUERIES.delete_runs, {"tenant_id": tenant_id, "thread_id": thread_id, "run_ids": list(run_ids)}
    )


async def delete_thread_in(connection: Connection, *, tenant_id: str, thread_id: UUID) -> None:
    """Remove all events of a thread, inside the caller's transaction."""
    await connection.execute(_QUERIES.delete_thread, {"tenant_id": tenant_id, "thread_id": thread_id})


async def sweep(connection: Connection, *, retention_s: float, limit: int = 1000) -> int:
    """Remove segments past their retention; returns how many."""
    return (await connection.execute(_QUERIES.sweep, {"retention_s": retention_s, "limit": limit})).rowcount
