"""A server that dies, or is asked to stop: no finished step runs again, no reader loses an event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.schema import StreamMode

from ..servers import InterlockServer, prepare, running, steps
from .wire import Frame, broken_off, frames, read_events

Until = Callable[..., Awaitable[Any]]
MODES: list[StreamMode] = ["updates", "custom", "values"]


@pytest.fixture
async def own_server(database_url: str, tmp_path: Path) -> AsyncIterator[InterlockServer]:
    """A server that this test may kill. Its lease is long, so nobody goes on just because it ran out."""
    server = prepare(database_url, tmp_path, env={"INTERLOCK_WORKER_LEASE_S": "120"})
    with running(server):
        yield server


async def done(client: LangGraphClient, thread: str) -> list[int]:
    """Steps that are saved: their checkpoint is committed."""
    return (await client.threads.get_state(thread))["values"].get("done", [])


async def start_slow(client: LangGraphClient, *, count: int, seconds: float) -> tuple[str, str]:
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(
        thread,
        "slow",
        input={"steps": count, "seconds": seconds},
        stream_mode=MODES,
        stream_resumable=True,
    )
    return thread, run["run_id"]


async def read_until_broken(url: str, found: list[Frame]) -> None:
    """Collect events until the connection dies, as a browser does."""
    try:
        async with (
            httpx.AsyncClient(timeout=30) as http,
            http.stream("GET", url, headers={"Last-Event-ID": "-1"}) as response,
        ):
            async for frame in frames(response):
                if frame.event is not None:
                    found.append(frame)
    except httpx.TransportError:
        return


async def test_killed_run_goes_on_from_its_last_checkpoint_and_its_reader_misses_nothing(
    own_server: InterlockServer, until: Until
) -> None:
    """kill -9 in the middle of a run, then a restart."""
    client = get_client(url=own_server.url, api_key=None)
    thread, run = await start_slow(client, count=8, seconds=0.4)
    url = f"{own_server.url}/threads/{thread}/runs/{run}/stream"
    before: list[Frame] = []
    reading = asyncio.create_task(read_until_broken(url, before))
    await until(lambda: [f for f in before if f.event == "updates"][2:], deadline_s=20)
    saved = await done(client, thread)
    own_server.kill()
    await reading
    saved_or_seen = max(len(saved), len([f for f in before if f.event == "updates"]))

    own_server.start()
    async with httpx.AsyncClient(timeout=60) as http:
        rest = await read_events(http, url, after=before[-1].id)
        whole = await read_events(http, url, after="-1")
    await client.runs.join(thread, run)

    assert before + rest == whole
    ids = [int((frame.id or "").split(".")[0]) for frame in whole]
    assert ids == sorted(set(ids))
    assert [f.data["step"]["done"] for f in whole if f.event == "updates"] == [[n] for n in range(1, 9)]
    assert whole[-1].data["done"] == list(range(1, 9))
    assert [f.data["attempt"] for f in whole if f.event == "metadata"] == [1, 2]
    noted = steps(own_server, thread)
    assert all(noted.count(f"step {n}") == 1 for n in range(1, saved_or_seen + 1))
    assert sorted(set(noted)) == sorted(f"step {n}" for n in range(1, 9))
    assert len(noted) <= 9, "at most the step that was cut off ran twice"
    await client.aclose()


async def test_killed_run_repeats_only_the_node_that_was_cut_off(
    own_server: InterlockServer, until: Until
) -> None:
    """kill -9 in the second of three nodes: a run that began anew would go through the first again."""
    client = get_client(url=own_server.url, api_key=None)
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread, "abc", input={"seconds": 1.0})
    await until(lambda: steps(own_server, thread) == ["A", "B"])
    own_server.kill()
    own_server.start()

    assert (await client.runs.join(thread, run["run_id"]))["trace"] == ["A", "B", "C"]
    assert steps(own_server, thread) == ["A", "B", "B", "C"]
    await client.aclose()


async def test_answer_that_was_cut_off_grows_anew_after_a_crash(
    own_server: InterlockServer, until: Until
) -> None:
    """kill -9 in the middle of an answer: the model is asked again, its words do not follow the old half."""
    client = get_client(url=own_server.url, api_key=None)
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(
        thread,
        "chat",
        input={"messages": [{"type": "human", "content": "hello"}], "delay": 0.5},
        stream_mode="messages",
        stream_resumable=True,
    )
    url = f"{own_server.url}/threads/{thread}/runs/{run['run_id']}/stream"
    before: list[Frame] = []
    reading = asyncio.create_task(read_until_broken(url, before))
    await until(lambda: len([f for f in before if f.event == "messages/partial"]) >= 2, deadline_s=20)
    own_server.kill()
    await reading
    own_server.start()

    async with httpx.AsyncClient(timeout=60) as http:
        rest = await read_events(http, url, after=before[-1].id)
        assert before + rest == await read_events(http, url, after="-1")
    grown = [frame.data[0]["content"] for frame in rest if frame.event == "messages/partial"]
    assert grown == ["Red ", "Red lorry, ", "Red lorry, yellow ", "Red lorry, yellow lorry."]
    await client.aclose()


async def test_after_a_crash_nothing_stays_running_and_new_runs_start_at_once(
    own_server: InterlockServer, until: Until
) -> None:
    """O42: a single process takes its own runs back at its start, without waiting for their lease."""
    client = get_client(url=own_server.url, api_key=None)
    threads = [await start_slow(client, count=4, seconds=0.3) for _ in range(5)]
    await until(lambda: all_started(client, threads))
    own_server.kill()
    own_server.start()

    fresh = (await client.threads.create())["thread_id"]
    values = await asyncio.wait_for(client.runs.wait(fresh, "abc", input={}), 5)
    assert isinstance(values, dict)
    assert values["trace"] == ["A", "B", "C"]
    for thread, run in threads:
        await asyncio.wait_for(client.runs.join(thread, run), 8)
        assert (await client.runs.get(thread, run))["status"] == "success"
        assert await done(client, thread) == [1, 2, 3, 4]
        assert (await client.threads.get(thread))["status"] == "idle"
    await client.aclose()


async def all_started(client: LangGraphClient, threads: list[tuple[str, str]]) -> bool:
    return all([await done(client, thread) for thread, _ in threads])


async def test_stopped_server_hands_its_runs_back_and_ends_in_good_order(
    own_server: InterlockServer, database_url: str, until: Until
) -> None:
    """O41: SIGTERM under load; the readers can come back, and no step ran twice."""
    client = get_client(url=own_server.url, api_key=None)
    started = [await start_slow(client, count=8, seconds=0.4) for _ in range(8)]
    urls = [f"{own_server.url}/threads/{thread}/runs/{run}/stream" for thread, run in started]
    heard: list[list[Frame]] = [[] for _ in urls]
    readers = [asyncio.create_task(read_until_broken(u, f)) for u, f in zip(urls, heard, strict=True)]
    await until(lambda: all(len(found) > 4 for found in heard), deadline_s=20)

    code = await asyncio.to_thread(own_server.terminate)
    await asyncio.gather(*readers)
    assert code == 0
    assert "Traceback" not in own_server.log
    own_server.start()

    async with httpx.AsyncClient(timeout=60) as http:
        for (thread, run), url, found in zip(started, urls, heard, strict=True):
            rest = await read_events(http, url, after=found[-1].id)
            assert found + rest == await read_events(http, url, after="-1")
            assert (await client.runs.get(thread, run))["status"] == "success"
            assert await done(client, thread) == list(range(1, 9))
            assert sorted(steps(own_server, thread)) == sorted(f"step {n}" for n in range(1, 9))
    assert broken_off(database_url, (run for _, run in started)) == {}
    await client.aclose()


async def test_stopped_server_takes_no_run_down_that_another_one_can_go_on_with(
    database_url: str, tmp_path: Path, until: Until
) -> None:
    """O41: with two servers on one database the second continues while the first is still ending."""
    first, second = prepare(database_url, tmp_path), prepare(database_url, tmp_path)
    with running(first):
        client = get_client(url=first.url, api_key=None)
        thread, run = await start_slow(client, count=6, seconds=0.4)
        await until(lambda: done(client, thread))
        await client.aclose()
        with running(second):
            assert await asyncio.to_thread(first.terminate) == 0
            other = get_client(url=second.url, api_key=None)
            values = await asyncio.wait_for(other.runs.join(thread, run), 20)
            assert values["done"] == [1, 2, 3, 4, 5, 6]
            assert sorted(steps(second, thread)) == [f"step {n}" for n in range(1, 7)]
            await other.aclose()


async def test_run_that_kills_its_worker_three_times_is_quarantined(
    own_server: InterlockServer, until: Until
) -> None:
    client = get_client(url=own_server.url, api_key=None)
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread, "slow", input={"steps": 1, "seconds": 60, "events": 0})
    for attempt in range(1, 4):
        await until(lambda n=attempt: len(steps(own_server, thread)) == n, deadline_s=20)
        own_server.kill()
        own_server.start()
    await until(lambda: has_status(client, thread, run["run_id"], "error"), deadline_s=20)

    record = await client.threads.get(thread)
    assert record["status"] == "error"
    answer = await client.runs.join(thread, run["run_id"])
    assert answer["__error__"]["error"] == "WorkerCrashed"
    assert len(steps(own_server, thread)) == 3
    values = await client.runs.wait(thread, "slow", input={"steps": 1, "seconds": 0.01})
    assert isinstance(values, dict)
    assert values["done"]
    await client.aclose()


async def has_status(client: LangGraphClient, thread: str, run: str, status: str) -> bool:
    return (await client.runs.get(thread, run))["status"] == status
