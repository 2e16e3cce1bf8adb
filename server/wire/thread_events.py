"""A thread's event log as the thread event stream ("protocol v2"): live, late, and after a restart the same.

Each logged entry shows as none, one or several events (`server/protocol`). The number of an event, its `seq`,
is its place in the whole sequence that the thread has ever shown, from 1 and without a gap. It is not
computed by reading the thread from its beginning, which retention and rollbacks take away, but from what is
stored beside each segment of the log when that is written: the number of the first event that it shows.
Filters only leave events out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from ..domain import Event
from ..errors import ServerError
from ..protocol.payloads import name_of
from ..protocol.run_events import RunEvents
from ..protocol.shown import Shown
from ..protocol.thread_entries import entry_shown
from ..records.event_log import EventLog
from ..records.references import is_reference

CHANNELS = (
    "values",
    "updates",
    "messages",
    "tools",
    "lifecycle",
    "input",
    "checkpoints",
    "tasks",
    "custom",
)
NAMED = "custom:"
"""How the channel of custom events with one name begins."""
_CHANNEL_OF = {"input.requested": "input"}
_IN_ONE_GO = 64
"""Events that are looked at before others on the loop get a turn."""

MayShow = Callable[[], Awaitable[None]]
"""Raises a `ServerError` where the reader may not see the thread, which may have been made since it came."""

IsIdle = Callable[[], Awaitable[bool]]
"""Tells whether no run of the thread waits or runs."""


class Numbered(NamedTuple):
    """An event under its number."""

    seq: int
    shown: Shown

    def frame(self) -> bytes:
        """As a server-sent event."""
        method = self.shown.method.encode()
        return b"event: %b\r\ndata: %b\r\nid: %d\r\n\r\n" % (method, self.shown.to_json(self.seq), self.seq)

    def text(self) -> str:
        """As a text frame of a WebSocket."""
        return self.shown.to_json(self.seq).decode()


@dataclass(slots=True)
class _Paths:
    """A tree of paths: however many there are, an event is held against few of them."""

    ends: bool = False
    below: dict[str, _Paths] = field(default_factory=dict[str, "_Paths"])

    @classmethod
    def of(cls, paths: Iterable[tuple[str, ...]]) -> _Paths:
        root = cls()
        for path in paths:
            place = root
            for part in path:
                place = place.below.setdefault(part, cls())
            place.ends = True
        return root

    def begin(self, namespace: tuple[str, ...], depth: int | None) -> bool:
        """Whether one of them begins a namespace that goes no more than so many levels on."""
        places = [self]
        for level in range(len(namespace) + 1):
            if (depth is None or len(namespace) - level <= depth) and any(place.ends for place in places):
                return True
            if level == len(namespace) or not places:
                return False
            have = namespace[level]
            # A node without a task stands for all its tasks.
            wants = {have, have.partition(":")[0]}
            places = [place.below[want] for place in places for want in wants if want in place.below]
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which events a reader wants."""

    channels: frozenset[str]
    namespaces: tuple[tuple[str, ...], ...] | None = None
    """Paths of sub-graphs, each `node` or `node:task_id` a level; None for all."""
    depth: int | None = None
    """How many levels below one of them; None for all."""
    _paths: _Paths = field(init=False, repr=False, compare=False)
    _named: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # An empty list says as little as none at all; so the clients' own filters have it.
        object.__setattr__(self, "_paths", _Paths.of(self.namespaces or ((),)))
        names = (name.removeprefix(NAMED) for name in self.channels if name.startswith(NAMED))
        object.__setattr__(self, "_named", frozenset(names))

    def wants(self, shown: Shown) -> bool:
        """Whether an event passes."""
        return self._paths.begin(shown.namespace, self.depth) and self._in_channels(shown)

    def _in_channels(self, shown: Shown) -> bool:
        channel = _CHANNEL_OF.get(shown.method, shown.method)
        if channel in self.channels:
            return True
        return channel == "custom" and bool(self._named) and name_of(shown.text()) in self._named


async def wanted_of(events: Sequence[Numbered], filters: Sequence[Filter]) -> list[Numbered]:
    """The events that one of the filters lets pass. Of many, everybody else gets a turn in between."""
    found: list[Numbered] = []
    for place, event in enumerate(events, 1):
        if any(one.wants(event.shown) for one in filters):
            found.append(event)
        if place % _IN_ONE_GO == 0:
            await asyncio.sleep(0)
    return found


