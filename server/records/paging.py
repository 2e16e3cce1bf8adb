"""One page of a search: where it starts, how long it is, in which order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
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

    async def total(self, found: int, count: Callable[[], Awaitable[int]]) -> int:
        """How many rows match in all; counted only when the page itself does not tell."""
        if 0 < found < self.limit or (found == 0 and self.offset == 0):
            return self.offset + found
        return await count()


async def fetch_one(
    connection: Connection, statement: bytes, parameters: Mapping[str, Any]
) -> dict[str, Any] | None:
    """First row of a statement run in the caller's transaction."""
    return await (await connection.execute(statement, parameters)).fetchone()
