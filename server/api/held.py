"""Responses that stay open: event streams, and answers that are waited for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import cast

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Message

from ..settings import HttpSettings
from ..wire.frames import HEARTBEAT

OnLeave = Callable[[], Awaitable[None]]
"""Called when the client goes before the response is complete."""

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
        async def left(_: Message) -> None:
            if on_leave is not None:
                await on_leave()

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
    answer: Awaitable[bytes], *, http: HttpSettings, headers: Mapping[str, str], on_leave: OnLeave | None
) -> HeldResponse:
    """A JSON answer that takes its time."""

    async def chunks() -> AsyncIterator[bytes]:
        yield await answer

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
