"""One page of a search: where it starts, how long it is, in which order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from ...checkpoints.database import Connection
from ...checkpoints.queries import Queries

SortOrder = Literal["asc", "desc"]


class Page(NamedTuple):
    """Where a page starts, how long it is, and in which order. `sort_by` is from a closed set."""

    limit: int
    offset: int
    sort_by: str
    sort_order: SortOrder

    def ordered(self, queries: Queries, search: bytes) -> bytes:
        """The search statement with its order and page, whose blocks lie in the same file."""
        direction = queries.ascending if self.sort_order == "asc" else queries.descending
        return b"\n".join((search, getattr(queries, f"order_by_{self.sort_by}"), direction))

    async def read(
        self,
        connection: Connection,
        queries: Queries,
        *,
        search: bytes,
        count: bytes,
        where: Mapping[str, Any],
        **further: Any,
    ) -> tuple[list[dict[str, Any]], int]:
        """The rows of the page, and how many match in all.

        Args:
            connection: the caller's transaction.
            queries: the file of both statements and of their orders.
            search: finds the rows; `further` are parameters that it has beside `where`, limit and offset.
            count: counts them; run only when the page itself does not tell.
            where: which rows, as parameters of both.
        """
        parameters = {**where, **further, "limit": self.limit, "offset": self.offset}
        rows = await (await connection.execute(self.ordered(queries, search), parameters)).fetchall()
        if 0 < len(rows) < self.limit or (not rows and self.offset == 0):
            return rows, self.offset + len(rows)
        return rows, await counted(connection, count, where)


async def counted(connection: Connection, statement: bytes, where: Mapping[str, Any]) -> int:
    """The `total` of a statement that counts."""
    row = await fetch_one(connection, statement, where)
    assert row is not None
    return int(row["total"])


async def fetch_one(
    connection: Connection, statement: bytes, parameters: Mapping[str, Any]
) -> dict[str, Any] | None:
    """First row of a statement run in the caller's transaction."""
    return await (await connection.execute(statement, parameters)).fetchone()
