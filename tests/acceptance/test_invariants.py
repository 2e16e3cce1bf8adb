"""The four promises that everything else is built on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any
from uuid import UUID

import httpx
import ormsgpack
import psycopg
import pytest
import zstandard
from langgraph_sdk.client import LangGraphClient
from psycopg import sql

from .wire import is_running, is_settled, read_events

Until = Callable[..., Awaitable[Any]]


def log_of(database_url: str, thread: str) -> list[tuple[int, str, UUID | None]]:
    """Every event of the thread, straight from the table: number, kind, run."""
    query = """
        SELECT first_seq, last_seq, run_id, codec, body FROM interlock.event_segments
        WHERE thread_id = %s ORDER BY first_seq
    """
    found: list[tuple[int, str, UUID | None]] = []
    with psycopg.connect(database_url) as connection:
        for first, last, run, codec, body in connection.execute(query, (thread,)):
            entries = ormsgpack.unpackb(zstandard.decompress(body) if codec else body)
            assert len(entries) == last - first + 1, "a segment holds what its numbers say"
            found += [(first + n, entry[0], run) for n, entry in enumerate(entries)]
    return found


def last_seq(database_url: str, thread: str) -> int:
    with psycopg.connect(database_url) as connection:
        query = "SELECT last_seq FROM interlock.threads WHERE thread_id = %s"
        row = connection.execute(query, (thread,)).fetchone()
        assert row is not None
        return row[0]


async def mixed_load(client: LangGraphClient, until: Until) -> list[str]:
    """Threads with every kind of end: good, failed, cancelled, rolled back, replaced, edited, interrupted."""
    threads = [(await client.threads.create(graph_id="slow"))["thread_id"] for _ in range(6)]

    async def one(thread: str, number: int) -> None:
        busy = {"steps": 30, "seconds": 0.1, "events": 20}
        await client.runs.wait(thread, "slow", input={"steps": 2, "seconds": 0.05, "events": 30})
        run = await client.runs.create(thread, "slow", input=busy, stream_mode=["custom", "updates"])
        await until(lambda: is_running(client, thread, run["run_id"]))
        match number % 3:
            case 0:
                await client.runs.cancel(thread, run["run_id"], wait=True)
            case 1:
                await client.runs.create(thread, "err", input={}, multitask_strategy="interrupt")
            case _:
                await client.runs.create(thread, "hitl", input={}, multitask_strategy="rollback")
        await until(lambda: is_settled(client, thread))
        await client.threads.update_state(thread, None, as_node="__copy__")
        await client.runs.wait(thread, "slow", input={"steps": 1, "seconds": 0.01}, raise_error=False)

    await asyncio.gather(*(one(thread, number) for number, thread in enumerate(threads)))
    return threads


async def test_log_has_no_gap_no_repeat_and_one_end_for_each_finished_run(
    client: LangGraphClient, shared_database_url: str, until: Until
) -> None:
    """Over every way in which a run can end, on the same thread."""
    for thread in await mixed_load(client, until):
        events = log_of(shared_database_url, thread)
        runs = {UUID(run["run_id"]) for run in await client.runs.list(thread, limit=50)}
        numbers = [number for number, _, run in events if run in runs]
        assert numbers == sorted(set(numbers))
        for run in runs:
            kinds = [kind for _, kind, owner in events if owner == run]
            assert kinds[0] == "run.created"
            assert kinds.count("run.ended") == 1
            assert kinds[-1] == "run.ended"
        # A rolled-back run takes its events with it: only its numbers are missing.
        gaps = [
            b - a - 1
            for a, b in pairwise([0, *[n for n, _, _ in events], last_seq(shared_database_url, thread) + 1])
        ]
        assert len([gap for gap in gaps if gap]) <= 1
        assert {run for _, _, run in events} - {None} <= runs


async def test_run_and_its_first_event_are_committed_together(
    client: LangGraphClient, http: httpx.AsyncClient, shared_database_url: str
) -> None:
    """The log refuses one event: then there is no run either, and nothing of it anywhere."""
    thread = (await client.threads.create())["thread_id"]
    with psycopg.connect(shared_database_url, autocommit=True) as admin:
        forbid = (
            "ALTER TABLE interlock.event_segments ADD CONSTRAINT refuse CHECK (thread_id <> {}) NOT VALID"
        )
        admin.execute(sql.SQL(forbid).format(sql.Literal(UUID(thread))))
        try:
            refused = await http.post(f"/threads/{thread}/runs", json={"assistant_id": "abc", "input": {}})
            assert refused.status_code == 500
        finally:
            admin.execute("ALTER TABLE interlock.event_segments DROP CONSTRAINT refuse")
    assert await client.runs.list(thread) == []
    assert log_of(shared_database_url, thread) == []
    assert last_seq(shared_database_url, thread) == 0
    assert (await client.threads.get(thread))["status"] == "idle"

    run = await client.runs.create(thread, "abc", input={}, after_seconds=60)
    assert log_of(shared_database_url, thread) == [(1, "run.created", UUID(run["run_id"]))]


@pytest.mark.parametrize("events", [4, 0], ids=["events-first", "checkpoint-first"])
async def test_worker_whose_lease_was_taken_writes_nothing_more(
    client: LangGraphClient, shared_database_url: str, until: Until, events: int
) -> None:
    """The row is given to somebody else behind the worker's back, in the middle of a step.

    What it would write next is an event of the step, or else the checkpoint at the end of the step.
    """
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(
        thread,
        "slow",
        input={"steps": 50, "seconds": 0.5, "events": events},
        stream_mode=["custom", "updates"],
    )
    await until(lambda: len(log_of(shared_database_url, thread)) > 4)
    with psycopg.connect(shared_database_url, autocommit=True) as admin:
        admin.execute(
            """
            WITH taken AS (
                UPDATE interlock.threads SET fence = fence + 1 WHERE thread_id = %s RETURNING fence
            )
            UPDATE interlock.runs SET worker_id = 'another', lease_until = now() + interval '1 hour',
                fence = (SELECT fence FROM taken)
            WHERE run_id = %s
            """,
            (thread, run["run_id"]),
        )
    logged, checkpoints = log_of(shared_database_url, thread), count_checkpoints(shared_database_url, thread)
    other = (await client.threads.create())["thread_id"]
    await client.runs.wait(other, "slow", input={"steps": 5, "seconds": 0.3})

    assert log_of(shared_database_url, thread) == logged
    assert count_checkpoints(shared_database_url, thread) == checkpoints
    assert (await client.runs.get(thread, run["run_id"]))["status"] == "running"


def count_checkpoints(database_url: str, thread: str) -> tuple[Any, ...] | None:
    query = """
        SELECT (SELECT count(*) FROM checkpoints WHERE thread_id LIKE %(thread)s),
               (SELECT count(*) FROM checkpoint_writes WHERE thread_id LIKE %(thread)s)
    """
    with psycopg.connect(database_url) as connection:
        return connection.execute(query, {"thread": f"%{thread}%"}).fetchone()


@pytest.mark.parametrize("graph", ["abc", "err", "hitl", "chat"])
async def test_row_is_terminal_before_the_stream_closes(
    client: LangGraphClient, http: httpx.AsyncClient, graph: str
) -> None:
    """Clients look the run up when its stream ends, and come back when it still runs."""

    async def once() -> None:
        thread = (await client.threads.create())["thread_id"]
        given = {"messages": []} if graph == "chat" else {}
        run = await client.runs.create(thread, graph, input=given, stream_resumable=True)
        await read_events(http, f"/threads/{thread}/runs/{run['run_id']}/stream", after="-1")
        record = await client.runs.get(thread, run["run_id"])
        assert record["status"] in {"success", "error"}
        assert (await client.threads.get(thread))["status"] != "busy"

    await asyncio.gather(*(once() for _ in range(10)))
