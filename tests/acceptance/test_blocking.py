"""Graphs that hold on to what they should give back: the loop, a thread, a slot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from ..servers import InterlockServer, prepare, running
from .wire import frames, is_running

Until = Callable[..., Awaitable[Any]]
HUMAN: dict[str, Any] = {"messages": [{"type": "human", "content": "hello"}]}


@pytest.fixture(scope="module")
def isolating(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[InterlockServer]:
    """A server that gives each run a loop of its own."""
    env = {"INTERLOCK_WORKER_ISOLATED_LOOPS": "true", "INTERLOCK_WORKER_SLOTS": "4"}
    server = prepare(module_database_url, tmp_path_factory.mktemp("isolating"), env=env)
    with running(server):
        yield server


async def beats_during(http: httpx.AsyncClient, url: str, seconds: float) -> list[float]:
    """When something came over this stream, comments included."""
    moments = [time.monotonic()]
    async with http.stream("GET", url) as response:
        async for _ in frames(response):
            moments.append(time.monotonic())
            if moments[-1] - moments[0] > seconds:
                return moments
    return moments


async def answers_during(http: httpx.AsyncClient, seconds: float) -> list[float]:
    """How long `/ok` took, again and again."""
    taken: list[float] = []
    end = time.monotonic() + seconds
    while (start := time.monotonic()) < end:
        assert (await http.get("/ok")).is_success
        taken.append(time.monotonic() - start)
        await asyncio.sleep(0.1)
    return taken


async def test_node_that_blocks_its_loop_delays_no_stream_and_no_answer(
    client: LangGraphClient, http: httpx.AsyncClient, server: InterlockServer
) -> None:
    """O48: a node sleeps for 5 s without giving the loop back."""
    idle = (await client.threads.create())["thread_id"]
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread, "block", input={"seconds": 5})
    moments, taken, values = await asyncio.gather(
        beats_during(http, f"/threads/{idle}/stream", 5.5),
        answers_during(http, 5),
        client.runs.join(thread, run["run_id"]),
    )
    assert values["woke"] is True
    assert max(after - before for before, after in pairwise(moments)) < 5 + 2
    assert max(taken) < 1
    assert (await client.runs.get(thread, run["run_id"]))["status"] == "success"
    told = [line for line in server.log.splitlines() if "block" in line and run["run_id"] in line]
    assert any("block.py" in line for line in told), "the log names the run and the line that blocks"


async def test_isolated_loops_keep_other_runs_going(isolating: InterlockServer, until: Until) -> None:
    """O48: the option."""
    async with get_client(url=isolating.url, api_key=None) as client:
        thread = (await client.threads.create())["thread_id"]
        run = await client.runs.create(thread, "block", input={"seconds": 5})
        await until(lambda: is_running(client, thread, run["run_id"]))
        values = await asyncio.wait_for(client.runs.wait(None, "chat", input=HUMAN), 3)
        assert isinstance(values, dict)
        assert (await client.runs.get(thread, run["run_id"]))["status"] == "running"
        assert (await client.runs.join(thread, run["run_id"]))["woke"] is True


async def in_tool(client: LangGraphClient, thread: str) -> bool:
    return (await client.threads.get_state(thread))["next"] == ["tools"]


@pytest.mark.parametrize("hangs_a_thread", [False, True])
async def test_tool_that_never_returns_can_be_cancelled_and_gives_its_slot_back(
    client: LangGraphClient, until: Until, hangs_a_thread: bool
) -> None:
    """More of them than there are slots, so that a slot which is not given back would be missed."""
    threads: list[str] = []
    for _ in range(2):
        threads = [(await client.threads.create())["thread_id"] for _ in range(6)]
        runs = [
            await client.runs.create(thread, "never", input=HUMAN | {"thread": hangs_a_thread})
            for thread in threads
        ]
        for thread, run in zip(threads, runs, strict=True):
            await until(lambda t=thread: in_tool(client, t))
            await asyncio.wait_for(client.runs.cancel(thread, run["run_id"], wait=True), 5)
            assert (await client.runs.get(thread, run["run_id"]))["status"] == "interrupted"

    values = await asyncio.wait_for(client.runs.wait(threads[0], "abc", input={}), 5)
    assert isinstance(values, dict)
    assert values["trace"] == ["A", "B", "C"]


async def test_tool_that_never_returns_times_out(database_url: str, tmp_path: Path) -> None:
    env = {"INTERLOCK_WORKER_RUN_TIMEOUT_S": "2"}
    limited = prepare(database_url, tmp_path, env=env)
    with running(limited):
        async with get_client(url=limited.url, api_key=None) as client:
            thread = (await client.threads.create())["thread_id"]
            run = await client.runs.create(thread, "never", input=HUMAN)
            answer = await asyncio.wait_for(client.runs.join(thread, run["run_id"]), 15)
            assert (await client.runs.get(thread, run["run_id"]))["status"] == "timeout"
            assert "__error__" in answer
            assert (await client.threads.get(thread))["status"] == "error"


async def test_several_runs_work_at_once_by_default(client: LangGraphClient, http: httpx.AsyncClient) -> None:
    """O47: and the number is told at the start and in the metrics."""
    threads = [(await client.threads.create())["thread_id"] for _ in range(5)]
    runs = [await client.runs.create(t, "slow", input={"steps": 20, "seconds": 0.2}) for t in threads]
    statuses: list[str] = []
    while statuses.count("running") < 5:
        statuses = [
            (await client.runs.get(thread, run["run_id"]))["status"]
            for thread, run in zip(threads, runs, strict=True)
        ]
        assert "success" not in statuses, "one had to wait for another"
    for thread, run in zip(threads, runs, strict=True):
        await client.runs.cancel(thread, run["run_id"])


async def test_number_of_slots_is_told_at_the_start_and_in_the_metrics(
    http: httpx.AsyncClient, server: InterlockServer
) -> None:
    """O47."""
    assert any("slots" in line and "10" in line for line in server.log.splitlines())
    metrics = (await http.get("/metrics", params={"format": "json"})).json()
    assert metrics["workers"]["max"] == 10
