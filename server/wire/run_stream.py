"""A run's part of the event log as the classic stream: frames for `runs/stream`, one answer for `wait`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from ..domain import Event, Run
from ..records.event_log import EventLog
from .frames import Cursor, Frame
from .messages import GrowingMessages

GONE = b'{"error":"HTTPException","message":"404: Run not found"}'
"""What clients are shown in place of a run that does not exist, or no more."""

_INTERRUPT = b'"__interrupt__"'


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one reader is shown of a run."""

    modes: frozenset[str]
    """Stream modes in the wire's names (`messages` and `messages-tuple` differ)."""
    subgraphs: bool
    ids: bool
    metadata: bool = True
    """Show the `metadata` event that starts each attempt."""

    @classmethod
    def of(cls, run: Run, *, only: frozenset[str] | None = None) -> View:
        """What the run asked for; of these only the modes a joining reader names."""
        asked: frozenset[str] = frozenset(run.kwargs["stream_mode"])
        return cls(
            modes=asked if only is None else asked & only,
            subgraphs=bool(run.kwargs.get("subgraphs")),
            ids=bool(run.kwargs.get("resumable")),
            metadata=only is None,
        )


class Projection:
    """Turns logged events into frames; it remembers growing messages, so it is fed a run from its start."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._messages = GrowingMessages()

    @property
    def needs_history(self) -> bool:
        """Whether frames depend on earlier events of the run, so that a resumed reader starts there."""
        return "messages" in self._view.modes

    def frames(self, event: Event) -> Iterator[Frame]:
        """The frames of one event, in order."""
        if event.kind == "messages" and not self.needs_history:
            # A token: the event that there is most of, and one frame at most.
            if "messages-tuple" in self._view.modes and self._in_view(event):
                yield Frame(Cursor(event.seq), self._named("messages", event), event.data)
            return
        for part, (name, data) in enumerate(self._shown(event)):
            yield Frame(Cursor(event.seq, part), name, data)

    def _shown(self, event: Event) -> Iterator[tuple[str, bytes]]:
        view = self._view
        match event.kind:
            case "run.started":
                # Another attempt asks its models again: what the last one left half said is no beginning.
                self._messages = GrowingMessages()
                if view.metadata:
                    yield "metadata", event.data
            case "run.ended":
                ended = orjson.loads(event.data)
                if ended.get("rolled_back"):
                    yield "error", GONE
                elif ended["status"] != "interrupted" and "error" in ended:
                    yield "error", orjson.dumps(ended["error"])
            case "run.created" | "state.updated":
                pass
            case "messages":
                if "messages-tuple" in view.modes and self._in_view(event):
                    yield self._named("messages", event), event.data
                if "messages" in view.modes and self._in_view(event):
                    yield from self._messages.feed(event.data)
            case "events":
                if "events" in view.modes:
                    yield "events", event.data
            case _:
                if event.kind in view.modes and self._in_view(event):
                    yield self._named(event.kind, event), event.data

    def _in_view(self, event: Event) -> bool:
        return self._view.subgraphs or not event.namespace

    def _named(self, mode: str, event: Event) -> str:
        return "|".join((mode, *event.namespace))


async def run_frames(event_log: EventLog, run: Run, view: View, *, after: Cursor) -> AsyncIterator[bytes]:
    """The frames of a run after a cursor, live to its end; each chunk holds all that is there by now.

    `after` is where the reader stands; `beginning(run)` shows the whole run. A run that is deleted
    while it is read ends in an error frame.
    """
    projection = Projection(view)
    start = beginning(run).seq if projection.needs_history else max(after.seq - 1, beginning(run).seq)
    following = event_log.follow(
        tenant_id=run.tenant_id,
        thread_id=run.thread_id,
        run_id=run.run_id,
        after=start,
        whole="values" in view.modes,
    )
    # A reader that leaves must not stay subscribed.
    async with contextlib.aclosing(following):
        async for events in following:
            frames = [
                frame.to_bytes(with_id=view.ids)
                for event in events
                for frame in projection.frames(event)
                if frame.cursor > after
            ]
            if frames:
                yield b"".join(frames)


async def ending(run: Run) -> AsyncIterator[bytes]:
    """What a reader is told who comes when all is over and has asked for nothing of before."""
    failed = run.error is not None and run.status != "interrupted"
    name, data = ("error", orjson.dumps(run.error)) if failed else ("end", b"null")
    yield Frame(beginning(run), name, data).to_bytes(with_id=False)


def beginning(run: Run) -> Cursor:
    """The cursor before a run's first event."""
    return Cursor(run.first_seq - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a run came to, for those who wait for it."""

    values: bytes | None
    """Its last state as JSON text; None when the log holds none."""
    error: dict[str, str] | None
    cancelled: bool
    """Whether it was stopped from outside."""
    checkpoint_id: str | None
    """Where to read the state when the log holds none."""


async def answer(event_log: EventLog, run: Run) -> Answer:
    """Follow a run to its end and return what it came to."""
    values = _LastValues()
    # What is known of a run whose events are past their retention; one that vanishes tells so itself.
    ended: dict[str, object] = (
        {"status": run.status, "error": run.error} if run.ended_at else {"rolled_back": True}
    )
    thread: dict[str, Any] = {"tenant_id": run.tenant_id, "thread_id": run.thread_id}
    async for events in event_log.follow(**thread, run_id=run.run_id, after=beginning(run).seq, whole=False):
        for event in events:
            if event.kind == "values" and not event.namespace:
                values.take(event)
            elif event.kind == "run.ended":
                ended = orjson.loads(event.data)
    if ended.get("rolled_back"):
        return Answer(values=None, error=orjson.loads(GONE), cancelled=True, checkpoint_id=None)
    error = ended.get("error") if ended["status"] != "interrupted" else None
    checkpoint_id = ended.get("checkpoint_id")
    last = await event_log.resolved(values.last, **thread) if values.last is not None else None
    return Answer(
        values=values.around(last.data) if last is not None else None,
        error=error if isinstance(error, dict) else None,
        cancelled=ended["status"] == "interrupted",
        checkpoint_id=checkpoint_id if isinstance(checkpoint_id, str) else None,
    )


class _LastValues:
    """The last state that a run streamed, with every interrupt it stopped at.

    LangGraph streams parallel interrupts one by one, each with the state around it.
    """

    def __init__(self) -> None:
        self.last: Event | None = None
        self._interrupts: dict[str, dict[str, object]] = {}

    def take(self, event: Event) -> None:
        self.last = event
        # A state with an interrupt is never a reference; but the words may be inside of one.
        if event.data.startswith(b"{") and _INTERRUPT in event.data:
            for interrupt in orjson.loads(event.data).get("__interrupt__", ()):
                self._interrupts[interrupt["id"]] = interrupt

    def around(self, state: bytes) -> bytes:
        """The last state as it is answered."""
        if not self._interrupts:
            return state
        # A run stops where it was interrupted, so what it asked is open still, also when a task beside
        # it ended in the same superstep and a state without a question came last.
        return orjson.dumps({**orjson.loads(state), "__interrupt__": list(self._interrupts.values())})
