"""Wake-ups: delivered, and found again after the connection was lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from interlock.checkpoints.database import Database
from interlock.checkpoints.notify import PRESENCE, Wakeups

Until = Callable[..., Awaitable[Any]]

# The view shows the whole server, where other databases have servers of their own.
_LISTENERS = b"""
SELECT pid FROM pg_stat_activity WHERE application_name = 'interlock-listen' AND datname = current_database()
"""
_PRESENCES = b"""
SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted
    AND application_name = 'interlock-listen' AND datname = current_database()
"""


@asynccontextmanager
async def running(wakeups: Wakeups) -> AsyncIterator[None]:
    task = asyncio.create_task(wakeups.run())
    try:
        yield
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_listener_hears_its_channel_and_no_other(
    database: Database, database_url: str, until: Until
) -> None:
    heard: list[str] = []
    wakeups = Wakeups(database_url)
    wakeups.listen("interlock_runs", heard.append)
    async with running(wakeups):
        await until(lambda: heard == [""])
        await database.execute(b"NOTIFY interlock_cancel, 'other'")
        await database.execute(b"NOTIFY interlock_runs, 'mine'")
        await until(lambda: heard == ["", "mine"])


async def test_a_channel_can_be_added_while_connected_without_waking_the_others(
    database: Database, database_url: str, until: Until
) -> None:
    runs: list[str] = []
    cancels: list[str] = []
    wakeups = Wakeups(database_url)
    wakeups.listen("interlock_runs", runs.append)
    async with running(wakeups):
        await until(lambda: runs == [""])
        stop = wakeups.listen("interlock_cancel", cancels.append)
        await until(lambda: cancels == [""])
        await database.execute(b"NOTIFY interlock_cancel, 'a'")
        await database.execute(b"NOTIFY interlock_runs, 'b'")
        await until(lambda: cancels == ["", "a"] and runs == ["", "b"])
        stop()
        await database.execute(b"NOTIFY interlock_cancel, 'c'")
        await database.execute(b"NOTIFY interlock_runs, 'd'")
        await until(lambda: runs == ["", "b", "d"])
        assert cancels == ["", "a"]


async def test_nothing_is_connected_before_somebody_listens(
    database: Database, database_url: str, until: Until
) -> None:
    wakeups = Wakeups(database_url)
    async with running(wakeups):
        await asyncio.sleep(0)
        assert await database.fetch_all(_LISTENERS) == []
        wakeups.listen("interlock_runs", lambda _: None)
        await until(lambda: database.fetch_all(_LISTENERS))


async def test_after_a_lost_connection_every_listener_is_woken_and_hears_again(
    database: Database, database_url: str, until: Until
) -> None:
    heard: list[str] = []
    wakeups = Wakeups(database_url)
    wakeups.listen("interlock_runs", heard.append)
    async with running(wakeups):
        await until(lambda: heard == [""])
        for _ in range(3):
            known = len(heard)
            await database.execute(
                b"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                b" WHERE application_name = 'interlock-listen' AND datname = current_database()"
            )
            await until(lambda known=known: len(heard) > known)
        assert set(heard) == {""}
        await database.execute(b"NOTIFY interlock_runs, 'again'")
        await until(lambda: heard[-1] == "again")


async def test_presence_lasts_as_long_as_the_connection(
    database: Database, database_url: str, until: Until
) -> None:
    held = (
        b"SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid::bigint = %s AND granted"
        b" AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    wakeups = Wakeups(database_url)
    wakeups.be_present("host/1/abc")
    async with running(wakeups):
        await wakeups.connected.wait()
        assert len(await database.fetch_all(held, (PRESENCE,))) == 1
    with psycopg.connect(database_url, autocommit=True) as connection:

        def gone() -> bool:
            return connection.execute(held, (PRESENCE,)).fetchall() == []

        await until(gone)


async def test_a_dead_session_that_still_holds_our_presence_delays_no_notification(
    database: Database, database_url: str, until: Until
) -> None:
    heard: list[str] = []
    wakeups = Wakeups(database_url)
    wakeups.listen("interlock_runs", heard.append)
    wakeups.be_present("host/1/abc")
    with psycopg.connect(database_url, autocommit=True) as half_open, capture_logs() as logs:
        half_open.execute("SELECT pg_advisory_lock(%s, hashtext('host/1/abc'))", (PRESENCE,))
        async with running(wakeups):
            await asyncio.wait_for(wakeups.connected.wait(), 5)
            await database.execute(b"NOTIFY interlock_runs, 'heard'")
            await until(lambda: heard == ["", "heard"])
            assert await database.fetch_all(_PRESENCES) == []
            half_open.close()
            await until(lambda: database.fetch_all(_PRESENCES))
            await database.execute(b"NOTIFY interlock_runs, 'still'")
            await until(lambda: heard == ["", "heard", "still"])
    assert [entry["event"] for entry in logs] == ["presence_held_by_a_former_connection"]


async def test_whoever_becomes_present_while_connected_can_wait_until_others_see_it(
    database: Database, database_url: str, until: Until
) -> None:
    wakeups = Wakeups(database_url)
    wakeups.listen("interlock_runs", lambda _: None)
    async with running(wakeups):
        await asyncio.wait_for(wakeups.connected.wait(), 5)
        wakeups.be_present("host/1/abc")
        assert not wakeups.connected.is_set()
        await asyncio.wait_for(wakeups.connected.wait(), 5)
        assert await database.fetch_all(_PRESENCES)


async def test_a_cancel_that_comes_while_a_channel_is_added_is_not_lost(database_url: str) -> None:
    for turns in range(16):
        wakeups = Wakeups(database_url)
        wakeups.listen("interlock_runs", lambda _: None)
        task = asyncio.create_task(wakeups.run())
        await asyncio.wait_for(wakeups.connected.wait(), 10)
        wakeups.listen("interlock_cancel", lambda _: None)
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=10)
        assert task.cancelled(), turns


async def test_a_listener_that_raises_is_reported_and_the_others_go_on_hearing(
    database: Database, database_url: str, until: Until
) -> None:
    heard: list[str] = []

    def fails(payload: str) -> None:
        raise ValueError(f"cannot read {payload!r}")

    wakeups = Wakeups(database_url)
    wakeups.listen("interlock_runs", fails)
    wakeups.listen("interlock_runs", heard.append)
    with capture_logs() as logs:
        async with running(wakeups):
            await until(lambda: heard == [""])
            for payload in ("one", "two"):
                await database.execute(b"SELECT pg_notify('interlock_runs', %s)", (payload,))
            await until(lambda: heard == ["", "one", "two"])
    reports = [entry for entry in logs if entry["event"] == "listener_failed"]
    assert [entry["channel"] for entry in reports] == ["interlock_runs"] * 3
