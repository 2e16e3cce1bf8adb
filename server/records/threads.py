"""Thread rows: made, found, changed and deleted. Functions take a connection and never commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypedDict
from uuid import UUID

from ...checkpoints.database import Connection, jsonb, seals
from ...checkpoints.errors import SealingFailed
from ...checkpoints.queries import load_queries
from ...checkpoints.sealed import sealed_json, unreadable
from ..domain import Thread, ThreadStatus, Ttl
from .held import Held, held_parameter
from .paging import Page, counted, fetch_one

_QUERIES = load_queries(__file__)

ThreadOrder = Literal["thread_id", "status", "created_at", "updated_at", "state_updated_at"]


class ThreadKey(TypedDict):
    """Names one thread in arguments: `get(connection, **key)`."""

    tenant_id: str
    thread_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadFilter:
    """Which threads of a tenant; a field that is None asks for nothing."""

    ids: Sequence[UUID] | None = None
    metadata: Mapping[str, Any] | None = None
    """Contained in the thread's metadata."""
    values: Mapping[str, Any] | None = None
    """Contained in the thread's values."""
    status: ThreadStatus | None = None
    held: Held = None
    """What the metadata must hold besides, for whoever asks."""

    def parameters(self, tenant_id: str) -> dict[str, Any]:
        """Parameters of the statements that filter."""
        return {
            "tenant_id": tenant_id,
            "ids": None if self.ids is None else list(self.ids),
            "metadata": jsonb(self.metadata) if self.metadata else None,
            "values": jsonb(self.values) if self.values else None,
            "status": self.status,
            "held": held_parameter(self.held),
        }


class Threads(NamedTuple):
    """One page of threads, and how many match in all."""

    threads: list[Thread]
    total: int


async def has_priority(connection: Connection, *, tenant_id: str, thread_id: UUID) -> bool:
    """Whether it is decided when the runs of a thread are served."""
    row = await fetch_one(connection, _QUERIES.has_priority, {"tenant_id": tenant_id, "thread_id": thread_id})
    return row is not None


def ttl_columns(ttl: Ttl | None) -> dict[str, Any]:
    """Parameters of the statements that store a time to live."""
    return {"ttl": ttl.time if ttl else None, "ttl_strategy": ttl.strategy if ttl else None}


async def insert(
    connection: Connection,
    *,
    tenant_id: str,
    thread_id: UUID,
    metadata: Mapping[str, Any],
    ttl: Ttl | None = None,
) -> Thread | None:
    """Make a thread; None when the id is taken."""
    row = await fetch_one(
        connection,
        _QUERIES.insert_thread,
        {
            "tenant_id": tenant_id,
            "thread_id": thread_id,
            "metadata": sealed_json("thread", "metadata", metadata),
            **ttl_columns(ttl),
        },
    )
    return Thread.from_row(row) if row else None


async def get(connection: Connection, *, tenant_id: str, thread_id: UUID, held: Held = None) -> Thread | None:
    """Read a thread; None when there is none."""
    parameters = {"tenant_id": tenant_id, "thread_id": thread_id, "held": held_parameter(held)}
    row = await fetch_one(connection, _QUERIES.get_thread, parameters)
    return Thread.from_row(row) if row else None


async def change(
    connection: Connection,
    *,
    tenant_id: str,
    thread_id: UUID,
    metadata: Mapping[str, Any],
    ttl: Ttl | None = None,
    held: Held = None,
) -> Thread | None:
    """Merge into a thread's metadata, one level deep, and set its time to live if one is given.

    None when there is no such thread.

    Raises:
        SealingFailed: they cannot be decrypted, so nothing is changed.
    """
    if metadata and seals(connection):
        # What is stored may be sealed with another context; together they have one.
        key = {"tenant_id": tenant_id, "thread_id": thread_id}
        before = await fetch_one(connection, _QUERIES.lock_metadata, key)
        if before is not None:
            if reason := unreadable(before["metadata"]):
                raise SealingFailed(f"the metadata of thread {thread_id} cannot be changed: {reason}")
            metadata = {**before["metadata"], **metadata}
    row = await fetch_one(
        connection,
        _QUERIES.change_thread,
        {
            "tenant_id": tenant_id,
            "thread_id": thread_id,
            "metadata": sealed_json("thread", "metadata", metadata),
            "held": held_parameter(held),
            **ttl_columns(ttl),
        },
    )
    return Thread.from_row(row) if row else None


