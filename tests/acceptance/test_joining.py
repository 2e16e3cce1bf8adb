"""Coming late, coming back, and following a whole thread."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.schema import StreamMode

from .wire import Frame, frames, read_events

HUMAN: dict[str, Any] = {"messages": [{"type": "human", "content": "hello", "id": "question-1"}]}
Until = Callable[..., Awaitable[Any]]


async def finished(client: LangGraphClient, thread: str, run: str, until: Until) -> None:
    await until(lambda: status_is(client, thread, run, "success"), deadline_s=30)


async def status_is(client: LangGraphClient, thread: str, run: str, *statuses: str) -> bool:
    return (await client.runs.get(thread, run))["status"] in statuses


async def test_late_joiner_gets_the_final_values_and_an_end(
    client: LangGraphClient, http: httpx.AsyncClient, until: Until
) -> None:
    """O06: during the last words of the run, just after its end, and again later."""
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread, "chat", input=HUMAN | {"delay": 0.3}, stream_resumable=True)
    url = f"/threads/{thread}/runs/{run['run_id']}/stream"

    during = await read_events(http, url, after="-1")
    after = await read_events(http, url, after="-1")
    await finished(client, thread, run["run_id"], until)
    later = await read_events(http, url, after="-1")

    assert during == after == later
    assert during[0].event == "metadata"
    assert during[-1].event == "values"
    assert during[-1].data["messages"][-1]["content"] == "Red lorry, yellow lorry."


async def test_join_after_the_retention_time_ends_at_once(
    client: LangGraphClient, http: httpx.AsyncClient, shared_database_url: str
) -> None:
    """O06: the events are gone, the answer is still on the thread."""
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread, "abc", input={}, stream_resumable=True)
    await client.runs.join(thread, run["run_id"])
    with psycopg.connect(shared_database_url, autocommit=True) as connection:
        connection.execute("DELETE FROM interlock.event_segments WHERE thread_id = %s", (thread,))

    url = f"/threads/{thread}/runs/{run['run_id']}/stream"
    assert await asyncio.wait_for(read_events(http, url, after="-1"), 3) == []
    answer = await asyncio.wait_for(client.runs.join(thread, run["run_id"]), 3)
    assert answer["trace"] == ["A", "B", "C"]


async def test_reader_goes_on_strictly_after_any_id(client: LangGraphClient, http: httpx.AsyncClient) -> None:
    thread = (await client.threads.create())["thread_id"]
    modes: list[StreamMode] = ["values", "messages-tuple", "messages", "updates", "debug"]
    run = await client.runs.create(thread, "tools", input=HUMAN, stream_mode=modes, stream_resumable=True)
    url = f"/threads/{thread}/runs/{run['run_id']}/stream"
    whole = await read_events(http, url, after="-1")

    assert len(whole) > 20
    for i, frame in enumerate(whole):
        assert await read_events(http, url, after=frame.id) == whole[i + 1 :]


async def test_unknown_cursors_and_headers_never_break_a_join(
    client: LangGraphClient, http: httpx.AsyncClient
) -> None:
    """An unknown text means nothing, and is no error."""
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread, "abc", input={}, stream_resumable=True)
    url = f"/threads/{thread}/runs/{run['run_id']}/stream"
    await client.runs.join(thread, run["run_id"])

    assert await read_events(http, url, after="no-such-cursor") == []
    assert await read_events(http, url, after="1795598636272-0") == []
    async with http.stream("GET", url, headers={"X-Unheard-Of": "1", "Last-Event-ID": "-1"}) as response:
        assert response.status_code == 200
        assert [frame async for frame in frames(response)]


async def test_whoever_comes_after_the_end_is_told_how_it_ended(
    client: LangGraphClient, http: httpx.AsyncClient
) -> None:
    """Without a cursor the past is not wanted: what is left to tell is the end, or what went wrong."""
    thread = (await client.threads.create())["thread_id"]
    good = (await client.runs.create(thread, "abc", input={}, stream_resumable=True))["run_id"]
    await client.runs.join(thread, good)
    assert [part async for part in client.runs.join_stream(thread, good)] == [("end", None, None)]
    assert [part async for part in client.runs.join_stream(thread, good, last_event_id="none")] == []

    bad = (await client.runs.create(thread, "err", input={}))["run_id"]
    told = (await http.get(f"/threads/{thread}/runs/{bad}/join")).json()["__error__"]
    (part,) = [part async for part in client.runs.join_stream(thread, bad)]
    assert (part.event, part.data) == ("error", told)

    stopped = (await client.runs.create(thread, "slow", input={"steps": 100, "seconds": 0.2}))["run_id"]
    await client.runs.cancel(thread, stopped, wait=True)
    assert [part.event async for part in client.runs.join_stream(thread, stopped)] == ["end"]


async def test_join_can_filter_by_mode(client: LangGraphClient, http: httpx.AsyncClient) -> None:
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(
        thread, "slow", input={"seconds": 0.01}, stream_mode=["custom", "values"], stream_resumable=True
    )
    url = f"/threads/{thread}/runs/{run['run_id']}/stream"

    assert {f.event for f in await read_events(http, url, after="-1", stream_mode="custom")} == {"custom"}
    assert await read_events(http, url, after="-1", stream_mode="no-such-mode") == []


@pytest.mark.parametrize("named", [None, [], ""], ids=["none", "empty list", "empty text"])
async def test_a_join_that_names_no_mode_shows_what_the_creator_of_the_run_asked_for(
    client: LangGraphClient, named: Any
) -> None:
    thread = (await client.threads.create())["thread_id"]
    asked: list[StreamMode] = ["custom", "updates"]
    run = await client.runs.create(
        thread, "slow", input={"seconds": 0.01}, stream_mode=asked, stream_resumable=True
    )
    joined = client.runs.join_stream(thread, run["run_id"], stream_mode=named, last_event_id="-1")
    assert {part.event async for part in joined} == {"metadata", *asked}


async def test_run_that_is_not_resumable_shows_no_ids_and_without_a_cursor_only_what_comes(
    client: LangGraphClient, http: httpx.AsyncClient
) -> None:
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread, "chat", input=HUMAN | {"delay": 0.2})
    url = f"/threads/{thread}/runs/{run['run_id']}/stream"
    live = await read_events(http, url)
    await client.runs.join(thread, run["run_id"])

    assert live
    assert all(frame.id is None for frame in live)
    assert [frame.event for frame in await read_events(http, url)] == ["end"]
    replayed = await read_events(http, url, after="-1")
    assert all(frame.id is None for frame in replayed)
    assert replayed[-1] == live[-1]


async def test_unknown_run_is_told_as_an_error_event(
    client: LangGraphClient, http: httpx.AsyncClient
) -> None:
    thread = (await client.threads.create())["thread_id"]
    error = {"error": "HTTPException", "message": "404: Run not found"}

    assert await read_events(http, f"/threads/{thread}/runs/{uuid4()}/stream") == [
        Frame("error", error, None)
    ]
    assert (await http.get(f"/threads/{thread}/runs/{uuid4()}/join")).json() == {"__error__": error}


async def test_pending_run_can_be_joined_before_it_starts(
    client: LangGraphClient, http: httpx.AsyncClient
) -> None:
    thread = (await client.threads.create())["thread_id"]
    await client.runs.create(thread, "slow", input={"steps": 2, "seconds": 0.5})
    queued = await client.runs.create(
        thread, "chat", input=HUMAN, multitask_strategy="enqueue", stream_resumable=True
    )
    assert queued["status"] == "pending"

    found = await read_events(http, f"/threads/{thread}/runs/{queued['run_id']}/stream", after="-1")
    assert found[0].data["run_id"] == queued["run_id"]
    assert found[-1].data["messages"][-1]["content"] == "Red lorry, yellow lorry."


async def test_thread_stream_follows_run_after_run(client: LangGraphClient, http: httpx.AsyncClient) -> None:
    """O03: a page that knows only its thread rejoins the answer; an idle thread hangs alive, not dead."""
    thread = (await client.threads.create())["thread_id"]
    first = await client.runs.create(thread, "slow", input={"seconds": 0.4}, stream_resumable=True)
    seen: list[Frame] = []
    second: str | None = None
    async with http.stream("GET", f"/threads/{thread}/stream") as response:
        async for frame in frames(response):
            if frame.event is None:
                continue
            seen.append(frame)
            if frame.data == {"status": "run_done", "run_id": first["run_id"]}:
                again = await client.runs.create(thread, "abc", input={}, stream_resumable=True)
                second = again["run_id"]
            elif frame.data == {"status": "run_done", "run_id": second}:
                break

    assert all(frame.id for frame in seen)
    assert [f.data["run_id"] for f in seen if f.event == "metadata" and "attempt" in f.data][-1] == second
    assert seen[-2].event == "values"
    assert seen[-2].data["trace"] == ["A", "B", "C"]


async def test_thread_stream_of_an_idle_thread_beats_and_replays(
    client: LangGraphClient, http: httpx.AsyncClient
) -> None:
    """O03: reopening from the last id gives later events only."""
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread, "abc", input={}, stream_resumable=True)
    await client.runs.join(thread, run["run_id"])
    url = f"/threads/{thread}/stream"

    async with http.stream("GET", url) as response:
        first = await anext(frames(response))
    assert first == Frame(None, "heartbeat", None)

    count = 5
    whole = await read_events(http, url, after="-", limit=count)
    assert whole[0].data == {"run_id": run["run_id"], "attempt": 1}
    assert whole[-1].data == {"status": "run_done", "run_id": run["run_id"]}
    assert await read_events(http, url, after=whole[2].id, limit=count - 3) == whole[3:]


@pytest.mark.parametrize("spelling", ["stream_mode", "stream_modes"])
async def test_thread_stream_tells_state_updates_to_those_who_ask(
    client: LangGraphClient, http: httpx.AsyncClient, spelling: str
) -> None:
    thread = (await client.threads.create(graph_id="abc"))["thread_id"]
    async with http.stream("GET", f"/threads/{thread}/stream", params={spelling: "state_update"}) as response:
        follower = frames(response)
        await client.threads.update_state(thread, {"trace": ["by hand"]}, as_node="A")
        event = await anext(frame async for frame in follower if frame.event is not None)

    assert event.event == "state_update"
    assert event.data["thread_id"] == thread
    assert event.data["state"]["values"] == {"trace": ["by hand"]}