class ThreadEvents:
    """The events of one thread, as one reader follows them."""

    def __init__(
        self, event_log: EventLog, *, tenant_id: str, thread_id: UUID, may_show: MayShow | None = None
    ) -> None:
        self._log = event_log
        self._may_show = may_show
        self._thread: dict[str, Any] = {"tenant_id": tenant_id, "thread_id": thread_id}
        self._runs: dict[UUID, RunEvents | None] = {}

    async def after(self, seen: int) -> AsyncIterator[Sequence[Numbered]]:
        """All events after a number, and then what comes; it ends when the thread is deleted.

        The thread need not exist yet. A number that the thread has not reached stands for its last one.

        Raises:
            ServerError: it has events, and the reader may not see them.
        """
        place = await self._log.place_after(seen, **self._thread)
        following = self._log.follow(**self._thread, run_id=None, after=place.after)
        async with contextlib.aclosing(following):
            async for entries in following:
                if found := await self._numbered(entries, after=place.shown):
                    await self._require_right()
                    yield found

    async def last(self) -> int:
        """The number of the newest event."""
        return (await self._log.place_after(0, **self._thread)).last_shown

    async def between(self, seen: int, until: int) -> AsyncIterator[Sequence[Numbered]]:
        """The events after a number and up to another one, which have been.

        Raises:
            ServerError: there are some, and the reader may not see them.
        """
        place = await self._log.place_after(seen, **self._thread)
        earlier = self._log.between(
            **self._thread, run_id=None, after=place.after, until=place.last, whole=True
        )
        async with contextlib.aclosing(earlier):
            async for entries in earlier:
                await self._require_right()
                found = await self._numbered(entries, after=place.shown)
                yield [event for event in found if event.seq <= until]

    async def _require_right(self) -> None:
        if self._may_show is not None:
            await self._may_show()
            self._may_show = None

    async def _numbered(self, entries: Sequence[Event], *, after: int) -> list[Numbered]:
        found: list[Numbered] = []
        for entry in entries:
            for seq, shown in enumerate(await self._shown(entry), entry.first_shown):
                if seq > after:
                    found.append(Numbered(seq, shown))
        return found

    async def _shown(self, entry: Event) -> Sequence[Shown]:
        if entry.run_id is None:
            if entry.kind == "run.ended":
                # All that is left of a run that was rolled back.
                self._runs.pop(UUID(orjson.loads(entry.data)["run_id"]), None)
            return entry_shown(entry)
        if entry.run_id not in self._runs:
            self._runs[entry.run_id] = await self._run_before(entry)
        run = self._runs[entry.run_id]
        if run is None:
            return ()
        shown = run.feed(entry)
        if entry.kind == "run.ended":
            del self._runs[entry.run_id]
        return shown

    async def _run_before(self, entry: Event) -> RunEvents | None:
        """A run as it stands before one of its entries; None when its beginning is past retention."""
        if entry.kind == "run.created":
            return RunEvents(entry.data)
        run: RunEvents | None = None
        earlier = self._log.between(**self._thread, run_id=entry.run_id, after=0, until=entry.seq - 1)
        async with contextlib.aclosing(earlier):
            async for entries in earlier:
                for one in entries:
                    if one.run_id != entry.run_id:
                        continue
                    if run is None:
                        if one.kind != "run.created":
                            return None
                        run = RunEvents(one.data)
                    else:
                        run.feed(one)
        if run is not None:
            await self._resolve_held(run)
        return run

    async def _resolve_held(self, run: RunEvents) -> None:
        for namespace, held in list(run.held.items()):
            if is_reference(held.data):
                whole = await self._log.resolved(held, **self._thread)
                run.held[namespace] = whole or replace(held, data=b"{}")


async def event_frames(
    event_log: EventLog,
    wanted: Filter,
    *,
    tenant_id: str,
    thread_id: UUID,
    seen: int,
    may_show: MayShow | None = None,
    is_idle: IsIdle | None = None,
) -> AsyncIterator[bytes]:
    """The stream as server-sent events, after a number; each chunk holds all that is there by now.

    It stays open over all runs, and ends where the reader may not see what there is. With `is_idle` it also
    ends on an idle thread where the last that happened is that a run was stopped without asking anything.
    """
    thread = ThreadEvents(event_log, tenant_id=tenant_id, thread_id=thread_id, may_show=may_show)
    asked, stopped_at = False, 0
    # The answer has begun: whoever comes again is told by its status.
    with contextlib.suppress(ServerError):
        async for events in thread.after(seen):
            if chunk := b"".join(event.frame() for event in await wanted_of(events, [wanted])):
                yield chunk
            for event in events:
                stopped_at = event.seq if _tells(event.shown, "interrupted") and not asked else 0
                asks = event.shown.method == "input.requested"
                asked = asks or (asked and not _tells(event.shown, "running"))
            if is_idle and stopped_at and await is_idle() and await thread.last() == stopped_at:
                return


def _tells(shown: Shown, status: str) -> bool:
    """Whether it tells that a run has come to this."""
    return shown.method == "lifecycle" and shown.event_id.endswith(f":lc||{status}")
