"""Responses that stay open: event streams, and answers that are waited for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import cast

import anyio
import structlog
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.types import Message, Receive, Scope, Send

from ..settings import HttpSettings
from ..wire.frames import HEARTBEAT

log = structlog.get_logger(__name__)

OnLeave = Callable[[], Awaitable[None]]
"""Called when the client goes before the response is complete."""

LEAVE_DEADLINE_S = 30.0
"""How long what a client's leaving does may take."""
_STILL_WAITING = b"\n"
"""Before a JSON text, white space is legal: it keeps a waiting client's read timeout from passing."""


class HeldResponse(EventSourceResponse):
    """Status and headers at once, a sign of life at a constant pace, and no patience with stuck readers."""

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        *,
        http: HttpSettings,
        headers: Mapping[str, str],
        sign_of_life: bytes,
        media_type: str,
        on_leave: OnLeave | None,
    ) -> None:
        self._on_leave = on_leave
        self._finished = False
        self._left = False

        async def left(_: Message) -> None:
            await self._reader_left()

        # The library sends bytes as they are, though it only declares events.
        sign = cast("Callable[[], ServerSentEvent]", lambda: sign_of_life)
        super().__init__(
            chunks,
            headers=headers,
            media_type=media_type,
            ping=http.heartbeat_s,
            ping_message_factory=sign,
            send_timeout=http.send_timeout_s,
            client_close_handler_callable=left,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response until it is complete or nobody reads it."""

        async def noted(message: Message) -> None:
            await send(message)
            self._finished = message["type"] == "http.response.body" and not message.get("more_body")

        try:
            await super().__call__(scope, receive, noted)
        except (SendTimeoutError, ExceptionGroup) as stuck:
            # What the response says and its sign of life can be stuck at once: then both are in a group.
            if isinstance(stuck, ExceptionGroup) and stuck.split(SendTimeoutError)[1] is not None:
                raise
            log.info("stuck_reader_disconnected", path=scope.get("path"), after_s=self.send_timeout)
            await self._reader_left()
        if not self._finished and not self._left and self.media_type == "text/event-stream":
            # This process stops. A stream that ends in good order makes clients look at the run, find
            # it unfinished and come back; half a JSON text must break off instead.
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _reader_left(self) -> None:
        self._left = True
        if self._on_leave is not None:
            # The response around it is being cancelled, and a cancel half done would be forgotten.
            with anyio.move_on_after(LEAVE_DEADLINE_S, shield=True):
                await self._on_leave()


def event_stream(
    frames: AsyncIterator[bytes], *, http: HttpSettings, headers: Mapping[str, str], on_leave: OnLeave | None
) -> HeldResponse:
    """A stream of server-sent events."""
    return HeldResponse(
        frames,
        http=http,
        headers=headers,
        sign_of_life=HEARTBEAT,
        media_type="text/event-stream",
        on_leave=on_leave,
    )


def awaited_json(
    answer: Callable[[], Awaitable[bytes]],
    *,
    http: HttpSettings,
    headers: Mapping[str, str],
    on_leave: OnLeave | None,
) -> HeldResponse:
    """A JSON answer that takes its time."""

    async def chunks() -> AsyncIterator[bytes]:
        yield await answer()

    return HeldResponse(
        chunks(),
        http=http,
        headers=headers,
        sign_of_life=_STILL_WAITING,
        media_type="application/json",
        on_leave=on_leave,
    )


def place_headers(place: str, *, resume: str | None = None, prefix: str = "") -> dict[str, str]:
    """Where the run of a response is, and where its stream or answer can be had again.

    Nothing may follow the run id in `content-location`: clients take all of the rest for the id.
    """
    headers = {"content-location": prefix + place}
    if resume is not None:
        headers["location"] = f"{prefix}{place}/{resume}"
    return headers
