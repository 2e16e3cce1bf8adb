"""The floors below the API, opened as a process opens them, with the graphs of the tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson

from interlock.server.domain import Event, Run, Thread
from interlock.server.records import queue, threads
from interlock.server.records.event_log import Hub
from interlock.server.records.segments import unpack
from interlock.server.resources import Resources, open_resources
from interlock.server.runs.admission import RunRequest, admit
from interlock.server.runs.catalog import Catalog, load_catalog
from interlock.server.runs.project import load_project
from interlock.server.settings import DatabaseSettings, Settings, WorkerSettings
from interlock.server.worker.loop import Worker
from interlock.tools.policy.permissions import Principal
from interlock.tools.toolbox import Toolbox

ANN = Principal(tenant="acme", subject="ann", roles=frozenset({"admin"}))
_PROJECT = Path(__file__).parents[1] / "graphs" / "langgraph.json"


@cache
def catalog() -> Catalog:
    return load_catalog(load_project(_PROJECT, {}))


@asynccontextmanager
async def opened(
    url: str, *, hub: Hub | None = None, worker: Mapping[str, Any] | None = None
) -> AsyncIterator[Resources]:
    settings = Settings(database=DatabaseSettings(url=url), worker=WorkerSettings(**(worker or {})))
    toolbox = Toolbox.open(settings.tools)
    async with open_resources(settings, hub=hub or Hub(), catalog=catalog(), toolbox=toolbox) as resources:
        yield resources


@asynccontextmanager
async def working(url: str, **settings: Any) -> AsyncIterator[tuple[Worker, Resources]]:
    """A worker with its own resources, drained at the end."""
    settings = {"poll_s": 0.2, "lease_s": 3, "drain_grace_s": 5} | settings
    async with opened(url, worker=settings) as resources, asyncio.TaskGroup() as group:
        worker = Worker(resources)
        group.create_task(worker.run())
        async with asyncio.timeout(20):
            await worker.ready.wait()
        try:
            yield worker, resources
        finally:
            worker.request_drain()


async def make_thread(resources: Resources, *, principal: Principal = ANN) -> UUID:
    thread_id = uuid4()
    async with resources.database.connection() as connection:
        await threads.insert(connection, tenant_id=principal.tenant, thread_id=thread_id, metadata={})
    return thread_id


async def start(
    resources: Resources, graph: str = "chat", *, principal: Principal = ANN, **fields: Any
) -> Run:
    """Admit a run of a graph, on a new thread if none is named."""
    fields.setdefault("input", {"messages": [{"role": "user", "content": "hi"}]})
    if "thread_id" not in fields:
        fields["thread_id"] = await make_thread(resources, principal=principal)
    return await admit(resources, principal, RunRequest(assistant_id=graph, **fields))


async def claimed(resources: Resources, run: Run) -> Run:
    """Claim until `run` is ours."""
    async with resources.database.connection() as connection:
        for taken in await queue.claim(connection, worker_id="test", slots=100, lease_s=10):
            if taken.run_id == run.run_id:
                return taken
    raise AssertionError(f"run {run.run_id} could not be claimed")


async def current(resources: Resources, run: Run) -> Run | None:
    async with resources.database.connection() as connection:
        return await queue.get_run(connection, tenant_id=run.tenant_id, run_id=run.run_id)


async def thread_of(resources: Resources, run: Run) -> Thread | None:
    async with resources.database.connection() as connection:
        return await threads.get(connection, tenant_id=run.tenant_id, thread_id=run.thread_id)


async def events_of(resources: Resources, thread_id: UUID, *, tenant_id: str = "acme") -> list[Event]:
    """All events of a thread as they are stored."""
    rows = await resources.database.fetch_all(
        b"SELECT * FROM interlock.event_segments WHERE tenant_id = %s AND thread_id = %s ORDER BY first_seq",
        (tenant_id, thread_id),
    )
    return [event for row in rows for event in unpack(row)]


def told(events: list[Event]) -> list[tuple[str, str | None]]:
    """Kind of each `run.*` event and the status it tells."""
    return [(e.kind, orjson.loads(e.data).get("status")) for e in events if e.kind.startswith("run.")]
