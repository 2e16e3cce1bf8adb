"""What the sweep does to the tables of the queue now and then."""

from __future__ import annotations

from uuid import UUID

from ...checkpoints.database import Connection
from ...checkpoints.queries import load_queries
from .paging import fetch_one

_QUERIES = load_queries(__file__)


async def sweep_temporary_runs(
    connection: Connection, *, grace_s: float, limit: int = 1000
) -> list[tuple[str, UUID]]:
    """Forget stateless runs that ended long ago; returns the threads that they had."""
    cursor = await connection.execute(_QUERIES.sweep_temporary_runs, {"grace_s": grace_s, "limit": limit})
    return [(row["tenant_id"], row["thread_id"]) for row in await cursor.fetchall()]


async def analyse_if_never(connection: Connection) -> bool:
    """Give the planner statistics on the hot tables if it has none for rows that are there."""
    row = await fetch_one(connection, _QUERIES.unanalysed, {})
    if row is None or not row["unanalysed"]:
        return False
    await connection.execute(_QUERIES.analyse)
    return True
