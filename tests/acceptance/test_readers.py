"""Readers that go away or do not read: they never slow a run, and the server stays small."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, closing
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
from langgraph_sdk.client import LangGraphClient

from ..servers import InterlockServer
from .wire import frames, read_events

Until = Callable[..., Awaitable[Any]]
MEGABYTE = 1 << 20


def memory(server: InterlockServer) -> int:
    assert server.process is not None
    return psutil.Process(server.process.pid).memory_info().rss


def request(path: str, content: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def open_and_stall(server: InterlockServer, path: str, body: dict[str, Any]) -> socket.socket:
    """Send a request over a bare socket, read 1 kB of the answer, and stop reading."""
    address = urlsplit(server.url)
    content = json.dumps(body).encode()
    stalled = socket.socket()
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stalled.settimeout(20)
    stalled.connect((address.hostname, address.port))
    stalled.sendall(request(path, content))
    got = 0
    while got < 1024:
        piece = stalled.recv(1024 - got)
        assert piece, "the server closed before anything was read"
        got += len(piece)
    return stalled


async def end_of(client: LangGraphClient, thread: str) -> str | None:
    """The status of the only run of the thread, once it has ended."""
    runs = await client.runs.list(thread)
    return runs[0]["status"] if runs and runs[0]["status"] not in {"pending", "running"} else None


async def test_readers_that_stop_reading_neither_stall_runs_nor_fill_memory(
    client: LangGraphClient, server: InterlockServer, until: Until
) -> None:
    """O08: five streams of 5,000 events whose readers read 1 kB and sleep."""
    body = {
        "assistant_id": "big",
        "input": {"messages": [], "events": 5000, "width": 8000},
        "stream_mode": ["custom", "values"],
        "stream_resumable": True,
        "on_disconnect": "continue",
    }
    # The same load without readers first: what the runs themselves need is no part of the question.
    same = without(body, "assistant_id", "on_disconnect")
    for run in [await client.runs.create(None, "big", **same) for _ in range(5)]:
        await client.runs.join(run["thread_id"], run["run_id"])
    before = memory(server)
    threads = [(await client.threads.create())["thread_id"] for _ in range(5)]
    with ExitStack() as stalled:
        for thread in threads:
            reader = await asyncio.to_thread(open_and_stall, server, f"/threads/{thread}/runs/stream", body)
            stalled.enter_context(closing(reader))
        for thread in threads:
            assert await until(lambda t=thread: end_of(client, t), deadline_s=60) == "success"
        # 200 MB of events were made, and a server that kept them for its readers would have grown by more
        # than that. What the allocator holds for later goes up and down by half as much.
        assert memory(server) - before < 150 * MEGABYTE


def without(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


async def test_reader_that_was_cut_off_gets_the_rest_by_its_last_id(
    client: LangGraphClient, http: httpx.AsyncClient, until: Until
) -> None:
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(
        thread,
        "big",
        input={"messages": [], "events": 2000, "width": 2000},
        stream_mode=["custom"],
        stream_resumable=True,
    )
    url = f"/threads/{thread}/runs/{run['run_id']}/stream"
    some = await read_events(http, url, after="-1", limit=100)
    rest = await read_events(http, url, after=some[-1].id)
    numbers = [frame.data["number"] for frame in (*some, *rest) if frame.event == "custom"]
    assert numbers == list(range(2000))


async def test_run_goes_on_when_its_reader_vanishes(
    client: LangGraphClient, server: InterlockServer, until: Until
) -> None:
    """O08: and so it does by default."""
    for extra in ({}, {"on_disconnect": "continue"}):
        for path in ("stream", "wait"):
            thread = (await client.threads.create())["thread_id"]
            body = {"assistant_id": "slow", "input": {"steps": 3, "seconds": 0.3}, **extra}
            await vanish(client, server, thread, path, body, until)
            assert await until(lambda t=thread: end_of(client, t)) == "success"


async def test_run_is_cancelled_when_its_reader_vanishes_and_asked_for_that(
    client: LangGraphClient, server: InterlockServer, until: Until
) -> None:
    """O08."""
    for path in ("stream", "wait"):
        thread = (await client.threads.create())["thread_id"]
        body = {"assistant_id": "slow", "input": {"steps": 100, "seconds": 0.2}, "on_disconnect": "cancel"}
        await vanish(client, server, thread, path, body, until)
        assert await until(lambda t=thread: end_of(client, t), deadline_s=5) == "interrupted"


async def vanish(
    client: LangGraphClient,
    server: InterlockServer,
    thread: str,
    path: str,
    body: dict[str, Any],
    until: Until,
) -> None:
    """Ask for a run, and break the connection off once it runs."""

    async def has_begun() -> bool:
        runs = await client.runs.list(thread)
        return bool(runs) and runs[0]["status"] == "running"

    address = urlsplit(server.url)
    content = json.dumps(body).encode()
    with closing(socket.create_connection((address.hostname, address.port))) as gone:
        gone.sendall(request(f"/threads/{thread}/runs/{path}", content))
        await until(has_begun)
        # A reset, not a farewell: what a phone in a tunnel does.
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


async def test_joiner_may_ask_to_cancel_when_it_vanishes(
    client: LangGraphClient, http: httpx.AsyncClient, until: Until
) -> None:
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread, "slow", input={"steps": 100, "seconds": 0.2})
    url = f"/threads/{thread}/runs/{run['run_id']}/stream"
    async with http.stream("GET", url, params={"cancel_on_disconnect": "1"}) as response:
        await anext(frames(response))
    assert await until(lambda: end_of(client, thread), deadline_s=8) == "interrupted"


async def test_many_readers_of_one_run_all_get_everything(
    client: LangGraphClient, http: httpx.AsyncClient
) -> None:
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(
        thread,
        "slow",
        input={"steps": 4, "seconds": 0.2, "events": 20},
        stream_mode=["custom"],
        stream_resumable=True,
    )
    url = f"/threads/{thread}/runs/{run['run_id']}/stream"
    everything = await asyncio.gather(*(read_events(http, url, after="-1") for _ in range(20)))
    assert all(found == everything[0] for found in everything)
    assert len(everything[0]) == 81
