"""Where one reader stands in a thread's event log, and how it gets on: by the table or by batches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from ...checkpoints.database import Connection, Database
from ...checkpoints.queries import load_queries
from ..domain import Event
from .hub import Batch
from .references import Resolver, is_reference
from .segments import unpack

_QUERIES = load_queries(__file__)


class Place(NamedTuple):
    """Where a reader of the thread event stream goes on."""

    after: int
    """Number of the log's entry that it begins after."""
    shown: int
    """What it has seen; never beyond what there is."""
    last: int
    """Number of the log's last entry."""
    last_shown: int


async def place_after(database: Database, shown: int, *, tenant_id: str, thread_id: UUID) -> Place:
    """Where a reader goes on who has seen up to a number; the beginning, where there is no thread yet."""
    row = await database.fetch_one(
        _QUERIES.place_of, {"tenant_id": tenant_id, "thread_id": thread_id, "after": shown}
    )
    if row is None:
        return Place(0, 0, 0, 0)
    return Place(row["after_seq"], min(shown, row["last_shown"]), row["last_seq"], row["last_shown"])


async def closing(connection: Connection, *, tenant_id: str, thread_id: UUID, run_id: UUID) -> int:
    """How many events the thread event stream shows of the end of a run, if it ends now."""
    cursor = await connection.execute(
        _QUERIES.closing, {"tenant_id": tenant_id, "thread_id": thread_id, "run_id": run_id}
    )
    row = await cursor.fetchone()
    return 1 if row is None else row["closing"]


_PAGE_SEGMENTS = 256
_PAGE_BYTES = 4 * 1024 * 1024
END_OF_LOG = 2**62


@dataclass(slots=True)
class LogReader:
    """One reader of a thread or of one of its runs."""

    database: Database
    tenant_id: str
    thread_id: UUID
    run_id: UUID | None
    cursor: int
    """Number of the last event that it has."""
    whole: bool
    """Resolve references to large states."""
    ended: bool = False
    """Nothing can follow any more."""
    existed: bool = False
    """The thread was seen; what is gone afterwards was deleted."""
    resolver: Resolver = field(init=False)

    def __post_init__(self) -> None:
        self.resolver = Resolver(self.database, self.tenant_id, self.thread_id)

    async def read(self, *, until: int = END_OF_LOG) -> AsyncIterator[Sequence[Event]]:
        """What the table holds after the cursor. Sets `ended` when nothing can follow it."""
        while not self.ended:
            rows = await self.database.fetch_all(
                _QUERIES.read_segments,
                {
                    **self._key(),
                    "after": self.cursor,
                    "until": until,
                    "segments": _PAGE_SEGMENTS,
                    "weight": _PAGE_BYTES,
                },
            )
            segments = [row for row in rows if row["first_seq"] is not None]
            async for events in self._portions(segments):
                yield events
            weight = sum(len(row["body"]) for row in segments)
            if len(segments) < _PAGE_SEGMENTS and weight < _PAGE_BYTES:
                if until == END_OF_LOG:
                    self._ends(open_=rows[0]["open"])
                return

    async def _portions(self, segments: Sequence[Mapping[str, Any]]) -> AsyncIterator[Sequence[Event]]:
        """What segments hold after the cursor, no more at once than a page weighs: unpacked it can be a
        thousand times as large, and what a reference stands for even more.
        """
        portion: list[Event] = []
        weight = 0
        for row in segments:
            for event in self._mine([event for event in unpack(row) if event.seq > self.cursor]):
                if (whole := await self._resolved(event)) is None:
                    continue
                portion.append(whole)
                weight += len(whole.data)
                if weight >= _PAGE_BYTES:
                    self.cursor = event.seq
                    yield portion
                    portion, weight = [], 0
            self.cursor = row["last_seq"]
        if portion:
            yield portion

    def _ends(self, *, open_: bool) -> None:
        """A run ends; a thread that is not there yet may still come, and one that was there was deleted."""
        if not open_ and (self.run_id is not None or self.existed):
            self.ended = True
        self.existed = self.existed or open_

    async def take(self, batch: Batch) -> AsyncIterator[Sequence[Event]]:
        """A batch that has come in, after whatever was committed before it and is not read yet."""
        if batch.last_seq <= self.cursor:
            return
        if batch.first_seq > self.cursor + 1:
            async for events in self.read(until=batch.first_seq - 1):
                yield events
        fresh = [event for event in batch.events if event.seq > self.cursor]
        self.cursor = batch.last_seq
        if mine := self._mine(fresh):
            yield mine

    async def _resolved(self, event: Event) -> Event | None:
        return await self.resolver.resolved(event) if self.whole and is_reference(event.data) else event

    def _mine(self, events: Sequence[Event]) -> Sequence[Event]:
        if self.run_id is None:
            return events
        mine = [event for event in events if event.run_id == self.run_id or self._rolled_back(event)]
        self.ended = self.ended or any(event.kind == "run.ended" for event in mine)
        return mine

    def _rolled_back(self, event: Event) -> bool:
        """Whether this tells the end of our run, of which nothing else is left."""
        if event.run_id is not None or event.kind != "run.ended":
            return False
        return orjson.loads(event.data).get("run_id") == str(self.run_id)

    def _key(self) -> dict[str, object]:
        return {"tenant_id": self.tenant_id, "thread_id": self.thread_id, "run_id": self.run_id}
