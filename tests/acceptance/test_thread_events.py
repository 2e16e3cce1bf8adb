"""The thread event stream: complete, in order, numbered the same for everybody."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from uuid import uuid4

import httpx
from langgraph_sdk.client import LangGraphClient

from .protocol import CHANNELS, ends, is_end, read, start

HI = {"messages": [{"role": "user", "content": "hi"}]}
GRAPHS = [("chat", HI), ("tools", HI), ("sub", HI), ("par", {}), ("err", {}), ("slow", {"steps": 2})]


async def test_runs_of_every_kind_are_told_from_beginning_to_end(http: httpx.AsyncClient) -> None:
    """Every event fits the types of the protocol; numbers start at 1 and have no gap."""
    for graph, given in GRAPHS:
        thread = str(uuid4())
        run = await start(http, thread, graph, given)
        events = await read(http, thread, is_end)
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1)), graph
        assert len({event["event_id"] for event in events}) == len(events), graph
        assert events[0]["event_id"] == f"synth:{run}:lc||running"
        assert events[0]["params"]["data"] == {"event": "running", "graph_name": graph}
        told = {"err": "failed", "sub": "interrupted", "par": "interrupted"}.get(graph, "completed")
        assert events[-1]["event_id"] == f"synth:{run}:lc||{told}"


async def test_a_reader_that_comes_back_gets_what_follows_and_nothing_else(http: httpx.AsyncClient) -> None:
    """O04."""
    thread = str(uuid4())
    await start(http, thread, "chat", HI)
    await start(http, thread, "sub", HI)
    whole = await read(http, thread, ends(2))
    last = whole[-1]["seq"]
    for place in range(10):
        seen = whole[place]["seq"]
        again = await read(http, thread, lambda e: e["seq"] == last, since=seen)
        assert again == whole[place + 1 :]
        header = {"Last-Event-ID": str(seen), "X-Whatever": "1"}
        assert await read(http, thread, lambda e: e["seq"] == last, headers=header) == again
    odd = {"Last-Event-ID": "1795598636272-0", "X-Unheard-Of": "%%%"}
    assert await read(http, thread, lambda e: e["seq"] == last, headers=odd) == whole


async def test_filters_leave_out_and_change_nothing(http: httpx.AsyncClient) -> None:
    thread = str(uuid4())
    await start(http, thread, "sub", HI)
    whole = await read(http, thread, is_end)
    for channel in CHANNELS:
        method = {"input": "input.requested"}.get(channel, channel)
        wanted = [event for event in whole if event["method"] in (method, "lifecycle")]
        assert await read(http, thread, is_end, channels=[channel, "lifecycle"]) == wanted
    root = [event for event in whole if not event["params"]["namespace"]]
    assert await read(http, thread, is_end, namespaces=[[]], depth=0) == root
    inner = [event for event in whole if event["params"]["namespace"]]
    last = inner[-1]["seq"]
    assert await read(http, thread, lambda e: e["seq"] == last, namespaces=[["child"]]) == inner


async def test_every_question_comes_before_the_end_and_every_checkpoint_before_its_state(
    http: httpx.AsyncClient,
) -> None:
    for graph, questions in (("par", 2), ("sub", 1)):
        thread = str(uuid4())
        await start(http, thread, graph, HI if graph == "sub" else {})
        events = await read(http, thread, is_end)
        asked = [event["params"]["data"] for event in events if event["method"] == "input.requested"]
        assert len(asked) == questions
        assert all(one["payload"] == one["value"] for one in asked)
        state = (await http.get(f"/threads/{thread}/state")).json()
        assert {i["id"] for i in state["interrupts"]} == {one["interrupt_id"] for one in asked}
        for before, event in itertools.pairwise(events):
            if before["method"] == "checkpoints" and before["params"]["data"]["step"] >= 0:
                follows = event["method"] == "values" or graph == "par"
                assert follows, (before, event)


async def test_sub_graphs_and_messages_are_opened_and_closed_once(http: httpx.AsyncClient) -> None:
    thread = str(uuid4())
    await start(http, thread, "sub", {**HI, "ask": False})
    events = await read(http, thread, is_end)
    lifecycle = [e["params"] for e in events if e["method"] == "lifecycle" and e["params"]["namespace"]]
    assert [one["data"]["event"] for one in lifecycle] == ["started", "completed"]
    assert lifecycle[0]["data"]["graph_name"] == "child"
    assert lifecycle[0]["namespace"] == lifecycle[0]["data"]["namespace"]
    frames = [event["params"]["data"] for event in events if event["method"] == "messages"]
    assert all(frame["id"] for frame in frames)
    for identity in {frame["id"] for frame in frames}:
        mine = [frame["event"] for frame in frames if frame["id"] == identity]
        assert mine[0] == "message-start"
        assert mine[-1] == "message-finish"
        counted = Counter(mine)
        assert counted["content-block-start"] == counted["content-block-finish"] > 0
    texts = [
        frame["content"]["text"]
        for frame in frames
        if frame["event"] == "content-block-finish" and frame["content"]["type"] == "text"
    ]
    assert texts == ["All done."]


async def test_iterators_of_the_python_client_end_when_their_run_is_cancelled(
    client: LangGraphClient,
) -> None:
    async with client.threads.stream(assistant_id="slow") as thread, asyncio.timeout(120):
        run_id = (await thread.run.start(input={"steps": 10_000, "seconds": 0.05}))["run_id"]
        stopped = False
        async for _ in thread.values:
            if not stopped:
                await client.runs.cancel(thread.thread_id, run_id)
            stopped = True
    assert (await client.runs.get(thread.thread_id, run_id))["status"] == "interrupted"


async def test_iterators_of_the_python_client_end_when_their_run_is_cancelled_before_it_starts(
    client: LangGraphClient,
) -> None:
    made = await client.threads.create()
    first = await client.runs.create(made["thread_id"], "slow", input={"steps": 10_000, "seconds": 0.05})
    async with client.threads.stream(made["thread_id"], assistant_id="slow") as thread, asyncio.timeout(120):
        waiting = (await thread.run.start(input={"steps": 1, "seconds": 0.05}))["run_id"]
        for run_id in (first["run_id"], waiting):
            await client.runs.cancel(made["thread_id"], run_id)
        async for _ in thread.values:
            pass
    assert (await client.runs.get(made["thread_id"], waiting))["status"] == "interrupted"
