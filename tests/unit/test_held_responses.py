"""Responses that stay open: headers at once, signs of life, leaving and stuck readers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sse_starlette.sse import AppStatus

from interlock.server.api.held import awaited_json, event_stream, place_headers
from interlock.server.settings import HttpSettings

FAST = HttpSettings(heartbeat_s=0.01, send_timeout_s=0.1)


class Client:
    """The other end of an ASGI response."""

    def __init__(self, response: Any) -> None:
        self.messages: list[dict[str, Any]] = []
        self.left = asyncio.Event()
        self.stuck = asyncio.Event()
        self.arrived = asyncio.Condition()
        self.serving = asyncio.create_task(
            response({"type": "http", "method": "GET"}, self._receive, self._send)
        )

    async def _receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if self.stuck.is_set():
            await asyncio.Event().wait()
        async with self.arrived:
            self.messages.append(message)
            self.arrived.notify_all()

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(5), self.arrived:
            await self.arrived.wait_for(condition)


async def never() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


async def test_a_silent_stream_has_headers_at_once_and_comments_at_a_constant_pace() -> None:
    client = Client(
        event_stream(never(), http=FAST, headers=place_headers("/runs/r", resume="stream"), on_leave=None)
    )
    await client.until(lambda: client.messages)
    assert client.messages[0]["status"] == 200
    assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert client.headers["cache-control"] == "no-store"
    assert client.headers["x-accel-buffering"] == "no"
    assert client.headers["content-location"] == "/runs/r"
    assert client.headers["location"] == "/runs/r/stream"
    await client.until(lambda: client.body.count(b": heartbeat\r\n\r\n") >= 3)
    client.left.set()
    await client.serving


async def test_comments_go_on_while_events_flow() -> None:
    async def busy() -> AsyncIterator[bytes]:
        while True:
            yield b"event: x\r\ndata: 1\r\n\r\n"
            await asyncio.sleep(0.001)

    client = Client(event_stream(busy(), http=FAST, headers={}, on_leave=None))
    await client.until(lambda: client.body.count(b": heartbeat\r\n\r\n") >= 2)
    client.left.set()
    await client.serving


async def test_a_waited_answer_is_white_space_and_then_json() -> None:
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def awaited() -> bytes:
        return await answer

    client = Client(awaited_json(awaited, http=FAST, headers={}, on_leave=None))
    await client.until(lambda: client.body == b"\n\n\n")
    assert client.headers["content-type"] == "application/json"
    answer.set_result(b'{"x":1}')
    await client.serving
    assert client.body.strip(b"\n") == b'{"x":1}'
    assert client.messages[-1]["more_body"] is False


async def test_leaving_early_is_told_once_and_an_orderly_end_is_not() -> None:
    left = 0

    async def count() -> None:
        nonlocal left
        left += 1

    client = Client(event_stream(never(), http=FAST, headers={}, on_leave=count))
    await client.until(lambda: client.messages)
    client.left.set()
    await client.serving
    assert left == 1

    async def short() -> AsyncIterator[bytes]:
        yield b"event: x\r\ndata: 1\r\n\r\n"

    await Client(event_stream(short(), http=FAST, headers={}, on_leave=count)).serving
    assert left == 1


async def test_a_reader_that_takes_nothing_is_disconnected_and_the_log_is_let_go() -> None:
    closed, left = asyncio.Event(), asyncio.Event()

    async def leave() -> None:
        left.set()

    async def frames() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"event: x\r\ndata: 1\r\n\r\n"
                await asyncio.sleep(0.001)
        finally:
            closed.set()

    client = Client(event_stream(frames(), http=FAST, headers={}, on_leave=leave))
    await client.until(lambda: client.messages)
    client.stuck.set()
    await client.serving
    assert closed.is_set()
    assert left.is_set()


async def test_a_stop_of_the_process_ends_streams_in_good_order_and_breaks_answers_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def unanswered() -> bytes:
        await asyncio.Event().wait()
        return b""

    monkeypatch.setattr(AppStatus, "should_exit", True)
    stream = Client(event_stream(never(), http=FAST, headers={}, on_leave=None))
    answer = Client(awaited_json(unanswered, http=FAST, headers={}, on_leave=None))
    await asyncio.gather(stream.serving, answer.serving)
    assert stream.messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert all(message.get("more_body", True) for message in answer.messages)


async def test_what_leaving_does_is_done_to_its_end() -> None:
    done = False

    async def slow_leave() -> None:
        nonlocal done
        # Longer than a heartbeat, whose loop ends the response as soon as the reader has left.
        await asyncio.sleep(FAST.heartbeat_s * 5)
        done = True

    client = Client(event_stream(never(), http=FAST, headers={}, on_leave=slow_leave))
    await client.until(lambda: client.messages)
    client.left.set()
    await client.serving
    assert done


def test_nothing_follows_the_run_id_in_the_content_location() -> None:
    headers = place_headers("/threads/t/runs/r", resume="join", prefix="/lg")
    assert headers == {"content-location": "/lg/threads/t/runs/r", "location": "/lg/threads/t/runs/r/join"}
    assert place_headers("/runs/r") == {"content-location": "/runs/r"}
