"""Two processes on one database: whoever is asked, the answer is the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from ..servers import InterlockServer, prepare, running, steps
from .wire import read_events

Until = Callable[..., Awaitable[Any]]


class Pair(NamedTuple):
    """A process that only works, and two that only serve; the runs belong to none of the two."""

    first: InterlockServer
    second: InterlockServer
    worker: InterlockServer


@pytest.fixture(scope="module")
def pair(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    # With so long a lease no heartbeat tells a worker in time that its run was taken away.
    env = {"INTERLOCK_WORKER_LEASE_S": "120"}
    members = Pair(
        prepare(module_database_url, folder, command="serve", env=env),
        prepare(module_database_url, folder, command="dev", env=env),
        prepare(module_database_url, folder, command="work", env=env),
    )
    with running(*members):
        yield members


@pytest.fixture
async def clients(pair: Pair) -> AsyncIterator[tuple[LangGraphClient, LangGraphClient]]:
    async with AsyncExitStack() as stack:
        yield (
            await stack.enter_async_context(get_client(url=pair.first.url, api_key=None)),
            await stack.enter_async_context(get_client(url=pair.second.url, api_key=None)),
        )


async def status(client: LangGraphClient, thread: str, run: str) -> str:
    return (await client.runs.get(thread, run))["status"]


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
async def test_cancel_works_on_the_process_that_does_not_own_the_run(
    clients: tuple[LangGraphClient, LangGraphClient], pair: Pair, until: Until, action: Any
) -> None:
    """O25: six runs, so that both workers own some; each is cancelled through the first."""
    first, second = clients
    threads = [(await first.threads.create())["thread_id"] for _ in range(6)]
    runs = [await first.runs.create(t, "slow", input={"steps": 100, "seconds": 0.2}) for t in threads]

    async def all_work() -> bool:
        return all(steps(pair.first, thread)[1:] for thread in threads)

    await until(all_work, deadline_s=20)
    for thread, run in zip(threads, runs, strict=True):
        await asyncio.wait_for(first.runs.cancel(thread, run["run_id"], wait=True, action=action), 5)
    noted = [len(steps(pair.first, thread)) for thread in threads]

    for thread in threads:
        for client in clients:
            assert (await client.threads.get(thread))["status"] in {"interrupted", "idle"}
        values = await second.runs.wait(thread, "abc", input={}, multitask_strategy="reject")
        assert isinstance(values, dict)
        assert values["trace"][-3:] == ["A", "B", "C"]
    now = [len([s for s in steps(pair.first, t) if s.startswith("step")]) for t in threads]
    assert all(after - before <= 1 for before, after in zip(noted, now, strict=True))


async def test_cancel_reaches_a_silent_node_in_another_process(
    clients: tuple[LangGraphClient, LangGraphClient], pair: Pair, until: Until
) -> None:
    """O25: a node that writes nothing cannot notice by itself; its graph is closed all the same."""
    first, _ = clients
    threads = [(await first.threads.create())["thread_id"] for _ in range(4)]
    runs = [await first.runs.create(thread, "fact", input={"seconds": 300}) for thread in threads]

    def noted(word: str) -> list[str]:
        lines = [line for thread in threads for line in steps(pair.first, thread)]
        return [line for line in lines if line.startswith(f"{word} threads.create_run")]

    await until(lambda: len(noted("open")) == 4, deadline_s=20)
    for thread, run in zip(threads, runs, strict=True):
        await first.runs.cancel(thread, run["run_id"])
    await until(lambda: len(noted("close")) == 4, deadline_s=5)


async def test_reader_follows_a_run_that_another_process_executes(
    clients: tuple[LangGraphClient, LangGraphClient], pair: Pair
) -> None:
    first, _ = clients
    thread = (await first.threads.create())["thread_id"]
    run = await first.runs.create(
        thread,
        "slow",
        input={"steps": 5, "seconds": 0.1},
        stream_mode=["updates", "custom"],
        stream_resumable=True,
    )
    path = f"/threads/{thread}/runs/{run['run_id']}/stream"
    async with httpx.AsyncClient(timeout=30) as http:
        one, two = await asyncio.gather(
            read_events(http, pair.first.url + path, after="-1"),
            read_events(http, pair.second.url + path, after="-1"),
        )
    assert one == two
    assert len([frame for frame in one if frame.event == "updates"]) == 5


async def test_stateless_run_answers_through_a_process_that_does_not_execute_it(
    clients: tuple[LangGraphClient, LangGraphClient],
) -> None:
    for client in clients:
        answers = await asyncio.gather(*(client.runs.wait(None, "abc", input={}) for _ in range(10)))
        assert [answer["trace"] for answer in answers if isinstance(answer, dict)] == [["A", "B", "C"]] * 10


async def test_only_one_run_of_a_thread_works_at_a_time_over_all_processes(
    clients: tuple[LangGraphClient, LangGraphClient], pair: Pair
) -> None:
    first, second = clients
    thread = (await first.threads.create())["thread_id"]
    created = [
        await (first if n % 2 else second).runs.create(thread, "slow", input={"steps": 1, "seconds": 0.1})
        for n in range(6)
    ]
    values = await second.runs.join(thread, created[-1]["run_id"])
    assert values["done"] == [1, 2, 3, 4, 5, 6]
    assert steps(pair.first, thread) == [f"step {n}" for n in range(1, 7)]


async def test_lease_of_a_killed_worker_is_taken_over(
    database_url: str, tmp_path: Path, until: Until
) -> None:
    """O42: the process that dies never comes back; another goes on within one lease time."""
    env = {"INTERLOCK_WORKER_LEASE_S": "3"}
    serving = prepare(database_url, tmp_path, command="serve", env=env)
    workers = [prepare(database_url, tmp_path, command="work", env=env) for _ in range(2)]
    with running(serving, *workers):
        async with get_client(url=serving.url, api_key=None) as client:
            thread = (await client.threads.create())["thread_id"]
            run = await client.runs.create(thread, "slow", input={"steps": 6, "seconds": 0.5})
            await until(lambda: len(steps(serving, thread)) >= 2, deadline_s=20)
            owner_of(database_url, run["run_id"], workers).kill()
            values = await asyncio.wait_for(client.runs.join(thread, run["run_id"]), 15)
    assert values["done"] == [1, 2, 3, 4, 5, 6]
    noted = steps(serving, thread)
    assert noted.count("step 1") == 1
    assert len(noted) <= 7, "the step that was cut off ran again, and no other"


def owner_of(database_url: str, run_id: str, workers: list[InterlockServer]) -> InterlockServer:
    """The process that executes a run: its worker id holds the process id."""
    with psycopg.connect(database_url) as connection:
        query = "SELECT worker_id FROM interlock.runs WHERE run_id = %s"
        row = connection.execute(query, (run_id,)).fetchone()
    assert row is not None
    (owner,) = [w for w in workers if w.process is not None and f"/{w.process.pid}/" in row[0]]
    return owner
