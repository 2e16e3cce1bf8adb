"""The event log against a real Postgres: fenced, gapless, complete for every reader."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from interlock.checkpoints.database import Database
from interlock.checkpoints.errors import DatabaseError, FenceLost
from interlock.checkpoints.notify import Wakeups
from interlock.server.domain import Event
from interlock.server.protocol.run_events import created_data
from interlock.server.records.event_log import (
    EventLog,
    Hub,
    NewEvent,
    append_in,
    delete_runs_in,
    delete_thread_in,
    last_seq,
    sweep,
)
from interlock.server.settings import EventSettings
from interlock.server.wire.thread_events import ThreadEvents

TENANT = "acme"
FENCE = 7


@asynccontextmanager
async def event_log(url: str, *, hub: Hub | None = None) -> AsyncIterator[EventLog]:
    """An event log with a pool and a listener of its own, as each process has one."""
    wakeups = Wakeups(url)
    async with Database(url, max_size=4) as database, asyncio.TaskGroup() as owned:
        opened = EventLog(database, wakeups=wakeups, hub=hub or Hub(), settings=EventSettings())
        tasks = [owned.create_task(wakeups.run()), owned.create_task(opened.run())]
        try:
            yield opened
        finally:
            for task in tasks:
                task.cancel()


@pytest.fixture
async def one_log(database_url: str) -> AsyncIterator[EventLog]:
    async with event_log(database_url) as opened:
        yield opened


async def make_thread(database: Database, *, fence: int = FENCE) -> UUID:
    thread_id = uuid4()
    await database.execute(
        b"INSERT INTO interlock.threads (tenant_id, thread_id, fence) VALUES (%s, %s, %s)",
        (TENANT, thread_id, fence),
    )
    return thread_id


async def make_run(database: Database, thread_id: UUID, *, status: str = "running") -> UUID:
    run_id = uuid4()
    await database.execute(
        b"""INSERT INTO interlock.runs (tenant_id, thread_id, run_id, assistant_id, graph_id, status,
            multitask_strategy, kwargs, principal, first_seq, fence, lease_until)
            VALUES (%s, %s, %s, %s, 'g', %s, 'enqueue', '{}', '{}', 1, %s,
                CASE WHEN %s = 'running' THEN now() + interval '1 hour' END)""",
        (TENANT, thread_id, run_id, uuid4(), status, FENCE, status),
    )
    return run_id


def texts(*numbers: int) -> list[NewEvent]:
    return [NewEvent("custom", b'{"n":%d}' % n, at_ms=1_000 + n) for n in numbers]


ENDED = NewEvent("run.ended", b"{}")


async def append(log: EventLog, thread_id: UUID, run_id: UUID, *events: NewEvent, fence: int = FENCE) -> int:
    return await log.append(tenant_id=TENANT, thread_id=thread_id, run_id=run_id, fence=fence, events=events)


async def read(
    log: EventLog, thread_id: UUID, run_id: UUID | None, *, after: int = 0, most: int | None = None
) -> list[Event]:
    found: list[Event] = []
    following = log.follow(tenant_id=TENANT, thread_id=thread_id, run_id=run_id, after=after)
    try:
        async with asyncio.timeout(120):
            async for events in following:
                found.extend(events)
                if most is not None and len(found) >= most:
                    break
    finally:
        await following.aclose()
    return found


async def test_a_run_is_read_to_its_end_in_order(one_log: EventLog, database: Database) -> None:
    thread_id = await make_thread(database)
    run_id = await make_run(database, thread_id)
    assert await append(one_log, thread_id, run_id, *texts(1, 2, 3)) == 3
    assert await append(one_log, thread_id, run_id, *texts(4), ENDED) == 5

    found = await read(one_log, thread_id, run_id)

    assert [event.seq for event in found] == [1, 2, 3, 4, 5]
    assert found[3] == Event(4, run_id, "custom", (), b'{"n":4}', 1_004)
    assert [e.seq for e in await read(one_log, thread_id, run_id, after=3)] == [4, 5]


async def test_namespace_and_every_byte_survive_compression(one_log: EventLog, database: Database) -> None:
    thread_id = await make_thread(database)
    run_id = await make_run(database, thread_id)
    large = b'{"text":"' + b"\xe2\x80\xa8 \\u0000 abc" * 50_000 + b'"}'
    await append(one_log, thread_id, run_id, NewEvent("updates", large, ("child:1", "grand:2")), ENDED)

    [first, _] = await read(one_log, thread_id, run_id)

    assert first.data == large
    assert first.namespace == ("child:1", "grand:2")


async def test_a_writer_whose_fence_is_old_writes_nothing(one_log: EventLog, database: Database) -> None:
    thread_id = await make_thread(database)
    run_id = await make_run(database, thread_id)
    with pytest.raises(FenceLost):
        await append(one_log, thread_id, run_id, *texts(1), fence=FENCE - 1)
    rows = await database.fetch_all(b"SELECT FROM interlock.event_segments")
    assert rows == []
    assert await append(one_log, thread_id, run_id, *texts(1)) == 1


async def test_one_lost_fence_in_a_flush_costs_the_others_nothing(
    one_log: EventLog, database: Database
) -> None:
    threads = [await make_thread(database) for _ in range(6)]
    lost = threads[2]
    await database.execute(b"UPDATE interlock.threads SET fence = 99 WHERE thread_id = %s", (lost,))

    results = await asyncio.gather(
        *(append(one_log, thread, uuid4(), *texts(1, 2)) for thread in threads), return_exceptions=True
    )

    assert [r for r, thread in zip(results, threads, strict=True) if thread != lost] == [2] * 5
    assert isinstance(results[2], FenceLost)


async def test_a_locked_thread_does_not_hold_up_the_events_of_others(
    one_log: EventLog, database: Database
) -> None:
    locked, free = await make_thread(database), await make_thread(database)
    async with database.transaction() as connection:
        await connection.execute(b"SELECT FROM interlock.threads WHERE thread_id = %s FOR UPDATE", (locked,))
        waiting = asyncio.ensure_future(append(one_log, locked, uuid4(), *texts(1)))
        assert await append(one_log, free, uuid4(), *texts(1)) == 1
        assert not waiting.done()
    assert await waiting == 1


async def test_a_takeover_while_an_append_waits_refuses_it(one_log: EventLog, database: Database) -> None:
    thread_id = await make_thread(database)
    async with database.transaction() as connection:
        await connection.execute(
            b"UPDATE interlock.threads SET fence = fence + 1 WHERE thread_id = %s", (thread_id,)
        )
        waiting = asyncio.ensure_future(append(one_log, thread_id, uuid4(), *texts(1)))
        assert await append(one_log, await make_thread(database), uuid4(), *texts(1)) == 1
    with pytest.raises(FenceLost):
        await waiting


async def test_events_of_a_transaction_take_the_next_numbers(one_log: EventLog, database: Database) -> None:
    thread_id = await make_thread(database)
    run_id = await make_run(database, thread_id)
    identity: dict[str, Any] = {"tenant_id": TENANT, "thread_id": thread_id, "run_id": run_id}
    async with database.transaction() as connection:
        assert await append_in(connection, **identity, events=texts(1, 2)) == (1, 2)
    assert await append(one_log, thread_id, run_id, *texts(3)) == 3
    async with database.transaction() as connection:
        assert await append_in(connection, **identity, events=[ENDED]) == (4, 4)
        assert await last_seq(connection, tenant_id=TENANT, thread_id=thread_id) == 4
    assert [event.seq for event in await read(one_log, thread_id, run_id)] == [1, 2, 3, 4]


async def test_a_thread_that_does_not_exist_takes_no_events(database: Database) -> None:
    with pytest.raises(DatabaseError):
        async with database.transaction() as connection:
            await append_in(connection, tenant_id=TENANT, thread_id=uuid4(), run_id=None, events=texts(1))


async def test_a_reader_waits_for_a_run_that_has_not_begun(one_log: EventLog, database: Database) -> None:
    thread_id = await make_thread(database)
    run_id = await make_run(database, thread_id)
    reading = asyncio.ensure_future(read(one_log, thread_id, run_id))
    await append(one_log, thread_id, run_id, *texts(1))
    await append(one_log, thread_id, run_id, ENDED)
    assert [event.seq for event in await reading] == [1, 2]


async def test_a_reader_that_has_everything_ends_at_once(one_log: EventLog, database: Database) -> None:
    thread_id = await make_thread(database)
    run_id = await make_run(database, thread_id)
    await append(one_log, thread_id, run_id, ENDED)
    await database.execute(
        b"UPDATE interlock.runs SET status = 'success', lease_until = NULL WHERE run_id = %s", (run_id,)
    )
    assert await read(one_log, thread_id, run_id, after=1) == []
    assert await read(one_log, thread_id, uuid4()) == []


async def test_the_reader_of_a_run_that_is_rolled_back_sees_its_end(
    one_log: EventLog, database: Database
) -> None:
    thread_id = await make_thread(database)
    run_id, other = await make_run(database, thread_id), uuid4()
    await append(one_log, thread_id, run_id, *texts(1))
    reading = asyncio.ensure_future(read(one_log, thread_id, run_id, after=1))
    async with database.transaction() as connection:
        await connection.execute(b"DELETE FROM interlock.runs WHERE run_id = %s", (run_id,))
        await delete_runs_in(connection, tenant_id=TENANT, thread_id=thread_id, run_ids=[run_id])
        for ended in (other, run_id):
            event = NewEvent("run.ended", b'{"run_id":"%s"}' % str(ended).encode())
            await append_in(connection, tenant_id=TENANT, thread_id=thread_id, run_id=None, events=[event])
    one_log.woken(TENANT, thread_id)
    assert [event.seq for event in await reading] == [3]


async def test_a_thread_is_read_over_all_its_runs(one_log: EventLog, database: Database) -> None:
    thread_id = await make_thread(database)
    first, second = await make_run(database, thread_id), uuid4()
    reading = asyncio.ensure_future(read(one_log, thread_id, None, most=4))
    await append(one_log, thread_id, first, *texts(1), ENDED)
    await append(one_log, thread_id, second, *texts(2), ENDED)
    found = await reading
    assert [event.seq for event in found] == [1, 2, 3, 4]
    assert [event.run_id for event in found] == [first, first, second, second]


async def test_two_processes_see_each_others_events(database_url: str, database: Database) -> None:
    thread_id = await make_thread(database)
    run_id = await make_run(database, thread_id)
    async with event_log(database_url) as writer, event_log(database_url) as reader:
        reading = asyncio.ensure_future(read(reader, thread_id, run_id))
        for number in range(1, 51):
            await append(writer, thread_id, run_id, *texts(number))
        await append(writer, thread_id, run_id, ENDED)
        assert [event.seq for event in await reading] == list(range(1, 52))


async def test_readers_that_reconnect_anywhere_miss_nothing_and_see_nothing_twice(
    database_url: str, database: Database
) -> None:
    """Two processes append to three threads while a hundred readers come back at random places."""
    dice = random.Random(1)
    hub = Hub()
    threads = [await make_thread(database) for _ in range(3)]
    runs = {thread: await make_run(database, thread) for thread in threads}
    rounds = 60

    async def write(log: EventLog, thread_id: UUID) -> None:
        for number in range(rounds):
            await append(log, thread_id, runs[thread_id], *texts(*range(dice.randint(1, 9))), *texts(number))
            if dice.random() < 0.2:
                # Another writer of the same thread, as an admission is one.
                async with database.transaction() as connection:
                    await append_in(
                        connection, tenant_id=TENANT, thread_id=thread_id, run_id=None, events=texts(0)
                    )
                log.woken(TENANT, thread_id)
        await append(log, thread_id, runs[thread_id], ENDED)

    async def come_back(log: EventLog, thread_id: UUID, run_id: UUID | None, times: int) -> list[Event]:
        found: list[Event] = []
        for _ in range(times):
            if found and found[-1].kind == "run.ended":
                break
            after = found[-1].seq if found else 0
            found += await read(log, thread_id, run_id, after=after, most=dice.randint(1, 30))
        if not found or found[-1].kind != "run.ended":
            after = found[-1].seq if found else 0
            found += await read(log, thread_id, runs[thread_id], after=after)
        return found

    async with AsyncExitStack() as opened:
        here = await opened.enter_async_context(event_log(database_url, hub=hub))
        there = await opened.enter_async_context(event_log(database_url))
        async with asyncio.TaskGroup() as group:
            readers = [
                (thread, group.create_task(come_back(log, thread, runs[thread], 10)))
                for thread in threads
                for log in (here, there)
                for _ in range(17)
            ]
            for thread in threads:
                group.create_task(write(here if thread != threads[-1] else there, thread))
        for thread, reader in readers:
            kept = await database.fetch_all(
                b"SELECT first_seq, last_seq, run_id FROM interlock.event_segments WHERE thread_id = %s"
                b" ORDER BY first_seq",
                (thread,),
            )
            every = [n for row in kept for n in range(row["first_seq"], row["last_seq"] + 1)]
            assert every == list(range(1, len(every) + 1))
            mine = [
                n
                for row in kept
                if row["run_id"] == runs[thread]
                for n in range(row["first_seq"], row["last_seq"] + 1)
            ]
            assert [event.seq for event in reader.result()] == mine


async def test_a_reader_slower_than_the_writer_gets_everything_from_the_table(
    one_log: EventLog, database: Database
) -> None:
    thread_id = await make_thread(database)
    run_id = await make_run(database, thread_id)
    heavy = b'"' + bytes(random.Random(2).choices(range(97, 123), k=1_500_000)) + b'"'
    following = one_log.follow(tenant_id=TENANT, thread_id=thread_id, run_id=run_id, after=0)
    await append(one_log, thread_id, run_id, *texts(1))
    found = list(await anext(following))
    for _ in range(8):
        await append(one_log, thread_id, run_id, NewEvent("custom", heavy))
    await append(one_log, thread_id, run_id, ENDED)
    async for events in following:
        found.extend(events)
    assert [event.seq for event in found] == list(range(1, 11))
    assert all(event.data == heavy for event in found[1:9])


async def test_a_reader_never_holds_much_more_than_a_page_however_well_it_was_compressed(
    one_log: EventLog, database: Database
) -> None:
    """In the table these twenty megabytes are a few kilobytes."""
    thread_id = await make_thread(database)
    run_id = await make_run(database, thread_id)
    event = NewEvent("custom", b'"' + b"a" * 500_000 + b'"')
    for _ in range(10):
        await append(one_log, thread_id, run_id, *[event] * 4)
    await append(one_log, thread_id, run_id, ENDED)
    found: list[int] = []
    async for events in one_log.follow(tenant_id=TENANT, thread_id=thread_id, run_id=run_id, after=2):
        assert sum(len(event.data) for event in events) < 5_000_000
        found += [event.seq for event in events]
    assert found == list(range(3, 42))


async def test_an_append_survives_a_database_that_drops_every_connection(
    one_log: EventLog, database: Database, admin: psycopg.Connection[Any]
) -> None:
    thread_id = await make_thread(database)
    run_id = await make_run(database, thread_id)
    name = (await database.fetch_one(b"SELECT current_database() AS name"))["name"]
    for number in range(1, 30):
        if number % 5 == 0:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
            )
        assert await append(one_log, thread_id, run_id, *texts(number)) == number
    await append(one_log, thread_id, run_id, ENDED)
    assert [event.seq for event in await read(one_log, thread_id, run_id)] == list(range(1, 31))


async def test_closing_the_log_ends_those_who_wait_for_it(
    database_url: str, database: Database, until: Callable[..., Awaitable[Any]]
) -> None:
    thread_id = await make_thread(database)
    waits = b"SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with database.transaction() as connection:
        await connection.execute(b"SELECT FROM interlock.threads FOR UPDATE")
        async with event_log(database_url) as log:
            waiting = asyncio.ensure_future(append(log, thread_id, uuid4(), *texts(1)))
            await until(lambda: database.fetch_one(waits))
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_the_sweep_removes_old_events_but_not_those_of_a_run_in_flight(
    one_log: EventLog, database: Database
) -> None:
    thread_id = await make_thread(database)
    running = await make_run(database, thread_id)
    await append(one_log, thread_id, running, *texts(1))
    await append(one_log, thread_id, uuid4(), *texts(2))
    async with database.transaction() as connection:
        assert await sweep(connection, retention_s=3600) == 0
        await connection.execute(b"UPDATE interlock.event_segments SET created_at = now() - interval '2 h'")
        assert await sweep(connection, retention_s=3600) == 1
    left = await database.fetch_all(b"SELECT run_id FROM interlock.event_segments")
    assert [row["run_id"] for row in left] == [running]
    async with database.transaction() as connection:
        await delete_thread_in(connection, tenant_id=TENANT, thread_id=thread_id)
    assert await database.fetch_all(b"SELECT FROM interlock.event_segments") == []


async def test_who_follows_a_thread_forgets_a_run_that_was_rolled_back(
    one_log: EventLog, database: Database
) -> None:
    """A thread is followed for days, and what is held of a run can be large."""
    thread_id = await make_thread(database)
    run_id = await make_run(database, thread_id)
    follower = ThreadEvents(one_log, tenant_id=TENANT, thread_id=thread_id)
    created = NewEvent("run.created", created_data(run_id=run_id, graph_id="g", modes=["values"]))
    await append(one_log, thread_id, run_id, created, NewEvent("run.started", b"{}", shows=1))
    following = follower.after(0)
    async with asyncio.timeout(60), contextlib.aclosing(following):
        assert [event.seq for event in await anext(following)] == [1]
        assert list(follower._runs) == [run_id]
        async with database.transaction() as connection:
            gone = NewEvent("run.ended", b'{"run_id":"%b"}' % str(run_id).encode(), shows=1)
            await append_in(connection, tenant_id=TENANT, thread_id=thread_id, run_id=None, events=[gone])
        one_log.woken(TENANT, thread_id)
        assert [event.seq for event in await anext(following)] == [2]
        assert follower._runs == {}
