"""Searches the items of one tenant: last changed first, or nearest in meaning first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from langgraph.store.base import SearchOp

from .database import Connection, jsonb
from .embedding import IndexSpec, Vector, vector_text
from .queries import load_queries

_QUERIES = load_queries(__file__)

OPERATORS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte")
"""What a filter may ask of a field; a plain value means `$eq`."""

COMPARED_ALWAYS = 5_000
"""So many vectors are all compared: that is exact, and takes no longer than the index with its detours."""

COMPARED_AT_MOST = 50_000
"""So many items are compared when the index has not found enough."""

_SCANNED = 50_000
_LONGEST_PAGE_BY_INDEX = 1_000
_LARGEST_EF_SEARCH = 1_000
_CANDIDATES = 4
"""Vectors looked at for each item wanted, as an item may have several, in an order that is not exact."""


class Found(NamedTuple):
    """A page of a search."""

    rows: list[dict[str, Any]]
    shortfall: int = 0
    """Items of the page that may not be the nearest: there was more to compare than we do."""


@dataclass(frozen=True, slots=True)
class Search:
    """One search of a tenant. `query` is the vector of what is asked, if the store has an index."""

    tenant_id: str
    op: SearchOp
    query: Vector | None = None
    spec: IndexSpec | None = None

    async def run(self, connection: Connection) -> Found:
        """Find the page inside a transaction."""
        if self.query is None or self.spec is None:
            parameters = self._parameters | {"limit": self.op.limit, "offset": self.op.offset}
            cursor = await connection.execute(
                b"\n".join((_QUERIES.visible, _QUERIES.last_changed)), parameters
            )
            found = Found(await cursor.fetchall())
        else:
            found = await self._nearest(connection, self.spec)
        if self.op.refresh_ttl:
            await self._refresh(connection, found.rows)
        return found

    async def _nearest(self, connection: Connection, spec: IndexSpec) -> Found:
        wanted = self.op.offset + self.op.limit
        near: list[dict[str, Any]] = []
        # The best order of an approximate search is not worth a wrong one: small sets are compared in full.
        if await self._number_of_vectors(connection, spec) > COMPARED_ALWAYS:
            if wanted <= _LONGEST_PAGE_BY_INDEX:
                near = await self._near(connection, spec, wanted)
            most = 0 if len(near) >= wanted else max(COMPARED_AT_MOST, wanted)
        else:
            most = None
        cursor = await connection.execute(
            b"\n".join((_QUERIES.visible, _QUERIES.compared)),
            self._parameters
            | self._meant(spec)
            | {"limit": self.op.limit, "offset": self.op.offset, "near": jsonb(near), "most": most},
        )
        rows = await cursor.fetchall()
        cut_off = bool(rows and most and rows[0]["candidates"] >= most)
        return Found(rows, len(rows) - max(0, len(near) - self.op.offset) if cut_off else 0)

    async def _number_of_vectors(self, connection: Connection, spec: IndexSpec) -> int:
        cursor = await connection.execute(
            _QUERIES.count_vectors, self._parameters | self._meant(spec) | {"most": COMPARED_ALWAYS + 1}
        )
        row = await cursor.fetchone()
        assert row is not None
        return row["number"]

    async def _near(self, connection: Connection, spec: IndexSpec, wanted: int) -> list[dict[str, Any]]:
        candidates = _CANDIDATES * wanted
        tuning = {"scanned": str(_SCANNED), "ef_search": str(min(max(40, candidates), _LARGEST_EF_SEARCH))}
        await connection.execute(_QUERIES.tune, tuning)
        # The index is on a cast to its dimensions, which cannot be a parameter.
        near = _QUERIES.near.replace(b"{dims}", str(spec.dims).encode())
        cursor = await connection.execute(
            b"\n".join((_QUERIES.visible, near)),
            self._parameters | self._meant(spec) | {"candidates": candidates},
        )
        return await cursor.fetchall()

    async def _refresh(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        mortal = [
            {"namespace": row["namespace"], "key": row["key"]}
            for row in rows
            if row["ttl_minutes"] is not None
        ]
        if mortal:
            await connection.execute(
                _QUERIES.refresh_items, {"tenant_id": self.tenant_id, "items": jsonb(mortal)}
            )

    def _meant(self, spec: IndexSpec) -> dict[str, Any]:
        assert self.query is not None
        return {"model": spec.model, "query": vector_text(self.query)}

    @property
    def _parameters(self) -> dict[str, Any]:
        prefix = list(self.op.namespace_prefix)
        return {
            "tenant_id": self.tenant_id,
            "lower": prefix or None,
            # Nothing lies between a label and the label with the smallest character behind it.
            "upper": [*prefix[:-1], prefix[-1] + "\x01"] if prefix else None,
            "conditions": jsonb(list(conditions_of(self.op.filter or {}))),
        }


def conditions_of(wanted: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """The single conditions of a filter: a path into the value, an operator, an operand.

    Raises:
        ValueError: an operator is unknown, or stands where there is no field.
    """
    for name, operand in wanted.items():
        if name.startswith("$"):
            if not path or name not in OPERATORS:
                known = ", ".join(OPERATORS)
                raise ValueError(f"{name!r} is not an operator of a filter; known below a field: {known}")
            yield {"path": path, "operator": name, "operand": operand}
        elif isinstance(operand, dict) and operand:
            yield from conditions_of(operand, (*path, name))
        else:
            yield {"path": (*path, name), "operator": "$eq", "operand": operand}
