"""Builds rows of the queue without the floors above it."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from interlock.checkpoints.database import Connection, Database
from interlock.server.domain import Run
from interlock.server.records import queue
from interlock.server.records.segments import NewEvent
from interlock.server.records.settlement import Settlement

PRINCIPAL: dict[str, Any] = {
    "tenant": "acme",
    "subject": "ann",
    "roles": [],
    "permissions": [],
    "on_behalf_of": None,
    "attributes": {},
}


async def make_thread(connection: Connection, *, tenant: str = "acme", thread_id: UUID | None = None) -> UUID:
    made = await queue.create_thread(
        connection, tenant_id=tenant, thread_id=thread_id or uuid4(), metadata={"graph_id": "chat"}
    )
    assert made is not None
    return made.thread_id


async def enqueue(
    database: Database,
    thread_id: UUID | None = None,
    *,
    tenant: str = "acme",
    priority: int = 0,
    group: str | None = None,
    after_seconds: float = 0.0,
    idempotency_key: str | None = None,
    temporary: bool = False,
) -> Run:
    """Queue a run on a thread, a new one if none is given, as an admission does."""
    async with database.transaction() as connection:
        if thread_id is None:
            thread_id = await make_thread(connection, tenant=tenant)
        assert await queue.lock_thread(connection, tenant_id=tenant, thread_id=thread_id) is not None
        return await queue.insert_run(
            connection,
            queue.NewRun(
                tenant_id=tenant,
                thread_id=thread_id,
                run_id=uuid4(),
                assistant_id=uuid4(),
                graph_id="chat",
                multitask_strategy="enqueue",
                metadata={},
                kwargs=b"{}",
                principal=PRINCIPAL | {"tenant": tenant},
                priority=priority,
                thread_priority=None if group is None else 0,
                thread_group=group,
                temporary=temporary,
                idempotency_key=idempotency_key,
                request_hash=b"hash" if idempotency_key else None,
                budget={},
                after_seconds=after_seconds,
                created=NewEvent(kind="run.created", data=b"{}"),
            ),
        )


async def claim(
    database: Database, slots: int = 10, *, worker_id: str = "w1", lease_s: float = 10.0
) -> list[Run]:
    async with database.connection() as connection:
        return await queue.claim(connection, worker_id=worker_id, slots=slots, lease_s=lease_s)


async def finish(database: Database, run: Run) -> queue.Ended | None:
    """End a run well, in the order of statements that the lifecycle uses."""
    async with database.transaction() as connection:
        ended = await queue.finish(
            connection,
            run,
            status="success",
            error=None,
            usage={"steps": 1},
            settlement=Settlement(status="idle", interrupts={}, error=None, exact=None),
            events=[NewEvent(kind="run.ended", data=b"{}")],
        )
        if ended is not None:
            await queue.serve_next(connection, tenant_id=run.tenant_id, thread_id=run.thread_id)
        return ended
