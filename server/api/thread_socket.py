"""One WebSocket of the thread protocol: commands come in, answers and events go out.

Events of all subscriptions come from one reader of the log. A new subscription is first shown what it has
missed, then answered, then follows; nobody is sent an event twice for having subscribed twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from functools import partial
from itertools import count
from typing import Any
from uuid import UUID

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from ...checkpoints.errors import DatabaseError
from ..errors import Invalid, ServerError
from ..runs.commands import CommandRefused, Result
from ..wire.thread_events import Filter, Numbered, ThreadEvents, wanted_of
from . import command_schemas as schemas
from .bodies import parse
from .callers import Caller
from .commands import SUBSCRIPTIONS, answered, checked, commands_of, execute, failure, refusing
from .socket_callers import accept, caller_of

log = structlog.get_logger(__name__)

_MOST_SUBSCRIPTIONS = 100
_MOST_NAMESPACES = 1000
"""Of all subscriptions of a connection together."""
_REFUSED = 4000
"""Close codes from here on are HTTP statuses plus this."""
_TOO_SLOW = _REFUSED + 408
_DONE = 1000
_TRY_AGAIN = 1013


async def serve(websocket: WebSocket, thread_id: str) -> None:
    """Serve a connection to its end; who may not have one is told so by its close code."""
    await accept(websocket)
    try:
        caller = await caller_of(websocket)
        thread = _uuid(thread_id)
        await caller.require_thread(thread)
    except ServerError as refusal:
        await websocket.close(_REFUSED + refusal.status, _reason(refusal.message))
        return
    timeout_s = caller.resources.settings.http.send_timeout_s
    code, reason = await _Connection(websocket, caller, thread, send_timeout_s=timeout_s).run()
    if code is not None:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
            # It may have gone meanwhile; and who was too slow for the events may never take this either.
            async with asyncio.timeout(timeout_s):
                await websocket.close(code, _reason(reason))
    if code == _TOO_SLOW:
        log.info("stuck_reader_disconnected", path=websocket.url.path, after_s=timeout_s)


class _Connection:
    """One connection of one caller to one thread."""

    def __init__(
        self, websocket: WebSocket, caller: Caller, thread_id: UUID, *, send_timeout_s: float
    ) -> None:
        self._websocket = websocket
        self._caller = caller
        self._thread_id = thread_id
        self._send_timeout_s = send_timeout_s
        self._subscriptions: dict[str, Filter] = {}
        self._names = (f"subscription-{number}" for number in count(1))
        self._sending = asyncio.Lock()
        self._seen = 0
        self._subscribed = asyncio.Event()

    async def run(self) -> tuple[int | None, str]:
        """Serve until either side ends; the close code to say, None when the client has gone."""
        receiving = asyncio.create_task(self._receive(), name="thread-socket-receive")
        following = asyncio.create_task(self._follow(), name="thread-socket-follow")
        try:
            done, _ = await asyncio.wait({receiving, following}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            return (None, "") if receiving in done else (_DONE, "the thread was deleted")
        except (WebSocketDisconnect, RuntimeError):
            return None, ""
        except ServerError as refusal:
            return _REFUSED + refusal.status, refusal.message
        except TimeoutError:
            return _TOO_SLOW, "too slow; come back with `since`"
        except DatabaseError as error:
            log.warning("thread_socket_failed", error=str(error))
            return _TRY_AGAIN, "the server cannot reach its database; try again"
        finally:
            for task in (receiving, following):
                task.cancel()
            await asyncio.wait({receiving, following})

    async def _receive(self) -> None:
        """Carry out commands, one after the other, until the client goes."""
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            frame = text.encode(errors="surrogatepass") if text is not None else message.get("bytes") or b""
            await self._command(frame)

    async def _command(self, frame: bytes) -> None:
        try:
            command = checked(schemas.Command, _parsed(frame))
        except CommandRefused as refusal:
            await self._send([failure(None, refusal.code, refusal.message).decode()])
            return
        params = command.params or {}
        if command.method in SUBSCRIPTIONS:
            async with self._sending:
                doing = self._subscription(command.method, params)
                text = await answered(command.id, doing, seq=lambda: self._seen)
                await self._send_now([text.decode()])
            return
        doing = execute(self._caller, self._thread_id, command.method, params)
        text = await answered(command.id, doing, seq=lambda: self._seen)
        await self._send([text.decode()])

    # --- subscriptions -------------------------------------------------------------------------

    async def _subscription(self, method: str, params: dict[str, Any]) -> Result:
        with refusing():
            match method:
                case "subscription.subscribe":
                    return await self._subscribe(checked(schemas.EventsWanted, params))
                case "subscription.unsubscribe":
                    return self._unsubscribe(checked(schemas.Unsubscribe, params).subscription_id)
                case _:
                    return await self._reconnect(checked(schemas.Reconnect, params))

    async def _subscribe(self, wanted: schemas.EventsWanted) -> Result:
        if len(self._subscriptions) >= _MOST_SUBSCRIPTIONS:
            raise CommandRefused(
                "invalid_argument", f"a connection has {_MOST_SUBSCRIPTIONS} subscriptions at most"
            )
        asked = wanted.filter()
        namespaces = sum(len(one.namespaces or ()) for one in (asked, *self._subscriptions.values()))
        if namespaces > _MOST_NAMESPACES:
            raise CommandRefused(
                "invalid_argument",
                f"the subscriptions of a connection name {_MOST_NAMESPACES} `namespaces` at most, "
                f"not {namespaces}; name a node without its task for all its tasks",
            )
        if not self._subscribed.is_set():
            log_of_thread = self._caller.resources.event_log
            place = await log_of_thread.place_after(
                0, tenant_id=self._caller.tenant_id, thread_id=self._thread_id
            )
            self._seen = place.last_shown
            self._subscribed.set()
        replayed = await self._replay([asked], after=wanted.since or 0)
        name = next(self._names)
        self._subscriptions[name] = asked
        return {"subscription_id": name, "replayed_events": replayed}

    def _unsubscribe(self, name: str) -> Result:
        if self._subscriptions.pop(name, None) is None:
            raise CommandRefused("no_such_subscription", f"this connection has no subscription {name!r}")
        return {}

    async def _reconnect(self, wanted: schemas.Reconnect) -> Result:
        """Show again what subscriptions of this connection have missed; another one's are gone with it."""
        await self._caller.require_thread(self._thread_id)
        commands = commands_of(self._caller, self._thread_id)
        await commands.require_run(wanted.run_id)
        known = [self._subscriptions[name] for name in wanted.subscriptions if name in self._subscriptions]
        if not known or len(known) < len(wanted.subscriptions):
            return {"restored": False, "missed_events": 0}
        after = schemas.last_event_id({"last-event-id": wanted.last_event_id or ""}) or 0
        return {"restored": True, "missed_events": await self._replay(known, after=after)}

    async def _replay(self, filters: Sequence[Filter], *, after: int) -> int:
        """Send what has been, up to where the connection is; returns how much that was."""
        sent = 0
        async for events in self._events().between(after, self._seen):
            wanted = await wanted_of(events, filters)
            await self._send_now(event.text() for event in wanted)
            sent += len(wanted)
        return sent

    async def _follow(self) -> None:
        await self._subscribed.wait()
        following: AsyncIterator[Sequence[Numbered]] = self._events().after(self._seen)
        async for events in following:
            async with self._sending:
                wanted = await wanted_of(events, tuple(self._subscriptions.values()))
                await self._send_now(event.text() for event in wanted)
                self._seen = events[-1].seq

    def _events(self) -> ThreadEvents:
        # The thread may have been made by somebody else since this connection was let in.
        return ThreadEvents(
            self._caller.resources.event_log,
            tenant_id=self._caller.tenant_id,
            thread_id=self._thread_id,
            may_show=partial(self._caller.require_thread, self._thread_id),
        )

    async def _send(self, texts: Iterable[str]) -> None:
        async with self._sending:
            await self._send_now(texts)

    async def _send_now(self, texts: Iterable[str]) -> None:
        for text in texts:
            async with asyncio.timeout(self._send_timeout_s):
                await self._websocket.send_text(text)


def _parsed(frame: bytes) -> dict[str, Any]:
    try:
        command = parse(frame)
    except Invalid as fault:
        raise CommandRefused("invalid_argument", fault.message) from fault
    if not isinstance(command, dict):
        raise CommandRefused("invalid_argument", "a command is a JSON object")
    return command


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Invalid("Invalid thread ID: must be a UUID") from None


def _reason(text: str) -> str:
    """As much of a text as a close frame holds."""
    return text.encode(errors="replace")[:120].decode(errors="ignore")