async def take_fence(connection: Connection, *, tenant_id: str, thread_id: UUID) -> int:
    """Become the thread's only writer and return the token that proves it. The row must be locked."""
    row = await fetch_one(connection, _QUERIES.take_fence, {"tenant_id": tenant_id, "thread_id": thread_id})
    assert row is not None
    return int(row["fence"])


async def copy(
    connection: Connection,
    *,
    tenant_id: str,
    thread_id: UUID,
    new_thread_id: UUID,
    metadata: Mapping[str, Any],
) -> Thread | None:
    """Copy the row of a thread, not its checkpoints, with these metadata over its own; None without one."""
    row = await fetch_one(
        connection,
        _QUERIES.copy_thread_row,
        {
            "tenant_id": tenant_id,
            "thread_id": thread_id,
            "new_thread_id": new_thread_id,
            "metadata": sealed_json("thread", "metadata", metadata),
        },
    )
    return Thread.from_row(row) if row else None


async def delete(connection: Connection, *, tenant_id: str, thread_id: UUID) -> bool:
    """Delete a thread with its runs and events; False when there was none."""
    parameters = {"tenant_id": tenant_id, "thread_id": thread_id}
    return await fetch_one(connection, _QUERIES.delete_thread, parameters) is not None


async def expired(connection: Connection, *, limit: int) -> list[ThreadKey]:
    """Threads of all tenants that have outlived their time, the longest expired first. Nothing is locked."""
    rows = await (await connection.execute(_QUERIES.expired_threads, {"limit": limit})).fetchall()
    return [ThreadKey(tenant_id=row["tenant_id"], thread_id=row["thread_id"]) for row in rows]


async def lock_expired(connection: Connection, *, tenant_id: str, thread_id: UUID) -> Thread | None:
    """Lock a thread that has outlived its time; None when somebody holds it, or has changed it."""
    parameters = {"tenant_id": tenant_id, "thread_id": thread_id}
    row = await fetch_one(connection, _QUERIES.lock_expired, parameters)
    return Thread.from_row(row) if row else None


async def keep_from_expiring(connection: Connection, *, tenant_id: str, thread_id: UUID) -> None:
    """Leave a thread alone until it changes again."""
    await connection.execute(_QUERIES.keep_from_expiring, {"tenant_id": tenant_id, "thread_id": thread_id})


async def of_assistant(connection: Connection, *, tenant_id: str, assistant_id: UUID) -> list[UUID]:
    """Ids of the threads that last ran an assistant."""
    cursor = await connection.execute(
        _QUERIES.threads_of_assistant,
        {"tenant_id": tenant_id, "stamp": jsonb({"assistant_id": str(assistant_id)})},
    )
    return [row["thread_id"] for row in await cursor.fetchall()]


async def search(
    connection: Connection, *, tenant_id: str, where: ThreadFilter, page: Page, with_values: bool
) -> Threads:
    """One page of the threads that match. Without `with_values` each `values` is None."""
    rows, total = await page.read(
        connection,
        _QUERIES,
        search=_QUERIES.search_threads,
        count=_QUERIES.count_threads,
        where=where.parameters(tenant_id),
        with_values=with_values,
    )
    return Threads([Thread.from_row(row) for row in rows], total)


async def count(connection: Connection, *, tenant_id: str, where: ThreadFilter) -> int:
    """How many threads match."""
    return await counted(connection, _QUERIES.count_threads, where.parameters(tenant_id))
