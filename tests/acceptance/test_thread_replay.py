"""The thread event stream is the same for everybody: on every process, after a restart, and after a crash."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from websockets.asyncio.client import connect

from ..servers import InterlockServer, prepare, running
from .protocol import CHANNELS, Event, ends, is_end, read, send, start

HI = {"messages": [{"role": "user", "content": "hi"}]}
RUNS = [("chat", HI), ("tools", HI), ("sub", HI), ("err", {}), ("slow", {"steps": 2, "seconds": 0.05})]


async def raw(url: str, thread: str, runs: int) -> list[bytes]:
    """The lines of the stream as they are, but for signs of life, up to the end of so many runs."""
    stop = ends(runs)
    lines: list[bytes] = []
    async with (
        asyncio.timeout(60),
        httpx.AsyncClient(base_url=url, timeout=60) as http,
        http.stream("POST", f"/threads/{thread}/stream/events", json={"channels": CHANNELS}) as response,
    ):
        over = False
        async for line in response.aiter_lines():
            if line.startswith(":"):
                continue
            lines.append(line.encode())
            if line.startswith("data: "):
                over = stop(json.loads(line[6:]))
            elif over and line.startswith("id: "):
                return lines
    return lines


async def texts(server: InterlockServer, thread: str, most: int) -> list[bytes]:
    """The first events over a WebSocket, as they are."""
    params = {"id": 1, "method": "subscription.subscribe", "params": {"channels": CHANNELS}}
    found: list[bytes] = []
    async with (
        asyncio.timeout(60),
        connect(f"ws://127.0.0.1:{server.port}/threads/{thread}/stream/events") as socket,
    ):
        await socket.send(json.dumps(params))
        while len(found) < most:
            found.append(str(await socket.recv()).encode())
    return found


async def test_live_late_elsewhere_and_after_a_restart_every_byte_is_the_same(
    database_url: str, tmp_path: Path
) -> None:
    """One reader follows live, others read afterwards: on both processes, over both transports."""
    one, two = (prepare(database_url, tmp_path, command="serve") for _ in range(2))
    worker = prepare(database_url, tmp_path, command="work")
    thread = str(uuid4())
    with running(one, two, worker):
        live = asyncio.create_task(raw(two.url, thread, len(RUNS)))
        async with httpx.AsyncClient(base_url=one.url, timeout=60) as http:
            for graph, given in RUNS:
                await start(http, thread, graph, given)
        seen = await live
        assert seen == await raw(one.url, thread, len(RUNS))
        assert seen == await raw(two.url, thread, len(RUNS))
        one.restart()
        assert seen == await raw(one.url, thread, len(RUNS))
        events = [line[6:] for line in seen if line.startswith(b"data: ")]
        assert [json.loads(text)["seq"] for text in events] == list(range(1, len(events) + 1))
        for server in (one, two):
            assert await texts(server, thread, len(events)) == events


@pytest.fixture
async def own_server(database_url: str, tmp_path: Path) -> AsyncIterator[InterlockServer]:
    """A server that this test may kill."""
    server = prepare(database_url, tmp_path)
    with running(server):
        yield server


@pytest.mark.parametrize(
    ("graph", "given"), [("slow", {"steps": 6, "seconds": 0.4}), ("chat", {**HI, "delay": 0.7})]
)
async def test_a_second_attempt_goes_on_with_the_numbers_of_the_first(
    own_server: InterlockServer, graph: str, given: dict[str, Any]
) -> None:
    """kill -9 in a step, or in a message: what was shown stays, the run begins and ends once."""
    thread = str(uuid4())
    before: list[Event] = []

    def far_enough(event: Event) -> bool:
        before.append(event)
        kind = "custom" if graph == "slow" else "messages"
        return len([one for one in before if one["method"] == kind]) == 4

    async with httpx.AsyncClient(base_url=own_server.url, timeout=60) as http:
        await start(http, thread, graph, given)
        await read(http, thread, far_enough)
    own_server.kill()
    own_server.start()
    async with httpx.AsyncClient(base_url=own_server.url, timeout=60) as http:
        rest = await read(http, thread, is_end, since=before[-1]["seq"])
        whole = await read(http, thread, is_end)
    assert before + rest == whole
    assert [event["seq"] for event in whole] == list(range(1, len(whole) + 1))
    assert len({event["event_id"] for event in whole}) == len(whole)
    told = [event["params"]["data"]["event"] for event in whole if event["method"] == "lifecycle"]
    assert told == ["running", "completed"]
    if graph == "chat":
        # The half message breaks off, the second is whole; here they even have one id.
        frames = [event["params"]["data"] for event in whole if event["method"] == "messages"]
        turns = ("message-start", "error", "message-finish")
        told = [frame["event"] for frame in frames if frame["event"] in turns]
        assert told == ["message-start", "error", "message-start", "message-finish"]
        assert [f["content"]["text"] for f in frames if f["event"] == "content-block-finish"][-1] == (
            "Red lorry, yellow lorry."
        )


async def test_a_run_that_was_rolled_back_only_shows_that_it_ended_and_moves_no_number(
    http: httpx.AsyncClient,
) -> None:
    thread = str(uuid4())
    await start(http, thread, "slow", {"steps": 1, "seconds": 0.01})
    first = await read(http, thread, is_end)
    run = await start(http, thread, "slow", {"steps": 100, "seconds": 0.1})
    begun = await read(http, thread, lambda e: e["method"] == "custom", since=first[-1]["seq"])
    caught_up = asyncio.Event()
    over = ends(2)

    def stop(event: Event) -> bool:
        if event["seq"] == begun[-1]["seq"]:
            caught_up.set()
        return over(event)

    watching = asyncio.create_task(read(http, thread, stop))
    await asyncio.wait_for(caught_up.wait(), 60)
    cancelled = await http.post(
        f"/threads/{thread}/runs/{run}/cancel", params={"action": "rollback", "wait": "1"}
    )
    assert cancelled.status_code == 200
    live = await watching
    assert [event["seq"] for event in live] == list(range(1, len(live) + 1))
    assert live[: len(first) + len(begun)] == first + begun
    late = await read(http, thread, ends(2))
    assert late[: len(first)] == first
    [end] = late[len(first) :]
    assert end == live[-1]
    assert end["event_id"] == f"synth:{run}:lc||interrupted"
    # Who was in the middle of what is gone gets what follows it, as who comes anew does.
    assert await read(http, thread, is_end, since=begun[-1]["seq"]) == [end]
    await start(http, thread, "slow", {"steps": 1, "seconds": 0.01})
    [again, *_] = await read(http, thread, is_end, since=end["seq"])
    assert again["seq"] == end["seq"] + 1
    tree = await send(http, thread, "agent.getTree", run_id=run)
    assert tree["error"] == "no_such_run"


async def test_a_thread_made_anew_under_the_same_id_begins_at_one(http: httpx.AsyncClient) -> None:
    thread = str(uuid4())
    for text in ("old", "new"):
        run = await start(http, thread, "chat", {"messages": [{"role": "user", "content": text}]})
        events = await read(http, thread, is_end)
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert events[0]["event_id"] == f"synth:{run}:lc||running"
        if text == "old":
            assert (await http.delete(f"/threads/{thread}")).status_code == 204
