"""The API inside the test's own loop, on the test's own database."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from interlock.checkpoints.embedding import StoreIndex
from interlock.server.app import create_app
from interlock.server.records.event_log import Hub
from interlock.server.resources import Resources
from interlock.server.runs.catalog import Catalog, load_catalog
from interlock.server.runs.project import load_project
from interlock.server.settings import Settings

from ..servers import GRAPHS, GUARDED
from .engine import opened

ServeApi = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    """The graphs of the tests."""
    return load_catalog(load_project(GRAPHS / "langgraph.json", os.environ))


@pytest.fixture(scope="session")
def guarded_catalog() -> Catalog:
    """Graphs of a project with an `Auth` object, which keeps everybody to what is theirs."""
    return load_catalog(load_project(GUARDED / "langgraph.json", os.environ))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Start and stop an app in one task, as a server does: a fixture's two halves are not one."""
    started, stop = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with app.router.lifespan_context(app):
            started.set()
            await stop.wait()

    living = asyncio.create_task(live())
    starting = asyncio.create_task(started.wait())
    await asyncio.wait({living, starting}, return_when=asyncio.FIRST_COMPLETED)
    if not started.is_set():
        starting.cancel()
        await living
    yield
    stop.set()
    await living


@pytest.fixture
async def resources(database_url: str) -> AsyncIterator[Resources]:
    """What an event loop of the server holds, for tests of the rooms below the API."""
    async with opened(database_url) as resources:
        yield resources


@pytest.fixture
def serve_api(database_url: str, catalog: Catalog) -> ServeApi:
    """Serve the API in process: `async with serve_api(worker=True, unknown_fields="refuse") as http:`."""

    @asynccontextmanager
    async def serve(
        *,
        worker: bool = False,
        loaded: Catalog = catalog,
        index: StoreIndex | None = None,
        **values: Any,
    ) -> AsyncIterator[httpx.AsyncClient]:
        settings = Settings.model_validate({"database": {"url": database_url, "pool_max": 5}, **values})
        app = create_app(settings, loaded.indexed(index), hub=Hub(), worker=worker)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            _lifespan(app),
            httpx.AsyncClient(transport=transport, base_url="http://api", timeout=60) as http,
        ):
            http.app = app  # type: ignore[attr-defined]
            yield http

    return serve


@pytest.fixture
async def http(serve_api: ServeApi) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API, which executes no runs."""
    async with serve_api() as client:
        yield client


@pytest.fixture
async def working_http(serve_api: ServeApi) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API with a worker behind it."""
    async with serve_api(worker=True) as client:
        yield client


def api_key(secret: str, tenant: str, *roles: str) -> dict[str, Any]:
    """A key as the settings hold it."""
    return {
        "name": f"{tenant} {secret}",
        "sha256": hashlib.sha256(secret.encode()).hexdigest(),
        "tenant": tenant,
        "subject": f"{tenant} user",
        "roles": roles or ("user",),
    }
