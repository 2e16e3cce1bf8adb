"""Everything that the checkpoint tables hold of a thread: deleted, rolled back, copied, pruned.

Functions take a connection and never commit; the caller's transaction holds the thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from langgraph.checkpoint.postgres.base import PRUNE_HEADS_SQL, PRUNE_SNAPSHOT_SQL, _keep_latest
from psycopg.rows import DictRow, dict_row

from .database import Connection
from .queries import load_queries

_QUERIES = load_queries(__file__)


def thread_key(tenant_id: str, thread_id: UUID) -> str:
    """What the stock tables call `thread_id`. A tenant's name may hold a slash; a thread's id does not."""
    return f"{tenant_id}/{thread_id}"


async def delete_thread_in(connection: Connection, *, tenant_id: str, thread_id: UUID) -> None:
    """Remove all checkpoints of a thread."""
    await connection.execute(_QUERIES.delete_thread, {"key": thread_key(tenant_id, thread_id)})


async def delete_runs_in(
    connection: Connection, *, tenant_id: str, thread_id: UUID, run_ids: Sequence[UUID]
) -> None:
    """Remove what runs have left in the state of a thread."""
    await connection.execute(
        _QUERIES.delete_runs,
        {"key": thread_key(tenant_id, thread_id), "run_ids": [str(run_id) for run_id in run_ids]},
    )


async def checkpoints_of_run(connection: Connection, *, tenant_id: str, thread_id: UUID, run_id: UUID) -> int:
    """How many checkpoints a run has saved, those of its sub-graphs included: it grows as the run does."""
    cursor = await connection.execute(
        _QUERIES.checkpoints_of_run, {"key": thread_key(tenant_id, thread_id), "run_id": str(run_id)}
    )
    row = await cursor.fetchone()
    assert row is not None
    return row["saved"]


async def copy_thread_in(
    connection: Connection, *, tenant_id: str, thread_id: UUID, new_thread_id: UUID
) -> None:
    """Copy all checkpoints of a thread to another of the tenant."""
    await connection.execute(
        _QUERIES.copy_thread,
        {
            "key": thread_key(tenant_id, thread_id),
            "new_key": thread_key(tenant_id, new_thread_id),
            "new_thread_id": str(new_thread_id),
        },
    )


async def storage(connection: Connection, *, tenant_id: str, thread_id: UUID) -> dict[str, Any]:
    """Bytes that the checkpoints of a thread take as they are stored, by kind and by channel.

    `{total_bytes, checkpoints{count, bytes}, channel_values{count, bytes, by_channel}, pending_writes{count,
    bytes}}`; a thread without checkpoints has zeros.
    """
    cursor = await connection.execute(_QUERIES.storage, {"key": thread_key(tenant_id, thread_id)})
    row = await cursor.fetchone()
    assert row is not None
    return row


async def keep_latest_in(connection: Connection, *, tenant_id: str, thread_id: UUID) -> None:
    """Remove all but the newest checkpoint of each namespace.

    Raises:
        NotImplementedError: the thread uses a delta channel, whose history is its state.
    """
    key = thread_key(tenant_id, thread_id)
    statements = _keep_latest(key)
    rows: list[DictRow] = []
    async with connection.cursor(binary=True, row_factory=dict_row) as cursor:
        try:
            statement, parameters, returns = next(statements)
            while True:
                if statement == PRUNE_HEADS_SQL:
                    await cursor.execute(_QUERIES.heads, {"key": key})
                # The lock of the thread stands in for the isolation level that the stock saver asks for.
                elif statement != PRUNE_SNAPSHOT_SQL:
                    await cursor.execute(statement.encode(), parameters)
                rows = await cursor.fetchall() if returns else []
                statement, parameters, returns = statements.send(rows)
        except StopIteration:
            return
