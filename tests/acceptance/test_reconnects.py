"""A reader cut off again and again, over every protocol, while a server dies: it sees all, once, in order."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidMessage

from ..servers import InterlockServer, prepare, running
from .protocol import start

EVENTS = 5000
CUTS = 100
LOST = (httpx.TransportError, OSError, ConnectionClosed, InvalidMessage)
CHANNELS = {"channels": ["custom", "lifecycle"]}

Item = tuple[str, int | None]
"""What a reader resumes with, and the number that the graph wrote; None for the end of the run."""
Connection = Callable[[InterlockServer, str | None], AsyncGenerator[Item]]
"""Reads on after a place until it is closed, or the connection lost."""


def classic(http: httpx.AsyncClient, thread: str, run: str) -> Connection:
    async def read(server: InterlockServer, after: str | None) -> AsyncGenerator[Item]:
        url = f"{server.url}/threads/{thread}/runs/{run}"
        name, number, headers = "", 0, {"Last-Event-ID": after or "-1"}
        async with http.stream(
            "GET", f"{url}/stream", headers=headers, params={"stream_mode": "custom"}
        ) as response:
            async for line in response.aiter_lines():
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "data" and name == "custom":
                    number = json.loads(value)["number"]
                elif field == "id" and name == "custom":
                    yield value, number
        # A server that stops ends its streams in good order as well: the run itself tells.
        if (await http.get(url)).json()["status"] == "success":
            yield "", None

    return read


def events(http: httpx.AsyncClient, thread: str) -> Connection:
    async def read(server: InterlockServer, after: str | None) -> AsyncGenerator[Item]:
        url = f"{server.url}/threads/{thread}/stream/events"
        async with http.stream("POST", url, json=_wanted(after)) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    for item in _items(json.loads(line[6:])):
                        yield item

    return read


def socket(thread: str) -> Connection:
    async def read(server: InterlockServer, after: str | None) -> AsyncGenerator[Item]:
        url = f"ws://127.0.0.1:{server.port}/threads/{thread}/stream/events"
        subscribe = {"id": 1, "method": "subscription.subscribe", "params": _wanted(after)}
        async with connect(url) as opened:
            try:
                await opened.send(json.dumps(subscribe))
                async for text in opened:
                    for item in _items(json.loads(text)):
                        yield item
            finally:
                # Cut off, no farewell: with unread frames this client waits ten seconds for the answer to it.
                opened.transport.abort()

    return read


def _wanted(after: str | None) -> dict[str, Any]:
    return CHANNELS if after is None else {**CHANNELS, "since": int(after)}


def _items(event: dict[str, Any]) -> list[Item]:
    match event.get("method"):
        case "custom":
            return [(str(event["seq"]), event["params"]["data"]["payload"]["number"])]
        case "lifecycle" if event["params"]["data"]["event"] == "completed":
            return [(str(event["seq"]), None)]
        case _:
            return []


async def read_in_pieces(
    servers: Sequence[InterlockServer], connection: Connection, *, seed: int
) -> list[int]:
    """Every number in the order in which it came, cut off at a hundred places, by whichever server lives."""
    chance = random.Random(seed)
    cuts = sorted(chance.sample(range(1, EVENTS), CUTS))
    numbers: list[int] = []
    after: str | None = None
    while True:
        try:
            async with aclosing(connection(chance.choice(servers), after)) as items:
                async for cursor, number in items:
                    if number is None:
                        assert not cuts, f"{len(cuts)} cuts are left"
                        return numbers
                    numbers.append(number)
                    after = cursor
                    if cuts and len(numbers) >= cuts[0]:
                        del cuts[0]
                        break
        except LOST:
            # The one that was killed. What came before it broke off counts.
            continue
        finally:
            await asyncio.sleep(chance.uniform(0, 0.02))


async def test_a_reader_that_comes_back_a_hundred_times_sees_every_event_once_and_in_order(
    database_url: str, tmp_path: Path
) -> None:
    """Over classic SSE, thread events and WebSocket, on two processes of which one is killed with -9."""
    doomed, stays = (prepare(database_url, tmp_path, command="serve") for _ in range(2))
    worker = prepare(database_url, tmp_path, command="work")
    thread = str(uuid4())
    async with httpx.AsyncClient(base_url=stays.url, timeout=60) as http:
        with running(doomed, stays, worker):
            run = await start(http, thread, "big", {"messages": [], "events": EVENTS, "pause": 0.05})
            readers = [
                asyncio.create_task(read_in_pieces([doomed, stays], connection, seed=seed))
                for seed, connection in enumerate(
                    (classic(http, thread, run), events(http, thread), socket(thread))
                )
            ]
            async with aclosing(events(http, thread)(stays, None)) as watched:
                while (await anext(watched))[1] != EVENTS // 3:
                    pass
            doomed.kill()
            async with asyncio.timeout(240):
                for numbers in await asyncio.gather(*readers):
                    assert numbers == list(range(EVENTS))
