"""Fixtures that every tier shares: Postgres, a fresh database, real server processes, the official client."""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from psycopg import sql

from interlock.checkpoints.database import Database
from interlock.checkpoints.migrate import migrate
from interlock.server.embedded import EmbeddedPostgres

from .servers import InterlockServer, fresh_database, prepare

# Dozens of servers start here; each would compile all it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """One throw-away server for the session. Its own short path, since a socket's is limited."""
    directory = tempfile.mkdtemp(prefix="interlock-test-")
    settings = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    with EmbeddedPostgres(directory, max_connections=600, settings=settings) as server:
        yield server
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def admin(postgres: EmbeddedPostgres) -> Iterator[psycopg.Connection[Any]]:
    """A connection that creates and drops databases."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def template_database(postgres: EmbeddedPostgres, admin: psycopg.Connection[Any]) -> str:
    """Name of a migrated database to copy from."""
    name = "interlock_template"
    admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    migrate(postgres.url_of(name))
    return name


@pytest.fixture
def empty_database_url(postgres: EmbeddedPostgres, admin: psycopg.Connection[Any]) -> Iterator[str]:
    """A database of this test without any schema."""
    yield from fresh_database(postgres, admin, template="template0")


@pytest.fixture
def database_url(
    postgres: EmbeddedPostgres, admin: psycopg.Connection[Any], template_database: str
) -> Iterator[str]:
    """A migrated database of this test alone."""
    yield from fresh_database(postgres, admin, template=template_database)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open pool on the database of this test."""
    async with Database(database_url, application_name="interlock-test") as opened:
        yield opened


Condition = Callable[[], Any]


@pytest.fixture
def until() -> Callable[..., Awaitable[Any]]:
    """Wait for a condition: `row = await until(lambda: find_row(), deadline_s=5)`.

    The condition is called until what it returns, awaited if need be, is true; that is the result.
    """

    async def wait(condition: Condition, *, deadline_s: float = 10.0, every_s: float = 0.02) -> Any:
        end = time.monotonic() + deadline_s
        while True:
            result = condition()
            if inspect.isawaitable(result):
                result = await result
            if result:
                return result
            if time.monotonic() > end:
                pytest.fail(f"not within {deadline_s:g} s: {inspect.getsource(condition).strip()}")
            await asyncio.sleep(every_s)

    return wait


@pytest.fixture
def interlock_server(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[..., InterlockServer]]:
    """Start a server: `server = interlock_server("dev", project=folder, env={…}, args=[…])`.

    Without `database_url` it uses the database of the test. Every server is ended with the test.
    """
    started: list[InterlockServer] = []

    def start(
        command: str = "dev", *, database_url: str | None = None, wait: bool = True, **options: Any
    ) -> InterlockServer:
        url = database_url or request.getfixturevalue("database_url")
        server = prepare(url, tmp_path, command=command, **options)
        started.append(server)
        server.start(wait=wait)
        return server

    # Set up first, so that the database outlives the servers that use it.
    if "database_url" in request.fixturenames or "empty_database_url" not in request.fixturenames:
        request.getfixturevalue("database_url")
    yield start
    for server in reversed(started):
        if server.runs:
            server.kill()


@pytest.fixture
def server(interlock_server: Callable[..., InterlockServer]) -> InterlockServer:
    """One `interlock dev` process with the test graphs."""
    return interlock_server()


@pytest.fixture
async def client(server: InterlockServer) -> AsyncIterator[LangGraphClient]:
    """The official async client of `server`."""
    opened = get_client(url=server.url, api_key=None)
    yield opened
    await opened.aclose()
