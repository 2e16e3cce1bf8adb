"""Wires the HTTP API: opens resources, mounts the routers, returns the app. No logic."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version

import structlog
from fastapi import FastAPI
from langgraph_sdk.client import configure_loopback_transports
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from ..checkpoints import migrate
from ..tools.toolbox import Toolbox
from .api import (
    assistants,
    console,
    crons,
    problems,
    reviews,
    runs,
    state,
    stateless,
    store,
    streams,
    system,
    thread_events,
    threads,
    webhooks,
)
from .api.callers import ask_stranger
from .api.edge import Edge
from .api.in_process import provide
from .api.metrics import HttpMetrics
from .api.openapi import describe
from .api.project_app import Approach, Fork, ProjectApp, Within
from .auth.authenticate import Authenticator
from .auth.project import ProjectAuthenticator
from .bridges import a2a, ag_ui, mcp, openai
from .records.event_log import Hub
from .resources import Resources, open_resources
from .runs.acting import Actor
from .runs.assistants import Tenants
from .runs.catalog import Catalog
from .settings import HttpSettings, Settings
from .sockets import is_loopback
from .worker.deliveries import Deliverer
from .worker.loop import Worker

log = structlog.get_logger(__name__)

EXPOSED_HEADERS = (
    "content-location",
    "location",
    "retry-after",
    "x-interlock-shortfall",
    "x-interlock-warning",
    "x-pagination-next",
    "x-pagination-total",
    "x-request-id",
    "x-thread-id",
)
"""Response headers that scripts of other origins may read; without the first two no stream is resumed."""


def create_app(settings: Settings, catalog: Catalog, *, hub: Hub, worker: bool) -> FastAPI:
    """The API as an ASGI app; with `worker` it also executes runs.

    Its lifespan needs a database whose schema is the one of this release.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(migrate.verify, settings.database.direct_url or settings.database.url)
        async with AsyncExitStack() as stack:
            toolbox = Toolbox.open(settings.tools)
            opening = open_resources(settings, hub=hub, catalog=catalog, toolbox=toolbox)
            resources = await stack.enter_async_context(opening)
            app.state.resources = resources
            app.state.tenants = Tenants(resources.database, catalog)
            for tenant_id in sorted(app.state.authenticator.tenants):
                await app.state.tenants.welcome(tenant_id)
            door = await stack.enter_async_context(provide().open(app, prefix=http.mount_prefix))
            configure_loopback_transports(app)
            if project is not None:
                await stack.enter_async_context(project.lifespan())
            own = None if project is None else Within(app, http)
            if worker:
                working = _working(resources, own)
                app.state.worker = door.lender = await stack.enter_async_context(working)
            else:
                await stack.enter_async_context(_delivering(resources, own))
            yield

    http = settings.http
    app = FastAPI(
        title="Interlock",
        version=version("interlock"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.settings = settings
    app.state.authenticator = _authenticator(settings, catalog, studio=worker)
    app.state.metrics = HttpMetrics()
    problems.install(app, unroutable_by=ask_stranger)
    _include_routers(app, settings.http)
    own = Actor(app.state.authenticator.own_principal)
    project = None if catalog.hooks.app is None else ProjectApp(catalog.hooks.app, app, http, own=own)
    describe(app, project=catalog.hooks.app, security=catalog.auth and catalog.auth.config.openapi)
    _wrap(app, project, http)
    return app


def _authenticator(
    settings: Settings, catalog: Catalog, *, studio: bool
) -> Authenticator | ProjectAuthenticator:
    """Who finds out who calls: the project's own object if it has one, else the keys of the settings."""
    if catalog.auth is None:
        return Authenticator(settings.auth.api_keys)
    studio = studio and is_loopback(settings.http.host)
    return ProjectAuthenticator(catalog.auth, settings.auth, studio=studio)


def _wrap(app: FastAPI, project: ProjectApp | None, http: HttpSettings) -> None:
    """Put what every request passes around the routes; what is added last comes first."""
    app.add_middleware(Fork, project=project, api=app, http=http)
    if project is not None:
        for one in reversed(project.middleware):
            app.add_middleware(one.cls, *one.args, **one.kwargs)
        app.add_middleware(Approach, project=project, api=app, http=http)
    app.add_middleware(Edge, observe=app.state.metrics.observe, http=http)
    if project is None or not project.allows_origins or "cors" in http.model_fields_set:
        _allow_origins(app, http)


@asynccontextmanager
async def _working(resources: Resources, own_app: ASGIApp | None) -> AsyncIterator[Worker]:
    """A worker on this loop, drained on leaving."""
    worker = Worker(resources, own_app=own_app)
    running = asyncio.create_task(worker.run(), name="worker")
    running.add_done_callback(_end_process_with_worker)
    try:
        yield worker
    finally:
        worker.request_drain()
        await running


@asynccontextmanager
async def _delivering(resources: Resources, own_app: ASGIApp | None) -> AsyncIterator[None]:
    """Webhooks to the project's own routes, which workers in other processes cannot reach."""
    if own_app is None:
        yield
        return
    deliverer = Deliverer(resources, app=own_app, remote=False)
    running = asyncio.create_task(deliverer.run(), name="webhooks")
    running.add_done_callback(_end_process_with_worker)
    try:
        yield
    finally:
        deliverer.request_drain()
        await running


def _end_process_with_worker(running: asyncio.Task[None]) -> None:
    # A process that takes runs and executes none is worse than one that is restarted.
    if not running.cancelled() and (error := running.exception()) is not None:
        log.critical("worker_failed", exc_info=error)
        signal.raise_signal(signal.SIGTERM)


def _include_routers(app: FastAPI, http: HttpSettings) -> None:
    # Routes are tried in this order, so the busiest come first.
    if not http.disable_runs:
        app.include_router(runs.router)
        app.include_router(stateless.router)
        app.include_router(streams.router)
        app.include_router(webhooks.router)
        app.include_router(crons.router)
    if not http.disable_threads:
        app.include_router(threads.router)
        app.include_router(thread_events.router)
        app.include_router(state.router)
        app.include_router(reviews.router)
    if not http.disable_assistants:
        app.include_router(assistants.router)
    if not http.disable_store:
        app.include_router(store.router)
    if not http.disable_a2a:
        app.include_router(a2a.router)
    if not http.disable_ag_ui:
        app.include_router(ag_ui.router)
    if not http.disable_mcp:
        app.include_router(mcp.router)
    if not http.disable_openai:
        app.include_router(openai.router)
    if not http.disable_meta:
        app.include_router(system.router)
    if not http.disable_console:
        console.mount(app)


def _allow_origins(app: FastAPI, http: HttpSettings) -> None:
    cors = http.cors
    app.add_middleware(
        CORSMiddleware,
        allow_origins=cors.allow_origins,
        allow_origin_regex=cors.allow_origin_regex,
        allow_methods=cors.allow_methods,
        allow_headers=cors.allow_headers,
        allow_credentials=cors.allow_credentials,
        expose_headers=sorted({*EXPOSED_HEADERS, *cors.expose_headers}),
        max_age=cors.max_age,
        allow_private_network=True,
    )
