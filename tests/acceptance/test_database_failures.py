"""A database that goes away for a moment, cuts connections, or sits behind a pooler."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from interlock.checkpoints.migrate import migrate
from interlock.server.embedded import EmbeddedPostgres

from ..servers import InterlockServer, prepare, running, steps
from .pooler import TransactionPooler
from .wire import broken_off, read_events

Until = Callable[..., Awaitable[Any]]


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A database server that may be ended: nobody else uses it."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("pg"), settings={"fsync": "off"}) as started:
        migrate(started.url)
        yield started


@pytest.fixture(scope="module")
def exposed(
    own_postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[InterlockServer]:
    server = prepare(own_postgres.url, tmp_path_factory.mktemp("exposed"))
    with running(server):
        yield server


async def client_of(stack: AsyncExitStack, server: InterlockServer) -> LangGraphClient:
    return await stack.enter_async_context(get_client(url=server.url, api_key=None))


async def start(client: LangGraphClient, *, count: int = 6) -> tuple[str, str]:
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(
        thread,
        "slow",
        input={"steps": count, "seconds": 0.3},
        stream_mode=["updates", "custom"],
        stream_resumable=True,
    )
    return thread, run["run_id"]


@pytest.fixture
async def client(exposed: InterlockServer) -> AsyncIterator[LangGraphClient]:
    async with AsyncExitStack() as stack:
        yield await client_of(stack, exposed)


async def all_end_well(
    client: LangGraphClient, server: InterlockServer, started: list[tuple[str, str]], *, count: int = 6
) -> None:
    """Every run ends with all its steps, and its event log has no gap and no repeat."""
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        for thread, run in started:
            values = await asyncio.wait_for(client.runs.join(thread, run), 40)
            assert values.get("done") == list(range(1, count + 1)), values
            assert (await client.runs.get(thread, run))["status"] == "success"
            found = await read_events(http, f"/threads/{thread}/runs/{run}/stream", after="-1")
            updates = [frame.data["step"]["done"] for frame in found if frame.event == "updates"]
            assert updates == [[n] for n in range(1, count + 1)]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
async def test_runs_survive_a_restart_of_postgres_under_load(
    client: LangGraphClient,
    exposed: InterlockServer,
    own_postgres: EmbeddedPostgres,
    until: Until,
    how: signal.Signals,
) -> None:
    """O44: fast shutdown and crash; the server stays up and its runs go on from their checkpoints."""
    started = [await start(client) for _ in range(8)]
    await until(lambda: all(len(steps(exposed, thread)) >= 2 for thread, _ in started), deadline_s=20)
    old = own_postgres.postmaster_pid
    assert old is not None
    os.kill(old, how)
    await until(lambda: own_postgres.postmaster_pid not in {None, old}, deadline_s=30)

    await all_end_well(client, exposed, started)
    assert exposed.process is not None
    assert exposed.process.poll() is None
    for thread, _ in started:
        assert len(steps(exposed, thread)) <= 8, "no step ran more than once more"
    assert broken_off(own_postgres.url, (run for _, run in started)) == {}, "an outage is no crash of the run"


async def test_cut_connections_are_replaced(
    client: LangGraphClient, exposed: InterlockServer, own_postgres: EmbeddedPostgres, until: Until
) -> None:
    """O44: every connection of the server is closed by the database, idle ones and busy ones."""
    started = [await start(client) for _ in range(4)]
    await until(lambda: all(steps(exposed, thread) for thread, _ in started))
    for _ in range(3):
        await asyncio.to_thread(cut_connections, own_postgres.url)
    fresh = (await client.threads.create())["thread_id"]
    values = await client.runs.wait(fresh, "abc", input={})
    assert isinstance(values, dict)
    assert values["trace"] == ["A", "B", "C"]
    await all_end_well(client, exposed, started)


def cut_connections(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")


async def test_runs_work_through_a_transaction_pooler(
    database_url: str, tmp_path: Path, until: Until
) -> None:
    """O44: any server connection may serve the next transaction; only LISTEN goes straight."""
    async with TransactionPooler(database_url, servers=4) as pooler:
        env = {"DATABASE_DIRECT_URL": database_url}
        server = prepare(pooler.url, tmp_path, env=env)
        await asyncio.to_thread(server.start)
        try:
            async with AsyncExitStack() as stack:
                client = await client_of(stack, server)
                await all_end_well(client, server, [await start(client, count=3) for _ in range(8)], count=3)
                assert pooler.transactions > 50
        finally:
            server.kill()


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"])
def test_every_sslmode_of_libpq_is_understood(
    database_url: str, own_postgres: EmbeddedPostgres, tmp_path: Path, mode: str
) -> None:
    """O43: modes that a server without TLS can serve work, the others say why they cannot."""
    server = prepare(f"{database_url}&sslmode={mode}", tmp_path, command="migrate")
    server.command = ["migrate"]
    server.start(wait=False)
    assert server.process is not None
    code = server.process.wait(60)
    # Over a Unix socket libpq ignores the mode, except that `verify-*` wants a root certificate first.
    if code != 0:
        assert mode.startswith("verify")
        assert "certificate" in server.log
    assert "Traceback" not in server.log
