"""The pool: connections that died, deadlines, and no state on the server between calls."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from interlock.checkpoints.database import Database
from interlock.checkpoints.errors import Conflict, DatabaseError, DatabaseUnavailable, FenceLost
from interlock.server.embedded import EmbeddedPostgres
from interlock.server.records import queue

from .queue_rows import claim, enqueue, finish, make_thread

Until = Callable[..., Awaitable[Any]]

_TERMINATE = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


async def test_idle_connections_that_the_server_closed_are_replaced_unseen(database_url: str) -> None:
    async with Database(database_url, min_size=4, max_size=4) as database:
        for _ in range(3):
            await asyncio.gather(*(database.fetch_one(b"SELECT pg_sleep(0.01)") for _ in range(8)))
            with psycopg.connect(database_url, autocommit=True) as other:
                other.execute(_TERMINATE)
            rows = await asyncio.gather(*(database.fetch_one(b"SELECT 1 AS one") for _ in range(8)))
            assert [row and row["one"] for row in rows] == [1] * 8


async def test_a_connection_that_dies_in_use_is_reported_as_unavailable(database_url: str) -> None:
    async with Database(database_url, max_size=2) as database:

        async def use_after_death() -> None:
            async with database.connection() as connection:
                with psycopg.connect(database_url, autocommit=True) as other:
                    other.execute(_TERMINATE)
                await connection.execute(b"SELECT 1")

        with pytest.raises(DatabaseUnavailable):
            await use_after_death()
        assert await database.fetch_one(b"SELECT 1 AS one") == {"one": 1}


async def test_a_statement_that_does_not_answer_meets_the_deadline(database_url: str) -> None:
    async with Database(database_url, max_size=1, deadline_s=0.3) as database:
        with pytest.raises(DatabaseUnavailable, match=r"no answer .* in 0\.3 s"):
            await database.fetch_one(b"SELECT pg_sleep(30)")
        assert await database.fetch_one(b"SELECT 1 AS one") == {"one": 1}


async def test_a_timeout_of_the_caller_is_not_taken_for_the_databases(database: Database) -> None:
    with pytest.raises(TimeoutError):
        async with database.connection():
            raise TimeoutError("mine")


async def test_a_full_pool_is_reported_as_unavailable(database_url: str) -> None:
    async with Database(database_url, max_size=1, deadline_s=0.3) as database, database.pool.connection():
        with pytest.raises(DatabaseUnavailable):
            await database.fetch_one(b"SELECT 1")


async def test_a_cancel_that_comes_together_with_a_free_connection_is_not_lost(
    database_url: str, until: Until
) -> None:
    async with Database(database_url, max_size=1) as database:

        async def works_for_ever() -> None:
            async with database.connection():
                pass
            await asyncio.Event().wait()

        for turns in range(12):
            async with database.connection():
                waiting = asyncio.create_task(works_for_ever())
                await until(lambda: database.pool.get_stats().get("requests_waiting"))
            for _ in range(turns):
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait({waiting}, timeout=10)
            assert waiting.cancelled(), turns
            assert await database.fetch_one(b"SELECT 1 AS one") == {"one": 1}


async def test_driver_errors_leave_as_ours(database: Database) -> None:
    async with database.connection() as connection:
        thread_id = await make_thread(connection)
    with pytest.raises(Conflict) as conflict:
        await database.execute(
            b"INSERT INTO interlock.threads (tenant_id, thread_id) VALUES ('acme', %s)", (thread_id,)
        )
    assert conflict.value.constraint == "threads_pkey"
    with pytest.raises(FenceLost):
        await database.execute(b"SELECT interlock.hold_fence('acme', %s, 7)", (thread_id,))
    with pytest.raises(DatabaseError, match="no_such_table"):
        await database.execute(b"SELECT * FROM no_such_table")


async def test_a_row_that_will_never_fit_is_a_refusal_and_not_an_outage(database: Database) -> None:
    with pytest.raises(DatabaseError, match="index row") as refused:
        await database.execute(
            b"INSERT INTO interlock.store_items (tenant_id, namespace, key, value)"
            b" SELECT 'acme', '{a}', string_agg(gen_random_uuid()::text, ''), '{}'"
            b" FROM generate_series(1, 300)"
        )
    assert not isinstance(refused.value, DatabaseUnavailable)


async def test_nothing_relies_on_server_state_that_a_transaction_pooler_would_drop(database_url: str) -> None:
    async with Database(database_url, max_size=1) as database:

        async def swap_server() -> None:
            async with database.connection() as connection:
                await connection.execute(b"DISCARD ALL")
                await connection.execute(b"DEALLOCATE ALL")

        for _ in range(8):
            await enqueue(database)
            await swap_server()
            (run,) = await claim(database)
            await swap_server()
            async with database.connection() as connection:
                (state,) = await queue.renew(connection, [queue.Lease(run, {})], lease_s=5)
            assert state.renewed
            await swap_server()
            assert await finish(database, run) is not None
        prepared = await database.fetch_one(b"SELECT count(*) AS n FROM pg_prepared_statements")
        assert prepared == {"n": 0}


async def test_the_pool_survives_a_restart_of_the_server(tmp_path: Path, until: Until) -> None:
    with EmbeddedPostgres(tmp_path / "pg", settings={"fsync": "off"}) as server:
        async with Database(server.url, deadline_s=10) as database:

            async def started_at() -> Any:
                try:
                    row = await database.fetch_one(b"SELECT pg_postmaster_start_time() AS at")
                except DatabaseUnavailable:
                    return None
                return row and row["at"]

            before = await started_at()
            (postmaster,) = (tmp_path / "pg").rglob("postmaster.pid")
            os.kill(int(postmaster.read_text().splitlines()[0]), signal.SIGINT)

            async def restarted() -> bool:
                return await started_at() not in (None, before)

            # Its supervisor starts it again.
            assert await until(restarted, deadline_s=30)
