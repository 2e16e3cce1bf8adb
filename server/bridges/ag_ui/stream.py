"""A run as events of AG-UI."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from ag_ui.core import (
    PROTOCOL_VERSION,
    BaseEvent,
    CustomEvent,
    MessagesSnapshotEvent,
    RunAgentInput,
    RunErrorEvent,
    RunFinishedCancelledOutcome,
    RunFinishedEvent,
    RunFinishedInterruptOutcome,
    RunFinishedSuccessOutcome,
    RunStartedEvent,
    StateSnapshotEvent,
)

from ...domain import Event
from ...encoding import encode
from ...errors import ServerError
from .. import calls
from ..calls import INTERRUPTS, Call, Outcome
from ..offered import MESSAGES
from ..speech import Turn, messages_of
from .answers import interrupts_of
from .messages import shown
from .words import Words


@dataclass(frozen=True, slots=True)
class Exchange:
    """One input and the events that answer it."""

    call: Call
    wanted: RunAgentInput
    talks: bool

    async def frames(self) -> AsyncIterator[bytes]:
        """The whole stream. Its lines end in LF alone, as the protocol wants it."""
        async with contextlib.aclosing(self._events()) as events:
            async for event in events:
                # The protocol's own encoder fails at what a state may hold, such as a lone surrogate.
                yield b"data: %b\n\n" % encode(event.model_dump(by_alias=True))

    async def _events(self) -> AsyncGenerator[BaseEvent]:
        run, wanted = self.call.run, self.wanted
        yield RunStartedEvent(
            thread_id=wanted.thread_id,
            run_id=wanted.run_id,
            parent_run_id=wanted.parent_run_id,
            protocol_version=PROTOCOL_VERSION,
            metadata={"interlock": {"threadId": str(run.thread_id), "runId": str(run.run_id)}},
        )
        running = _Running()
        try:
            async with self.call.events(whole=True) as following:
                async for batch in following:
                    for event in batch:
                        for told in running.events(event):
                            yield told
            outcome = await calls.outcome_of(self.call)
        except ServerError as error:
            yield RunErrorEvent(message=error.message, code=error.code)
            return
        for told in running.words.closed():
            yield told
        for told in self._ending(outcome, running):
            yield told

    def _ending(self, outcome: Outcome, running: _Running) -> Iterator[BaseEvent]:
        usage = running.words.usage or None
        if outcome.status == "failed":
            code = outcome.error["error"] if outcome.error else None
            yield RunErrorEvent(message=outcome.failure, code=code, usage=usage)
            return
        if outcome.status == "cancelled":
            yield self._finished(RunFinishedCancelledOutcome(), usage)
            return
        yield from running.state(outcome.values)
        if self.talks:
            yield MessagesSnapshotEvent(messages=shown(messages_of(outcome.values)))
        if outcome.status == "waiting":
            yield self._finished(
                RunFinishedInterruptOutcome(interrupts=interrupts_of(outcome.interrupts)), usage
            )
            return
        left = [str(one.get("id")) for one in Turn.of(outcome.values).open_calls]
        yield self._finished(RunFinishedSuccessOutcome(pending_tool_call_ids=left or None), usage)

    def _finished(self, outcome: Any, usage: Any) -> RunFinishedEvent:
        wanted = self.wanted
        return RunFinishedEvent(
            thread_id=wanted.thread_id, run_id=wanted.run_id, outcome=outcome, usage=usage
        )


class _Running:
    """Turns what is logged of a run into events; feed it every event from the run's first."""

    def __init__(self) -> None:
        self.words = Words()
        self._state: dict[str, Any] | None = None

    def events(self, event: Event) -> Iterator[BaseEvent]:
        if event.namespace:
            return
        match event.kind:
            case "run.started":
                # Another attempt asks its models again: what the last one left half said is over.
                yield from self.words.closed()
            case "messages":
                yield from self.words.events(*orjson.loads(event.data))
            case "values":
                yield from self.state(orjson.loads(event.data))
            case "custom":
                yield _custom(orjson.loads(event.data))
            case _:
                return

    def state(self, values: Any) -> Iterator[BaseEvent]:
        """The state, if it is another than it was; its messages travel on their own."""
        if not isinstance(values, dict):
            return
        state = {name: value for name, value in values.items() if name not in (MESSAGES, INTERRUPTS)}
        if state != self._state:
            self._state = state
            yield StateSnapshotEvent(snapshot=state)


def _custom(value: Any) -> CustomEvent:
    match value:
        case {"name": str(name), "value": inner}:
            return CustomEvent(name=name, value=inner)
        case _:
            return CustomEvent(name="custom", value=value)
