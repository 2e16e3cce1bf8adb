"""How the queue stands, for whoever watches the server."""

from __future__ import annotations

from typing import TypedDict

from ...checkpoints.database import Database
from ...checkpoints.queries import load_queries

_QUERIES = load_queries(__file__)


class QueueGauges(TypedDict):
    """Runs that wait and run, over all tenants."""

    n_pending: int
    n_running: int
    pending_runs_wait_time_max_secs: float
    pending_runs_wait_time_med_secs: float


async def read(database: Database) -> QueueGauges:
    """Look at the queue now."""
    row = await database.fetch_one(_QUERIES.queue)
    assert row is not None
    return QueueGauges(
        n_pending=row["n_pending"],
        n_running=row["n_running"],
        pending_runs_wait_time_max_secs=row["pending_runs_wait_time_max_secs"],
        pending_runs_wait_time_med_secs=row["pending_runs_wait_time_med_secs"] or 0.0,
    )


async def ping(database: Database) -> None:
    """Make sure that the database answers.

    Raises:
        DatabaseUnavailable: it does not.
    """
    await database.fetch_one(_QUERIES.ping)
