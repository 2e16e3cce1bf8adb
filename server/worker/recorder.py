"""Carries the events of one attempt to the log, in order, while the graph goes on."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from ...checkpoints.saver import ThreadSaver
from ..domain import Event, EventKind, Run
from ..protocol.run_events import RunEvents
from ..records.event_log import EventLog
from ..records.segments import NewEvent

_TELLS_STATE: frozenset[EventKind] = frozenset(
    {"values", "updates", "checkpoints", "tasks", "debug", "events"}
)
"""Kinds that tell of a state or an interrupt: they leave only after its commit."""
_MOST_WAITING_BYTES = 2 * 1024 * 1024
"""A graph that writes faster than the log takes is held back here."""


class Recorder:
    """Collects events and appends what has come together, one append at a time."""

    def __init__(
        self, event_log: EventLog, saver: ThreadSaver, run: Run, *, fence: int, shown: RunEvents
    ) -> None:
        self._event_log = event_log
        self._saver = saver
        self._run = run
        self._fence = fence
        self._shown = shown
        self._waiting: list[NewEvent] = []
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()
        self._closed = False

    def add(self, event: NewEvent) -> None:
        """Record an event."""
        self._waiting.append(event)
        self._bytes += len(event.data)
        self._arrived.set()

    @property
    def full(self) -> bool:
        """Whether so much is waiting that the graph should."""
        return self._bytes > _MOST_WAITING_BYTES

    async def room(self) -> None:
        """Wait until there is room again."""
        while self.full:
            self._taken.clear()
            await self._taken.wait()

    def close(self) -> None:
        """Nothing more comes: `run` ends when everything is stored."""
        self._closed = True
        self._arrived.set()

    async def run(self) -> None:
        """Append what is recorded, until closed.

        Raises:
            FenceLost: the run was taken away; what was not stored is dropped.
            DatabaseUnavailable: the database stayed away for too long.
        """
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            events, self._waiting, self._bytes = self._waiting, [], 0
            self._taken.set()
            if events:
                if any(event.kind in _TELLS_STATE for event in events):
                    await self._saver.settle()
                counted = [self._counted(event) for event in events]
                await self._event_log.append(
                    tenant_id=self._run.tenant_id,
                    thread_id=self._run.thread_id,
                    run_id=self._run.run_id,
                    fence=self._fence,
                    events=counted,
                    closing=self._shown.closing,
                )
            if self._closed and not self._waiting:
                return

    def _counted(self, event: NewEvent) -> NewEvent:
        """The event with the number of events that the thread event stream shows of it."""
        entry = Event(0, self._run.run_id, event.kind, event.namespace, event.data, event.at_ms)
        shows = len(self._shown.feed(entry))
        return replace(event, shows=shows) if shows else event
