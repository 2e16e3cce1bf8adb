"""Whether a database holds what only the encryption handlers of its project can read."""

from __future__ import annotations

from ...checkpoints.database import Database
from ...checkpoints.errors import SchemaMismatch
from ...checkpoints.queries import load_queries

_QUERIES = load_queries(__file__)


async def refuse_sealed(database: Database) -> None:
    """Do not start without the handlers: a worker would take runs that it cannot read.

    Raises:
        SchemaMismatch: there are sealed values.
    """
    if await database.fetch_one(_QUERIES.sealed_values) is not None:
        raise SchemaMismatch(
            "the database holds values that a project encrypted, and langgraph.json names no handlers: set "
            "`encryption.path` as it was"
        )
