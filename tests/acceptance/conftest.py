"""One server for all tests that do not hurt it: they keep apart by using threads of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import psycopg
import pytest

from interlock.server.embedded import EmbeddedPostgres

from ..servers import InterlockServer, fresh_database, prepare, running


@pytest.fixture(scope="session")
def shared_database_url(
    postgres: EmbeddedPostgres, admin: psycopg.Connection[Any], template_database: str
) -> Iterator[str]:
    """The migrated database of the shared server, which takes every run in it."""
    yield from fresh_database(postgres, admin, template=template_database)


@pytest.fixture(scope="module")
def module_database_url(
    postgres: EmbeddedPostgres, admin: psycopg.Connection[Any], template_database: str
) -> Iterator[str]:
    """A migrated database for servers that a module sets up itself."""
    yield from fresh_database(postgres, admin, template=template_database)


@pytest.fixture(scope="session")
def server(shared_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InterlockServer]:
    """One `interlock dev` process with the test graphs."""
    shared = prepare(shared_database_url, tmp_path_factory.mktemp("server"))
    with running(shared):
        yield shared


@pytest.fixture
async def http(server: InterlockServer) -> AsyncIterator[httpx.AsyncClient]:
    """Plain HTTP, for what the SDK hides."""
    async with httpx.AsyncClient(base_url=server.url, timeout=httpx.Timeout(30.0)) as opened:
        yield opened
