"""Long silences: every long response shows signs of life, and none of them is taken for an event."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import httpx
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from ..servers import InterlockServer
from ..streams import Serving, close_all

SILENCE_S = 32
READ_LIMIT_S = 9
INPUT = {"steps": 1, "seconds": SILENCE_S, "events": 0}


@asynccontextmanager
async def impatient_proxy(target: str) -> AsyncGenerator[str]:
    """A proxy that cuts a connection on which the server said nothing for `READ_LIMIT_S`."""
    address = urlsplit(target)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: float | None) -> None:
        try:
            while piece := await asyncio.wait_for(reader.read(65536), limit):
                writer.write(piece)
                await writer.drain()
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await asyncio.open_connection(address.hostname, address.port)
        try:
            await asyncio.gather(
                pump(reader, upstream[1], None),
                pump(upstream[0], writer, READ_LIMIT_S),
                return_exceptions=True,
            )
        finally:
            await close_all([upstream[1]])

    serving = Serving(serve)
    listener = await asyncio.start_server(serving, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()
        await serving.end()


async def signs_of_life(url: str, method: str, path: str, body: Any = None) -> tuple[list[float], bytes]:
    """When bytes came, and all of them."""
    begun = time.monotonic()
    moments, content = [0.0], b""
    async with (
        httpx.AsyncClient(base_url=url, timeout=READ_LIMIT_S * 2) as http,
        http.stream(method, path, json=body) as response,
    ):
        moments.append(time.monotonic() - begun)
        assert response.status_code == 200
        async for piece in response.aiter_raw():
            moments.append(time.monotonic() - begun)
            content += piece
    return moments, content


async def stream_by_sdk(url: str) -> list[Any]:
    async with get_client(url=url, api_key=None) as client:
        thread = (await client.threads.create())["thread_id"]
        parts = [
            part async for part in client.runs.stream(thread, "slow", input=INPUT, stream_mode="updates")
        ]
        assert (await client.runs.list(thread))[0]["status"] == "success"
        return parts


async def test_silent_step_survives_a_proxy_with_a_read_limit_on_every_long_response(
    client: LangGraphClient, server: InterlockServer
) -> None:
    """O05 and O59: wait, stream and join outlive any idle limit above the heartbeat, for as long as it takes.

    A ten-minute answer is a thirty-second one with more of the same beats: what can break it is one
    silence, not their number.
    """
    threads = [(await client.threads.create())["thread_id"] for _ in range(4)]
    body = {"assistant_id": "slow", "input": INPUT, "stream_mode": "updates"}
    joined = await client.runs.create(threads[2], "slow", input=INPUT)
    followed = await client.runs.create(threads[3], "slow", input=INPUT, stream_mode="updates")
    async with impatient_proxy(server.url) as proxy:
        clients = asyncio.gather(stream_by_sdk(proxy), wait_by_sdk(proxy))
        stream, wait, join, follow, idle = await asyncio.gather(
            signs_of_life(proxy, "POST", f"/threads/{threads[0]}/runs/stream", body),
            signs_of_life(proxy, "POST", f"/threads/{threads[1]}/runs/wait", body),
            signs_of_life(proxy, "GET", f"/threads/{threads[2]}/runs/{joined['run_id']}/join"),
            signs_of_life(proxy, "GET", f"/threads/{threads[3]}/runs/{followed['run_id']}/stream"),
            signs_of_life(proxy, "POST", "/runs/wait", body),
        )
        streamed, waited = await clients
    for moments, _ in (stream, wait, join, follow, idle):
        assert moments[1] < SILENCE_S / 2, "status and headers do not wait for the run"
        assert max(after - before for before, after in pairwise(moments)) < READ_LIMIT_S
        assert moments[-1] > SILENCE_S - 5, "it lasted as long as the run"
    for _, content in (wait, join, idle):
        assert content.startswith(b"\n")
        assert json.loads(content)["done"] == [1]
    assert [part.event for part in streamed] == ["metadata", "updates"]
    assert waited["done"] == [1]
    for _, content in (stream, follow):
        assert content.count(b": heartbeat\r\n\r\n") >= SILENCE_S // 5 - 1
    assert {run["status"] for thread in threads for run in await client.runs.list(thread)} == {"success"}


async def wait_by_sdk(url: str) -> Any:
    async with get_client(url=url, api_key=None, timeout=READ_LIMIT_S) as client:
        return await client.runs.wait(None, "slow", input=INPUT)
