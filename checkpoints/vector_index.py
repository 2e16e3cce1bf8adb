"""The index of the store's vectors: made for the configured dimensions, without stopping any writer."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from .database import Connection
from .embedding import IndexSpec
from .errors import SchemaMismatch, translated
from .migrate import connected, hold_lock
from .queries import load_queries

_QUERIES = load_queries(__file__)

OLDEST_PGVECTOR = (0, 8)
"""The first that goes on searching when a filter drops what it found."""


class VectorsUnavailable(SchemaMismatch):
    """The database cannot search by meaning as things stand."""


def prepare(url: str, spec: IndexSpec) -> bool:
    """Make the extension and the index, and remove those of other configurations.

    Several processes may start at once. `url` must be a direct address. Returns whether anything was made.

    Raises:
        VectorsUnavailable: there is no pgvector, it is too old, or we may not install it.
        DatabaseUnavailable: no connection.
    """
    with translated(), connected(url, "interlock-vectors") as connection:
        hold_lock(connection)
        _extension(connection)
        found = _indexes(connection)
        made = not found.get(spec.index_name)
        if made:
            # What a killed build has left would be maintained, but never used.
            _change(connection, _QUERIES.drop_index, name=spec.index_name)
            _change(connection, _QUERIES.create_index, name=spec.index_name, dims=spec.dims, model=spec.model)
        for name in found.keys() - {spec.index_name}:
            _change(connection, _QUERIES.drop_index, name=name)
    return made


def verify(url: str, spec: IndexSpec) -> None:
    """Check that the index is there; change nothing.

    Raises:
        VectorsUnavailable: it is not, or it is that of another configuration.
        DatabaseUnavailable: no connection.
    """
    with translated(), connected(url, "interlock-vectors") as connection:
        found = _indexes(connection)
    if not found.get(spec.index_name):
        state = "that of another configuration" if any(found.values()) else "not there"
        raise VectorsUnavailable(
            f"the index of `store.index` ({spec.model}) is {state}; run `interlock migrate`"
        )


async def in_force(connection: Connection, spec: IndexSpec) -> bool:
    """Whether the database is prepared for this configuration and no later one."""
    cursor = await connection.execute(_QUERIES.in_force, {"name": spec.index_name})
    row = await cursor.fetchone()
    return row is not None and row["in_force"]


def _extension(connection: psycopg.Connection[Any]) -> None:
    row = connection.execute(_QUERIES.extension).fetchone()
    if row is None:
        raise VectorsUnavailable(
            "search by meaning needs the extension `vector` (pgvector), which this Postgres does not have; "
            "install it there, or remove `store.index`"
        )
    installed, available, hidden_in = row
    version = installed or available
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_PGVECTOR:
        oldest = ".".join(str(part) for part in OLDEST_PGVECTOR)
        raise VectorsUnavailable(
            f"search by meaning needs pgvector {oldest}, the database has {version}; install a newer one and "
            "run `ALTER EXTENSION vector UPDATE`"
        )
    if hidden_in is not None:
        raise VectorsUnavailable(
            f"search by meaning needs the extension `vector`, which is in the schema {hidden_in!r} that is "
            f'not searched; run `ALTER ROLE … SET search_path = "$user", public, {hidden_in}`'
        )
    if installed is None:
        try:
            connection.execute(_QUERIES.create_extension)
        except psycopg.errors.InsufficientPrivilege as error:
            raise VectorsUnavailable(
                "search by meaning needs the extension `vector`, which this user may not install; "
                "let an administrator run `CREATE EXTENSION vector` in the database"
            ) from error


def _indexes(connection: psycopg.Connection[Any]) -> dict[str, bool]:
    return dict(connection.execute(_QUERIES.indexes).fetchall())


def _change(connection: psycopg.Connection[Any], statement: bytes, *, name: str, **values: Any) -> None:
    literals = {key: sql.Literal(value) for key, value in values.items()}
    template = sql.SQL(statement.decode())  # pyright: ignore[reportArgumentType] - from the file beside this
    connection.execute(template.format(name=sql.Identifier(name), **literals))
